// The two heads: towers of 3x3 convolutions that slide over every level with the same weights.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "models/resnet.h"

namespace fovea {

// depth times (3x3 convolution, norm, ReLU), then a 3x3 convolution to `out` channels. Names: conv.0.0.weight (its
// norm: conv.0.1.weight), and `last`.
class Tower : public Layer<Tower> {
 public:
  struct Options {
    const char* last;  // name of the last convolution
    int64_t channels = 256, out = 0;
    int depth = 4;
    NormKind norm = NormKind::none;
    double eps = 1e-5;
    double deviation = 0.01, bias = 0;  // initial values of the last convolution: N(0, deviation), bias
  };
  Tower(Module& parent, std::string name, const Options& options);
  std::vector<Tensor> forward(const std::vector<Tensor>& levels);  // [N,H,W,channels] -> [N,H,W,out]

 private:
  Sequential conv_;  // never called: its parts are
  std::vector<Conv2d*> convs_;
  std::vector<Relu*> relus_;  // with norms only: otherwise the convolutions have them inside
  std::vector<Norm*> norms_;  // empty for NormKind::none
  Conv2d last_;
};

// What is in each anchor, and where exactly: class logits [N,H*W*A,K] and box deltas [N,H*W*A,4] of every level.
class Head : public Layer<Head> {
 public:
  struct Options {
    int64_t channels = 256;
    int anchors = 9, classes = 80, depth = 4;
    NormKind norm = NormKind::none;
    double eps = 1e-5, deviation = 0.01;
    double prior = 0.01;  // initial probability of every class: the bias is -log((1 - prior) / prior)
  };
  Head(Module& parent, std::string name, const Options& options);
  struct Output {
    std::vector<Tensor> logits, deltas;
  };
  Output forward(const std::vector<Tensor>& levels);

 private:
  const Options options_;
  Tower classification_, regression_;
};

}  // namespace fovea
