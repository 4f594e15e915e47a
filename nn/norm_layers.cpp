// The norms: one class whose kind is chosen at run time, and the layer norm.
#include "ops/norm.h"

#include "core/autograd.h"
#include "nn/layers.h"
#include "ops/pointwise.h"

namespace fovea {

NormKind norm_kind(const std::string& name) {
  const std::pair<const char*, NormKind> kinds[] = {{"none", NormKind::none},
                                                    {"batch", NormKind::batch},
                                                    {"fixed", NormKind::fixed},
                                                    {"frozen", NormKind::frozen},
                                                    {"group", NormKind::group}};
  for (auto& [word, kind] : kinds)
    if (name == word) return kind;
  fail(Code::usage, "norm \"" + name + "\" is not known\n  hint: none, batch, fixed, frozen or group");
}

Norm::Norm(Module& parent, std::string name, const Options& o) : Layer(parent, std::move(name)), options(o) {
  if (o.kind == NormKind::none) return;
  check(o.channels > 0, path(), ": norm needs .channels above 0, got ", o.channels);
  check(o.kind != NormKind::group || (o.groups > 0 && o.channels % o.groups == 0), path(), ": ", o.groups,
        " groups do not divide ", o.channels, " channels");
  const DType type = ParameterType::current();
  const auto filled = [&](double value) { return Tensor::full({o.channels}, value, type); };
  const bool frozen = o.kind == NormKind::frozen;
  weight = frozen ? buffer("weight", filled(1)) : parameter("weight", filled(1));
  bias = frozen ? buffer("bias", filled(0)) : parameter("bias", filled(0));
  if (o.kind == NormKind::group) return;
  running_mean = buffer("running_mean", filled(0));
  running_var = buffer("running_var", filled(1));
  if (!frozen) num_batches_tracked = host_buffer("num_batches_tracked", Tensor::zeros({}, DType::i64));
}

Tensor Norm::forward(const Tensor& x, bool with_relu) {
  const auto& o = options;
  switch (o.kind) {
    case NormKind::none: return with_relu ? relu(x) : x;
    case NormKind::batch:
    case NormKind::fixed: {
      const bool learn = training() && o.kind == NormKind::batch;
      if (learn) num_batches_tracked.fill(num_batches_tracked.item() + 1);
      return batch_norm(x, weight, bias, running_mean, running_var,
                        {.training = learn, .momentum = o.momentum, .eps = o.eps, .relu = with_relu});
    }
    case NormKind::frozen: return frozen_batch_norm(x, weight, bias, running_mean, running_var, o.eps, with_relu);
    case NormKind::group: return group_norm(x, weight, bias, o.groups, o.eps, with_relu);
  }
  return x;
}

std::pair<Tensor, Tensor> Norm::affine() const {
  const bool constant = options.kind == NormKind::frozen || options.kind == NormKind::fixed ||
                        (options.kind == NormKind::batch && !training());
  const bool wanted = constant && !NoGrad::active() && (weight.requires_grad() || bias.requires_grad());
  if (!constant || wanted) return {};
  return frozen_affine(weight, bias, running_mean, running_var, options.eps);
}

Tensor Relu::forward(const Tensor& x) { return relu(x); }

Tensor conv_norm(Conv2d& conv, Norm& norm, const Tensor& x, Relu* relu, Tensor residual) {
  if (!CallObserver::active()) {
    const bool bare = !conv.bias && !conv.options.relu && !norm.options.relu;  // nothing between, or within
    if (const auto [scale, shift] = bare ? norm.affine() : std::pair<Tensor, Tensor>(); scale)
      return conv(x, Conv2d::After{scale, shift, std::move(residual), relu != nullptr});
    if (!residual) return norm(conv(x), relu || norm.options.relu);
  }
  const Tensor y = norm(conv(x));
  if (residual) return relu ? add_relu(y, residual) : y + residual;
  return relu ? (*relu)(y) : y;
}

LayerNorm::LayerNorm(Module& parent, std::string name, int64_t features, double eps)
    : Layer(parent, std::move(name)), eps_(eps) {
  check(features > 0, path(), ": layer norm over ", features, " features");
  weight = parameter("weight", Tensor::full({features}, 1, ParameterType::current()));
  bias = parameter("bias", Tensor::zeros({features}, ParameterType::current()));
}
Tensor LayerNorm::forward(const Tensor& x) { return layer_norm(x, weight, bias, eps_); }

}  // namespace fovea
