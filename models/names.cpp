// The renaming of old torchvision files.
#include "models/names.h"

#include <regex>

namespace fovea {

NamedTensors modern_names(NamedTensors weights) {
  static const std::regex head("(.*_head\\.conv)\\.(\\d+)\\.(weight|bias)"),
      pyramid("(.*fpn\\.(?:inner|layer)_blocks\\.\\d+)\\.(weight|bias)");
  std::smatch found;
  for (auto& [name, value] : weights.tensors) {
    const std::string old = name;
    if (std::regex_match(old, found, head))  // a ReLU stood between the convolutions
      name = found[1].str() + "." + std::to_string(std::stoi(found[2]) / 2) + ".0." + found[3].str();
    else if (std::regex_match(old, found, pyramid)) name = found[1].str() + ".0." + found[2].str();
  }
  return weights;
}

}  // namespace fovea
