// The two heads: towers of 3x3 convolutions that slide over every level with the same weights (paper, section 4).
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "models/resnet.h"

namespace fovea {

// Batch norm with statistics of its own for each level and one affine map for all: levels differ in what passes through
// shared convolutions (detectron2's CycleBatchNormList). Then ReLU. Names: weight, bias, running_mean_0, running_var_0
// ...
class LevelNorm : public Layer<LevelNorm> {
 public:
  LevelNorm(Module& parent, std::string name, int64_t channels, int levels, double eps);
  std::vector<Tensor> forward(const std::vector<Tensor>& maps);

 private:
  const double eps_;
  Tensor weight_, bias_;
  std::vector<Tensor> mean_, var_;  // by level
};

// depth times (3x3 convolution, norm, ReLU), then a 3x3 convolution to `out` channels. Names: conv.0.0.weight (its
// norm: conv.0.1.weight), and `last`.
class Tower : public Layer<Tower> {
 public:
  struct Options {
    const char* last;  // name of the last convolution
    int64_t channels = 256, out = 0;
    int depth = 4;
    NormKind norm = NormKind::none;
    int norm_levels = 0;  // above 0: a LevelNorm of so many levels instead of `norm`
    double eps = 1e-5;
    double deviation = 0.01, bias = 0;  // initial values of the last convolution: N(0, deviation), bias
    int64_t bias_step = 1;              // ... of every bias_step-th channel; 0 for the others
  };
  Tower(Module& parent, std::string name, const Options& options);
  std::vector<Tensor> forward(std::vector<Tensor> maps);  // [N,H,W,channels] -> [N,H,W,out]
  void round_weights();                                   // of all convolutions but the last: Conv2d::round_weight

 private:
  Sequential conv_;  // never called: its parts are
  std::vector<Conv2d*> convs_;
  std::vector<Relu*> relus_;  // with norms only: otherwise the convolutions have them inside
  std::vector<Norm*> norms_;  // empty for NormKind::none, and with
  std::vector<std::unique_ptr<LevelNorm>> level_norms_;
  Conv2d last_;
};

// What is in each anchor, and where exactly: class logits [N,H*W*A,K] and box deltas [N,H*W*A,4] of every level. With
// a background the logits are [N,H*W*A,K+1], the background first, for a softmax.
class Head : public Layer<Head> {
 public:
  struct Options {
    int64_t channels = 256;
    int anchors = 9, classes = 80, depth = 4;
    NormKind norm = NormKind::none;
    int norm_levels = 0;
    double eps = 1e-5, deviation = 0.01;
    bool background = false;
    // Initial probability of every class: the bias is -log((1 - prior) / prior). With a background, of all classes
    // together: the background's bias is log(classes (1 - prior) / prior).
    double prior = 0.01;
  };
  Head(Module& parent, std::string name, const Options& options);
  struct Output {
    std::vector<Tensor> logits, deltas;
  };
  Output forward(std::vector<Tensor> levels);
  void round_weights();  // of both towers

 private:
  const Options options_;
  Tower classification_, regression_;
};

}  // namespace fovea
