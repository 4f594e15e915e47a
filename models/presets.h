// Presets: a network and the way to train it, under a name.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "models/retinanet.h"

namespace fovea {

struct Preset {
  std::string name, description;
  RetinaNetOptions model;
  // Defaults of the training configuration that differ from the program's own, as its keys and values:
  // epochs, batch, short_side, max_side, optimizer, lr, weight_decay, schedule, warmup, clip_norm, ema, flip, ...
  std::vector<std::pair<std::string, std::string>> training;
};

const std::vector<Preset>& presets();
Preset preset(const std::string& name);  // throws Error{Code::usage} that names the nearest

}  // namespace fovea
