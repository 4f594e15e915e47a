// The residual blocks and stages, and He's initial values.
#include "models/resnet.h"

#include "core/error.h"
#include "nn/init.h"
#include "ops/pointwise.h"
#include "ops/pool.h"

namespace fovea {

ResNetOptions resnet_options(const std::string& name) {
  if (name == "tiny") return {.blocks = {1, 1, 1, 1}, .bottleneck = false, .width = 32};
  if (name == "resnet18") return {.blocks = {2, 2, 2, 2}, .bottleneck = false};
  if (name == "resnet34") return {.blocks = {3, 4, 6, 3}, .bottleneck = false};
  if (name == "resnet50") return {.blocks = {3, 4, 6, 3}};
  if (name == "resnet101") return {.blocks = {3, 4, 23, 3}};
  if (name == "resnext101_32x8d") return {.blocks = {3, 4, 23, 3}, .groups = 32, .group_width = 8};
  fail(Code::usage,
       "backbone '" + name + "' is unknown\n  hint: tiny, resnet18, resnet34, resnet50, resnet101 or resnext101_32x8d");
}

Tensor MaxPool::forward(const Tensor& x) { return max_pool2d(x, {.kernel = 3, .stride = 2, .pad = 1}); }

int norm_groups(int64_t channels) {
  int groups = 32;
  while (groups > 1 && (channels % groups != 0 || channels / groups < 2)) groups /= 2;
  return groups;
}

namespace {

Norm::Options norm(NormKind kind, int64_t channels, double eps) {
  return {.kind = kind, .channels = channels, .groups = norm_groups(channels), .eps = eps};
}
NormKind frozen(NormKind kind) {  // of a stage that is not trained
  return kind == NormKind::batch || kind == NormKind::fixed ? NormKind::frozen : kind;
}
void he(Conv2d& conv) { kaiming_normal_(conv.weight, conv.random("weight")); }

}  // namespace

ResidualBlock::ResidualBlock(Module& parent, std::string name, const Options& o)
    : Layer(parent, std::move(name)),
      conv1_(
          *this, "conv1",
          o.bottleneck
              ? Conv2d::Options{.in = o.in, .out = o.inner, .stride = o.stride_1x1 ? o.stride : 1, .bias = false}
              : Conv2d::Options{.in = o.in, .out = o.inner, .kernel = 3, .stride = o.stride, .pad = 1, .bias = false}),
      bn1_(*this, "bn1", norm(o.norm, o.inner, o.eps)),
      conv2_(*this, "conv2",
             {.in = o.inner,
              .out = o.inner,
              .kernel = 3,
              .stride = o.bottleneck && !o.stride_1x1 ? o.stride : 1,
              .pad = 1,
              .groups = o.groups,
              .bias = false}),
      bn2_(*this, "bn2", norm(o.norm, o.inner, o.eps)) {
  he(conv1_), he(conv2_);
  if (o.bottleneck) {
    conv3_.emplace(*this, "conv3", Conv2d::Options{.in = o.inner, .out = o.out, .bias = false});
    bn3_.emplace(*this, "bn3", norm(o.norm, o.out, o.eps));
    he(*conv3_);
  }
  if (o.stride != 1 || o.in != o.out) {
    downsample_.emplace(*this, "downsample",
                        Conv2d::Options{.in = o.in, .out = o.out, .stride = o.stride, .bias = false},
                        norm(o.norm, o.out, o.eps));
    he(downsample_->conv);
  }
}

Tensor ResidualBlock::forward(Tensor x) {
  Tensor skip = downsample_ ? (*downsample_)(x) : x, y = conv_norm(conv1_, bn1_, x, &relu_);
  x = {};  // the last convolution may write over a skip that nothing else holds
  if (!conv3_) return conv_norm(conv2_, bn2_, y, &relu_, std::move(skip));
  y = conv_norm(conv2_, bn2_, y, &relu_);
  return conv_norm(*conv3_, *bn3_, y, &relu_, std::move(skip));
}

ResNet::ResNet(Module& parent, std::string name, const ResNetOptions& options)
    : Layer(parent, std::move(name)),
      options_(options),
      conv1_(*this, "conv1", {.in = 3, .out = options.width, .kernel = 7, .stride = 2, .pad = 3, .bias = false}),
      bn1_(*this, "bn1",
           norm(options.freeze_stages > 0 ? frozen(options.norm) : options.norm, options.width, options.eps)) {
  he(conv1_);
  int64_t in = options.width;
  for (int stage = 0; stage < 4; ++stage) {
    layers_.push_back(std::make_unique<Sequential>(*this, text("layer", stage + 1)));
    const int64_t width = int64_t{options.width} << stage, out = options.bottleneck ? 4 * width : width;
    for (int block = 0; block < options.blocks[stage]; ++block, in = out)
      layers_.back()->add<ResidualBlock>(
          {.in = in,
           .inner = width * options.group_width / 64 * options.groups,
           .out = out,
           .stride = block == 0 && stage > 0 ? 2 : 1,
           .groups = options.groups,
           .stride_1x1 = options.stride_1x1,
           .bottleneck = options.bottleneck,
           .norm = stage + 1 < options.freeze_stages ? frozen(options.norm) : options.norm,
           .eps = options.eps});
  }
}

std::array<int64_t, 3> ResNet::channels() const {
  const int64_t c2 = int64_t{options_.width} * (options_.bottleneck ? 4 : 1);
  return {2 * c2, 4 * c2, 8 * c2};
}

std::vector<Tensor> ResNet::forward(const Tensor& x) {
  Tensor y = maxpool_(conv_norm(conv1_, bn1_, x, &relu_));
  std::vector<Tensor> maps;
  for (size_t stage = 0; stage < layers_.size(); ++stage) {
    y = (*layers_[stage])(std::move(y));
    if (stage > 0) maps.push_back(y);
  }
  return maps;
}

}  // namespace fovea
