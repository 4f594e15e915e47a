// The towers over all levels at once, and the prior that training starts from.
#include "models/head.h"

#include <cmath>

#include "nn/init.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace fovea {

Tower::Tower(Module& parent, std::string name, const Options& o)
    : Layer(parent, std::move(name)),
      conv_(*this, "conv"),
      last_(*this, o.last, {.in = o.channels, .out = o.out, .kernel = 3, .pad = 1}) {
  for (int i = 0; i < o.depth; ++i) {
    auto& step = conv_.add_module<Sequential>();
    const bool plain = o.norm == NormKind::none;
    convs_.push_back(
        &step.add<Conv2d>({.in = o.channels, .out = o.channels, .kernel = 3, .pad = 1, .bias = plain, .relu = plain}));
    normal_(convs_.back()->weight, convs_.back()->random("weight"), 0, 0.01);
    if (plain) constant_(convs_.back()->bias, 0);
    if (plain) continue;
    norms_.push_back(
        &step.add<Norm>({.kind = o.norm, .channels = o.channels, .groups = norm_groups(o.channels), .eps = o.eps}));
    relus_.push_back(&step.add_module<Relu>());
  }
  normal_(last_.weight, last_.random("weight"), 0, o.deviation);
  constant_(last_.bias, o.bias);
}

std::vector<Tensor> Tower::forward(const std::vector<Tensor>& levels) {
  std::vector<Tensor> maps = levels;
  for (size_t i = 0; i < convs_.size(); ++i) {
    maps = (*convs_[i])(maps);
    if (norms_.empty()) continue;  // its ReLU is part of the convolution
    for (Tensor& map : maps) map = (*norms_[i])(map);
    for (Tensor& map : maps) map = (*relus_[i])(map);
  }
  return last_(maps);
}

Head::Head(Module& parent, std::string name, const Options& o)
    : Layer(parent, std::move(name)),
      options_(o),
      classification_(*this, "classification_head",
                      {.last = "cls_logits",
                       .channels = o.channels,
                       .out = int64_t{o.anchors} * o.classes,
                       .depth = o.depth,
                       .norm = o.norm,
                       .eps = o.eps,
                       .deviation = o.deviation,
                       .bias = -std::log((1 - o.prior) / o.prior)}),
      regression_(*this, "regression_head",
                  {.last = "bbox_reg",
                   .channels = o.channels,
                   .out = int64_t{o.anchors} * 4,
                   .depth = o.depth,
                   .norm = o.norm,
                   .eps = o.eps,
                   .deviation = o.deviation}) {}

// The maps [N,H,W,A*K] are [N,H*W*A,K] as they lie in memory.
Head::Output Head::forward(const std::vector<Tensor>& levels) {
  Output out{classification_(levels), regression_(levels)};
  for (size_t i = 0; i < levels.size(); ++i) {
    const int64_t n = levels[i].dim(0), rows = levels[i].dim(1) * levels[i].dim(2) * options_.anchors;
    out.logits[i] = reshape(out.logits[i], {n, rows, options_.classes});
    out.deltas[i] = reshape(out.deltas[i], {n, rows, 4});
  }
  return out;
}

}  // namespace fovea
