// --device: where a network computes.
#pragma once
#include <string>

#include "core/device.h"

namespace fovea {

inline const char* const kDeviceHelp = "where to compute: cpu, cuda, cuda:N (the GPU with that number), or auto";

// The device of that name, ready for use. auto: the first GPU where one answers, else the processor.
// Throws Code::usage for another word, Code::resource where the GPU asked for does not answer.
Device use_device(const std::string& name);
// Of maps and products: f32, tf32 or bf16. Throws Code::impossible where the device has not that. tf32 holds for all
// products of the program; bf16 is the network's to keep (RetinaNet::in_bf16).
inline const char* const kPrecisionHelp = "of maps and products: f32, bf16, or tf32 (f32 rounded in products of a GPU)";
void use_precision(const std::string& name, Device device);
// For people: "cpu", or the GPU's name and memory.
std::string describe(Device device);

}  // namespace fovea
