// What a network consists of and costs, layer by layer, found by running it once on an empty image.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "models/retinanet.h"

namespace fovea {

struct LayerSummary {
  std::string path;            // of a module without parts: a convolution or a norm
  std::vector<Shape> outputs;  // one, or one a pyramid level
  int64_t parameters = 0;      // trained and frozen; buffers are not counted
  int64_t multiply_adds = 0;   // of convolutions
  int64_t bytes = 0;           // of its outputs
};

struct LevelSummary {
  std::string name;  // "P3"
  int stride = 0;
  int64_t height = 0, width = 0;  // of the map
  int64_t anchors = 0;
  std::pair<int64_t, int64_t> anchor_step;  // as anchor_step() says
  double smallest = 0, largest = 0;         // sides of its square anchors (or roots of the areas), in pixels
  double inside = 0;                        // part of the anchors that lies in the image
  int receptive_field = 0;                  // of the heads' outputs, in pixels
};

struct Summary {
  std::vector<LayerSummary> layers;  // in the order of the first call
  std::vector<LevelSummary> levels;
  int64_t parameters = 0, trainable = 0, multiply_adds = 0;
  int64_t activations = 0;  // bytes that one training step of one image keeps for its gradients
};
Summary summarise(const RetinaNetOptions& options, std::pair<int64_t, int64_t> image_hw);

// Of one call of a module that returned these: 0 for all but convolutions.
int64_t multiply_adds(const Module& module, const std::vector<Tensor>& outputs);

// Pixels along one axis that can change a value of C3, C4, C5: each kernel of size k adds (k - 1) times the stride so
// far.
std::array<int, 3> receptive_fields(const ResNetOptions& options);

}  // namespace fovea
