// The feature pyramid (Lin et al. 2017, arXiv:1612.03144) over a ResNet: maps of one depth at strides 8 to 128.
#pragma once
#include <memory>
#include <vector>

#include "models/resnet.h"

namespace fovea {

// C3..C5 -> P3..P7. Top down: each map is a 1x1 convolution of C plus the coarser map enlarged, then a 3x3 convolution.
// P6 is a 3x3 convolution of stride 2 on C5 (or P5), P7 another on relu(P6). Names: inner_blocks.0.0, layer_blocks.0.0.
class Pyramid : public Layer<Pyramid> {
 public:
  struct Options {
    std::array<int64_t, 3> in{};
    int64_t out = 256;
    bool p6_from_p5 = false;
    int last_level = 7;
  };
  Pyramid(Module& parent, std::string name, const Options& options);
  std::vector<Tensor> forward(const std::vector<Tensor>& c);

 private:
  const Options options_;
  Sequential inner_, layer_;  // never called: their parts are
  Module extra_;
  std::vector<Conv2d*> lateral_, output_;
  Relu relu_{extra_, "relu"};
  std::vector<std::unique_ptr<Conv2d>> coarse_;  // p6, p7
};

class Backbone : public Layer<Backbone> {
 public:
  struct Options {
    ResNetOptions body;
    int64_t channels = 256;
    bool p6_from_p5 = false;
    int last_level = 7;
  };
  Backbone(Module& parent, std::string name, const Options& options);
  std::vector<Tensor> forward(const Tensor& images) { return fpn(body(images)); }
  ResNet body;
  Pyramid fpn;
};

}  // namespace fovea
