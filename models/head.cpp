// The towers over all levels at once, and the prior that training starts from.
#include "models/head.h"

#include <cmath>

#include "nn/init.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace fovea {

LevelNorm::LevelNorm(Module& parent, std::string name, int64_t channels, int levels, double eps)
    : Layer(parent, std::move(name)), eps_(eps) {
  const auto filled = [&](double value) { return Tensor::full({channels}, value, ParameterType::current()); };
  weight_ = parameter("weight", filled(1)), bias_ = parameter("bias", filled(0));
  for (int level = 0; level < levels; ++level) {
    mean_.push_back(buffer(text("running_mean_", level), filled(0)));
    var_.push_back(buffer(text("running_var_", level), filled(1)));
  }
}

std::vector<Tensor> LevelNorm::forward(const std::vector<Tensor>& maps) {
  check(maps.size() == mean_.size(), path(), ": ", maps.size(), " maps for the norms of ", mean_.size(), " levels");
  std::vector<Tensor> out;
  for (size_t i = 0; i < maps.size(); ++i)
    out.push_back(
        batch_norm(maps[i], weight_, bias_, mean_[i], var_[i], {.training = training(), .eps = eps_, .relu = true}));
  return out;
}

Tower::Tower(Module& parent, std::string name, const Options& o)
    : Layer(parent, std::move(name)),
      conv_(*this, "conv"),
      last_(*this, o.last, {.in = o.channels, .out = o.out, .kernel = 3, .pad = 1}) {
  for (int i = 0; i < o.depth; ++i) {
    auto& step = conv_.add_module<Sequential>();
    const bool plain = o.norm == NormKind::none && o.norm_levels == 0;
    convs_.push_back(
        &step.add<Conv2d>({.in = o.channels, .out = o.channels, .kernel = 3, .pad = 1, .bias = plain, .relu = plain}));
    normal_(convs_.back()->weight, convs_.back()->random("weight"), 0, 0.01);
    if (plain) constant_(convs_.back()->bias, 0);
    if (plain) continue;
    if (o.norm_levels > 0) {
      level_norms_.push_back(std::make_unique<LevelNorm>(step, "1", o.channels, o.norm_levels, o.eps));
      continue;
    }
    norms_.push_back(
        &step.add<Norm>({.kind = o.norm, .channels = o.channels, .groups = norm_groups(o.channels), .eps = o.eps}));
    relus_.push_back(&step.add_module<Relu>());
  }
  normal_(last_.weight, last_.random("weight"), 0, o.deviation);
  std::vector<double> bias(static_cast<size_t>(o.out), 0);
  for (size_t c = 0; c < bias.size(); c += static_cast<size_t>(o.bias_step)) bias[c] = o.bias;
  last_.bias.copy_from(Tensor::from({o.out}, bias).to(last_.bias.dtype()));
}

std::vector<Tensor> Tower::forward(std::vector<Tensor> maps) {
  for (size_t i = 0; i < convs_.size(); ++i) {
    maps = (*convs_[i])(maps);
    if (!level_norms_.empty()) maps = (*level_norms_[i])(maps);
    if (norms_.empty()) continue;  // its ReLU is part of the convolution, or of the norm of each level
    for (Tensor& map : maps) map = (*norms_[i])(map);
    for (Tensor& map : maps) map = (*relus_[i])(map);
  }
  for (Tensor& map : maps)  // logits lie around the prior's, -4.6, where bf16 has steps of 1/32
    if (map.dtype() == DType::bf16) map = cast(map, DType::f32);
  return last_(maps);
}
void Tower::round_weights() {
  for (Conv2d* conv : convs_) conv->round_weight();
}
void Head::round_weights() { classification_.round_weights(), regression_.round_weights(); }

namespace {

int64_t logits(const Head::Options& o) { return o.classes + o.background; }  // of an anchor

}  // namespace

Head::Head(Module& parent, std::string name, const Options& o)
    : Layer(parent, std::move(name)),
      options_(o),
      classification_(
          *this, "classification_head",
          {.last = "cls_logits",
           .channels = o.channels,
           .out = o.anchors * logits(o),
           .depth = o.depth,
           .norm = o.norm,
           .norm_levels = o.norm_levels,
           .eps = o.eps,
           .deviation = o.deviation,
           .bias = (o.background ? 1 : -1) * std::log((o.background ? o.classes : 1) * (1 - o.prior) / o.prior),
           .bias_step = o.background ? logits(o) : 1}),
      regression_(*this, "regression_head",
                  {.last = "bbox_reg",
                   .channels = o.channels,
                   .out = int64_t{o.anchors} * 4,
                   .depth = o.depth,
                   .norm = o.norm,
                   .norm_levels = o.norm_levels,
                   .eps = o.eps,
                   .deviation = o.deviation}) {}

// The maps [N,H,W,A*K] (A*(K+1) with a background) are [N,H*W*A,K] as they lie in memory. The logits, which are the
// largest, come last: where nothing else holds the levels, they are gone by then.
Head::Output Head::forward(std::vector<Tensor> levels) {
  Output out;
  out.deltas = regression_(levels);
  out.logits = classification_(std::move(levels));
  for (size_t i = 0; i < out.logits.size(); ++i) {
    const int64_t n = out.logits[i].dim(0), rows = out.logits[i].dim(1) * out.logits[i].dim(2) * options_.anchors;
    out.logits[i] = reshape(out.logits[i], {n, rows, logits(options_)});
    out.deltas[i] = reshape(out.deltas[i], {n, rows, 4});
  }
  return out;
}

}  // namespace fovea
