// The pyramid's convolutions and its top-down path.
#include "models/backbone.h"

#include "nn/init.h"
#include "ops/pointwise.h"
#include "ops/resize.h"

namespace fovea {
namespace {

void fpn_init(Conv2d& conv) {  // torchvision's and Caffe2's Xavier
  kaiming_uniform_(conv.weight, conv.random("weight"), 1);
  constant_(conv.bias, 0);
}

}  // namespace

Pyramid::Pyramid(Module& parent, std::string name, const Options& options)
    : Layer(parent, std::move(name)),
      options_(options),
      inner_(*this, "inner_blocks"),
      layer_(*this, "layer_blocks"),
      extra_(*this, "extra_blocks") {
  for (size_t level = 0; level < 3; ++level) {
    lateral_.push_back(&inner_.add_module<Sequential>().add<Conv2d>({.in = options.in[level], .out = options.out}));
    output_.push_back(
        &layer_.add_module<Sequential>().add<Conv2d>({.in = options.out, .out = options.out, .kernel = 3, .pad = 1}));
    fpn_init(*lateral_.back()), fpn_init(*output_.back());
  }
  for (int level = 6; level <= options.last_level; ++level) {
    const int64_t in = level == 6 && !options.p6_from_p5 ? options.in[2] : options.out;
    coarse_.push_back(std::make_unique<Conv2d>(
        extra_, text("p", level), Conv2d::Options{.in = in, .out = options.out, .kernel = 3, .stride = 2, .pad = 1}));
    fpn_init(*coarse_.back());
  }
}

std::vector<Tensor> Pyramid::forward(const std::vector<Tensor>& c) {
  std::vector<Tensor> p(3);
  Tensor merged;
  for (int level = 2; level >= 0; --level) {
    Tensor coarser = merged ? resize_nearest(merged, c[level].dim(1), c[level].dim(2)) : Tensor();
    merged = (*lateral_[level])(c[level], Conv2d::After{.residual = std::move(coarser)});
    p[level] = (*output_[level])(merged);
  }
  merged = {};  // P6 and P7 need memory, too
  for (size_t i = 0; i < coarse_.size(); ++i)
    p.push_back((*coarse_[i])(i == 0 ? (options_.p6_from_p5 ? p[2] : c[2]) : relu_(p.back())));
  return p;
}

Backbone::Backbone(Module& parent, std::string name, const Options& options)
    : Layer(parent, std::move(name)),
      body(*this, "body", options.body),
      fpn(*this, "fpn", {body.channels(), options.channels, options.p6_from_p5, options.last_level}) {}

}  // namespace fovea
