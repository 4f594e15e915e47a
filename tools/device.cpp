// The words of --device, and what the device says of itself.
#include "tools/device.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"

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

std::string describe(Device device) {
  if (device == Device::cpu) return "cpu";
  const DeviceInfo i = runtime().info();
  return text(i.name, ", ", i.memory >> 20, " MiB (", i.free >> 20, " free), compute capability ", i.major, ".",
              i.minor, ", driver for CUDA ", i.driver);
}

}  // namespace fovea
