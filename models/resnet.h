// ResNet (He et al. 2016) and ResNeXt (Xie et al. 2017) up to C5, with torchvision's names: conv1, bn1, layer1.0.conv1,
// ...
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/layers.h"

namespace fovea {

struct ResNetOptions {
  std::array<int, 4> blocks{3, 4, 6, 3};  // of layer1 .. layer4
  bool bottleneck = true;                 // 1x1, 3x3, 1x1 with four times the channels; otherwise two 3x3
  int width = 64;                         // channels of the stem and of layer1's inner convolutions
  int groups = 1, group_width = 64;       // ResNeXt 32x8d: 32, 8
  NormKind norm = NormKind::batch;
  double eps = 1e-5;
  bool stride_1x1 = false;  // bottlenecks stride in conv1 (the first ResNets), not in conv2 (v1.5)
  int freeze_stages = 0;    // batch and fixed norms of these stages (stem, layer1, ..) are frozen ones
};
// "tiny", "resnet18", ...; throws Error{Code::usage} that lists the names.
ResNetOptions resnet_options(const std::string& name);

struct MaxPool : Layer<MaxPool> {  // 3x3, stride 2
  using Layer::Layer;
  Tensor forward(const Tensor& x);
};

// GroupNorm's groups: 32, or fewer so that each has two channels at least.
int norm_groups(int64_t channels);

// The shortcut of a block that changes the size or the channels: a strided 1x1 convolution and its norm.
struct Projection : Layer<Projection> {
  Projection(Module& parent, std::string name, const Conv2d::Options& conv, const Norm::Options& norm)
      : Layer(parent, std::move(name)), conv(*this, "0", conv), norm(*this, "1", norm) {}
  Tensor forward(const Tensor& x) { return conv_norm(conv, norm, x); }
  Conv2d conv;
  Norm norm;
};

// y = relu(x' + branch(x)), x' = x or its projection. v1.5: the stride is in the 3x3 convolution of a bottleneck.
class ResidualBlock : public Layer<ResidualBlock> {
 public:
  struct Options {
    int64_t in = 0, inner = 0, out = 0;
    int stride = 1, groups = 1;
    bool stride_1x1 = false;
    bool bottleneck = true;
    NormKind norm = NormKind::batch;
    double eps = 1e-5;
  };
  ResidualBlock(Module& parent, std::string name, const Options& options);
  Tensor forward(Tensor x);

 private:
  Conv2d conv1_;
  Norm bn1_;
  Conv2d conv2_;
  Norm bn2_;
  Relu relu_{*this, "relu"};
  std::optional<Conv2d> conv3_;  // of a bottleneck
  std::optional<Norm> bn3_;
  std::optional<Projection> downsample_;
};

class ResNet : public Layer<ResNet> {
 public:
  ResNet(Module& parent, std::string name, const ResNetOptions& options);
  std::vector<Tensor> forward(const Tensor& x);  // [N,H,W,3] -> C3, C4, C5 at strides 8, 16, 32
  std::array<int64_t, 3> channels() const;       // of C3, C4, C5

 private:
  const ResNetOptions options_;
  Conv2d conv1_;
  Norm bn1_;
  Relu relu_{*this, "relu"};
  MaxPool maxpool_{*this, "maxpool"};
  std::vector<std::unique_ptr<Sequential>> layers_;
};

}  // namespace fovea
