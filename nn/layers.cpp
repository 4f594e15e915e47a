// The layers with weights of their own: initial values, and the call of the op.
#include "nn/layers.h"

#include <cmath>

#include "nn/init.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/matmul.h"

namespace fovea {

// U(-1/sqrt(fan_in), 1/sqrt(fan_in)): what torch gives weights (by kaiming_uniform_ with a = sqrt(5)) and biases alike.
static Tensor torch_default(const Module& module, const char* name, const Shape& shape, double fan_in) {
  Tensor w(shape, ParameterType::current());
  const double bound = fan_in > 0 ? 1 / std::sqrt(fan_in) : 0;
  uniform_(w, module.random(name), -bound, bound);
  return w;
}

Linear::Linear(Module& parent, std::string name, const Options& o) : Layer(parent, std::move(name)), options(o) {
  check(o.in > 0 && o.out > 0, path(), ": linear needs .in and .out above 0, got ", o.in, " and ", o.out);
  const double fan_in = static_cast<double>(o.in);
  weight = parameter("weight", torch_default(*this, "weight", {o.in, o.out}, fan_in), Layout::linear);
  if (o.bias) bias = parameter("bias", torch_default(*this, "bias", {o.out}, fan_in));
}
Tensor Linear::forward(const Tensor& x) { return linear(x, weight, bias); }

// Both kinds of convolution: weight [kh,kw,a,b], of whose fan-in (kh kw a) torch makes the bound.
template <class Options> static void check_conv(const Module& m, const char* what, const Options& o) {
  check(o.in > 0 && o.out > 0, m.path(), ": ", what, " needs .in and .out above 0, got ", o.in, " and ", o.out);
  check(o.groups > 0 && o.in % o.groups == 0 && o.out % o.groups == 0, m.path(), ": ", o.groups,
        " groups do not divide ", o.in, " and ", o.out, " channels");
  check(o.kernel.h > 0 && o.kernel.w > 0, m.path(), ": ", what, " has a kernel of ", o.kernel.h, " x ", o.kernel.w);
}

Conv2d::Conv2d(Module& parent, std::string name, const Options& o) : Layer(parent, std::move(name)), options(o) {
  check_conv(*this, "conv2d", o);
  const Shape shape{o.kernel.h, o.kernel.w, o.in / o.groups, o.out};
  const double fan_in = Fan(shape).in;
  weight = parameter("weight", torch_default(*this, "weight", shape, fan_in), Layout::conv);
  if (o.bias) bias = parameter("bias", torch_default(*this, "bias", {o.out}, fan_in));
}
static Conv2dOptions op_options(const Conv2d::Options& o) {
  return {.stride = o.stride, .pad = o.pad, .dilation = o.dilation, .groups = o.groups, .relu = o.relu};
}
Tensor Conv2d::forward(const Tensor& x) { return conv2d(x, weight, bias, op_options(options)); }
Tensor Conv2d::forward(const Tensor& x, After after) {
  check(!options.relu, "conv2d: a layer with a relu of its own takes no After\n  hint: leave it to After::relu");
  Conv2dOptions o = op_options(options);
  o.relu = after.relu;
  return conv2d_norm(x, weight, after.scale, after.shift ? after.shift : bias, std::move(after.residual), o);
}
std::vector<Tensor> Conv2d::forward(const std::vector<Tensor>& maps) {
  return conv2d(maps, weight, bias, op_options(options));
}
void Conv2d::round_weight() { weight = replace_parameter("weight", weight.to(DType::bf16)); }

ConvTranspose2d::ConvTranspose2d(Module& parent, std::string name, const Options& o)
    : Layer(parent, std::move(name)), options(o) {
  check_conv(*this, "conv_transpose2d", o);
  const Shape shape{o.kernel.h, o.kernel.w, o.out / o.groups, o.in};
  const double fan_in = Fan(shape).in;
  weight = parameter("weight", torch_default(*this, "weight", shape, fan_in), Layout::conv_transpose);
  if (o.bias) bias = parameter("bias", torch_default(*this, "bias", {o.out}, fan_in));
}
Tensor ConvTranspose2d::forward(const Tensor& x) {
  return conv_transpose2d(x, weight, bias,
                          {.stride = options.stride,
                           .pad = options.pad,
                           .output_pad = options.output_pad,
                           .dilation = options.dilation,
                           .groups = options.groups});
}

Embedding::Embedding(Module& parent, std::string name, const Options& o) : Layer(parent, std::move(name)) {
  check(o.count > 0 && o.features > 0, path(), ": embedding of ", o.count, " rows of ", o.features, " numbers");
  Tensor table({o.count, o.features}, ParameterType::current());
  normal_(table, random("weight"));
  weight = parameter("weight", table);
}
Tensor Embedding::forward(const Tensor& ids) { return embedding(weight, ids); }

static thread_local int64_t dropout_step = 0;
void Dropout::set_step(int64_t step) { dropout_step = step; }
Dropout::Dropout(Module& parent, std::string name, double p) : Layer(parent, std::move(name)), p_(p) {
  check(p >= 0 && p < 1, path(), ": dropout with a probability of ", p, ", which is not in [0, 1)");
}
Tensor Dropout::forward(const Tensor& x) {
  if (!training() || p_ == 0) return x;
  if (step_ != dropout_step) step_ = dropout_step, call_ = 0;
  const Philox own = random("mask");
  const uint64_t stream = own.stream ^ (static_cast<uint64_t>(step_) << 20) ^ static_cast<uint64_t>(call_++);
  return dropout(x, p_, own.seed, stream);
}

Tensor Sequential::forward(Tensor x) {
  for (auto& step : steps_) x = step(std::move(x));
  return x;
}

}  // namespace fovea
