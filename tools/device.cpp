// The words of --device, and what the device says of itself.
#include "tools/device.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "core/gemm.h"
#include "ops/conv.h"

namespace fovea {

Device use_device(const std::string& name) {
  if (name == "cpu" || (name == "auto" && !has_device())) return Device::cpu;
  const std::string number = name.starts_with("cuda:") ? name.substr(5) : "";
  const bool digits = !number.empty() && number.size() < 4 && std::all_of(number.begin(), number.end(), ::isdigit);
  check(Code::usage, name == "auto" || name == "cuda" || digits, "--device ", name,
        " is no device\n  hint: cpu, cuda, cuda:0, cuda:1, ... or auto");
  if (digits) choose_device(std::stoi(number));
  runtime();
  return Device::cuda;
}

void use_precision(const std::string& name, Device device) {
  if (name == "bf16") check_bf16_convolutions(device);
  if (name == "tf32") {
    const char* hint = "\n  hint: --precision f32";
    check(Code::impossible, device == Device::cuda, "tf32 is a precision of GPUs, and this is the processor", hint);
    check(Code::impossible, runtime().info().major >= 8, "tf32 needs a GPU of compute capability 8.0 or newer", hint);
  }
  round_factors(name == "tf32" ? Factors::tf32 : name == "bf16" ? Factors::bf16 : Factors::f32);
}

std::string describe(Device device) {
  if (device == Device::cpu) return "cpu";
  const DeviceInfo i = runtime().info();
  return text(i.name, ", ", i.memory >> 20, " MiB (", i.free >> 20, " free), compute capability ", i.major, ".",
              i.minor, ", driver for CUDA ", i.driver);
}

}  // namespace fovea
