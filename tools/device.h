// --device: where a network computes.
#pragma once
#include <string>

#include "core/device.h"

namespace fovea {

inline const char* const kDeviceHelp = "where to compute: cpu, cuda, cuda:N (the GPU with that number), or auto";

// The device of that name, ready for use. auto: the first GPU where one answers, else the processor.
// Throws Code::usage for another word, Code::resource where the GPU asked for does not answer.
Device use_device(const std::string& name);
// For people: "cpu", or the GPU's name and memory.
std::string describe(Device device);

}  // namespace fovea
