// Counts a network's layers, and follows kernels and strides through it for the receptive fields.
#include "models/summary.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace fovea {
namespace {

// What a call keeps for its gradients: without an observer, which takes convolutions and their norms apart.
int64_t activation_bytes(RetinaNet& model, const Tensor& image) {
  const size_t before = memory_stats().current;
  const auto out = model(image);
  return static_cast<int64_t>(memory_stats().current - before);
}

std::vector<LayerSummary> count_layers(RetinaNet& model, const Tensor& image) {
  std::vector<LayerSummary> layers;
  std::map<std::string, size_t> index;
  CallObserver observer([&](const Module& module, const std::vector<Tensor>& outputs) {
    if (!module.children().empty() || outputs.empty()) return;
    const auto [it, fresh] = index.emplace(module.path(), layers.size());
    if (fresh) layers.push_back({.path = module.path(), .outputs = {}, .parameters = module.parameter_count()});
    LayerSummary& layer = layers[it->second];
    for (const Tensor& y : outputs) {
      layer.outputs.push_back(y.shape());
      layer.bytes += static_cast<int64_t>(y.bytes());
    }
    layer.multiply_adds += multiply_adds(module, outputs);
  });
  model(image);
  return layers;
}

LevelSummary describe_level(const RetinaNetOptions& o, int level, std::pair<int64_t, int64_t> hw) {
  const int64_t cell = int64_t{1} << level, h = (hw.first + cell - 1) / cell, w = (hw.second + cell - 1) / cell;
  const Tensor anchors = make_anchors(o.anchors, level, {h, w}, hw);
  LevelSummary s{.name = text("P", level), .stride = 1 << level, .height = h, .width = w};
  s.anchors = anchors.dim(0), s.anchor_step = anchor_step(o.anchors, level, {h, w}, hw);
  for (const auto& anchor : cell_anchors(o.anchors, level)) {
    const double side = std::sqrt(anchor.area());
    s.smallest = s.smallest > 0 ? std::min(s.smallest, side) : side, s.largest = std::max(s.largest, side);
  }
  int64_t inside = 0;
  for (int64_t a = 0; a < s.anchors; ++a) {
    const float* b = anchors.data<float>() + 4 * a;
    inside += b[0] >= 0 && b[1] >= 0 && b[2] <= static_cast<float>(hw.second) && b[3] <= static_cast<float>(hw.first);
  }
  s.inside = s.anchors > 0 ? static_cast<double>(inside) / static_cast<double>(s.anchors) : 0;
  // C5 reaches every finer level from above; then one 3x3 of the pyramid (two strides up for P7), and the towers.
  int field = receptive_fields(resnet_options(o.backbone))[2];
  if (level <= 5 || o.p6_from == "p5") field += 2 * std::min(s.stride, 32);
  for (int coarse = 6; coarse <= level; ++coarse) field += 2 * (1 << (coarse - 1));
  s.receptive_field = field + 2 * s.stride * (o.tower_depth + 1);
  return s;
}

}  // namespace

int64_t multiply_adds(const Module& module, const std::vector<Tensor>& outputs) {
  const auto* conv = dynamic_cast<const Conv2d*>(&module);
  int64_t count = 0;
  if (conv)
    for (const Tensor& y : outputs) count += y.size() * conv->weight.size() / conv->options.out;
  return count;
}

std::array<int, 3> receptive_fields(const ResNetOptions& options) {
  int field = 7 + 2 * 2, stride = 4;  // 7x7 of stride 2, then 3x3 pooling of stride 2
  std::array<int, 3> fields{};
  for (int stage = 0; stage < 4; ++stage) {
    for (int block = 0; block < options.blocks[static_cast<size_t>(stage)]; ++block) {
      const int before = stride;
      if (block == 0 && stage > 0) stride *= 2;
      field += 2 * (options.bottleneck && options.stride_1x1 ? stride : before);
      if (!options.bottleneck) field += 2 * stride;
    }
    if (stage > 0) fields[static_cast<size_t>(stage) - 1] = field;
  }
  return fields;
}

Summary summarise(const RetinaNetOptions& options, std::pair<int64_t, int64_t> image_hw) {
  RetinaNet model(options);
  Summary s;
  const Tensor image = Tensor::zeros({1, image_hw.first, image_hw.second, 3});
  s.activations = activation_bytes(model, image);
  s.layers = count_layers(model, image);
  for (const auto& p : model.parameters()) {
    s.parameters += p.value.size();
    s.trainable += p.value.requires_grad() ? p.value.size() : 0;
  }
  for (const LayerSummary& layer : s.layers) s.multiply_adds += layer.multiply_adds;
  for (int level = 3; level <= options.last_level; ++level)
    s.levels.push_back(describe_level(options, level, image_hw));
  return s;
}

}  // namespace fovea
