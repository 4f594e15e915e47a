// What loading a file into a model would copy: made, and found to fit, before anything is changed. For nn alone.
#pragma once
#include <string>
#include <vector>

#include "nn/checkpoint.h"

namespace fovea {

struct LoadPlan {
  struct Copy {
    Tensor to, from;  // from: in the file's layout
    Layout layout;
  };
  std::vector<Copy> copies;
  LoadReport report;
  void apply();
};
LoadPlan plan_load(const Module& model, const NamedTensors& weights, const LoadOptions& options,
                   const std::string& file);

}  // namespace fovea
