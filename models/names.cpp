// The renaming of old torchvision files.
#include "models/names.h"

#include "core/words.h"
#include "nn/checkpoint.h"

namespace fovea {

NamedTensors modern_names(NamedTensors weights) {
  for (auto& [name, value] : weights.tensors) {
    std::vector<std::string> parts = split(name, '.');  // ..., owner, list, number, weight
    const size_t n = parts.size();
    unsigned at = 0;
    if (n < 4 || !read_number(parts[n - 2], at) || (parts[n - 1] != "weight" && parts[n - 1] != "bias")) continue;
    const std::string &owner = parts[n - 4], &list = parts[n - 3];
    std::string& number = parts[n - 2];
    if (owner.ends_with("_head") && list == "conv") {  // a ReLU stood between the convolutions
      number = std::to_string(at / 2) + ".0";
    } else if (owner.ends_with("fpn") && (list == "inner_blocks" || list == "layer_blocks")) {
      number += ".0";
    } else {
      continue;
    }
    name = joined(parts, ".");
  }
  return weights;
}

NamedTensors read_weights(const std::string& path) {
  return modern_names(read_safetensors(path, text(kOptimizerPrefix, "*")));
}

}  // namespace fovea
