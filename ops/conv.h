// Convolution and its transpose, on images [N,H,W,C] with weights [kh,kw,in,out].
#pragma once
#include <string>
#include <vector>

#include "core/tensor.h"
#include "ops/window.h"

namespace fovea {

struct Conv2dOptions {
  Int2 stride = 1, pad = 0, dilation = 1;
  int groups = 1;
  bool relu = false;  // y = max(0, conv + bias), fused
};

// y[n,i,j,o] = b[o] + sum_{u,v,c} x[n, i*stride - pad + u*dilation, j*stride - pad + v*dilation, c] w[u,v,c,o], zero
// outside x; cross-correlation, as every framework has it. x [N,H,W,C], w [kh,kw,C/groups,O], b [O] or undefined ->
// [N,H',W',O], H' = (H + 2 pad - dilation (kh - 1) - 1) / stride + 1. Output channel o sees the input channels of its
// group. Throws Error{failure} for shapes and options that do not fit.
// x of bf16: w, b and their gradients are f32; products of bf16, sums of f32, y and dx bf16. For values alone, w may be
// of bf16, too: half as much to read. Throws Error{failure} where a gradient is wanted then.
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& b = {}, Conv2dOptions options = {});

// The same weights on several maps (the levels of a pyramid): what conv2d gives for each, with the weights prepared
// once.
std::vector<Tensor> conv2d(const std::vector<Tensor>& maps, const Tensor& w, const Tensor& b = {},
                           Conv2dOptions options = {});

// A convolution and what follows it in a residual block, in one pass: y = relu(scale conv(x, w) + shift + residual).
// scale [O] is a constant (a norm's), shift [O], residual as y: each may be undefined. Gradients to x, w, shift and
// residual. A residual that is moved in and that nothing else holds may become the result, without memory of its own.
Tensor conv2d_norm(const Tensor& x, const Tensor& w, const Tensor& scale, const Tensor& shift, Tensor residual,
                   Conv2dOptions options = {});

struct ConvTranspose2dOptions {
  Int2 stride = 1, pad = 0, output_pad = 0, dilation = 1;
  int groups = 1;
};

// The gradient of conv2d to its input, as an op: x [N,H,W,C], w [kh,kw,O/groups,C], b [O] or undefined -> [N,H',W',O],
// H' = (H - 1) stride - 2 pad + dilation (kh - 1) + output_pad + 1 (Dumoulin & Visin 2016, section 4).
Tensor conv_transpose2d(const Tensor& x, const Tensor& w, const Tensor& b = {}, ConvTranspose2dOptions options = {});

// How f32 convolutions are computed on the CPU (f64 always by the reference). `automatic` picks the fastest for each
// shape; `direct` makes products of all, without Winograd's transforms, whose rounding errors are about 3 times as
// large; `winograd` uses them wherever they apply; `reference` is the plain gather and product. The start value is
// FOVEA_CONV_ALGO (auto, direct, winograd, reference).
enum class ConvAlgo { automatic, direct, winograd, reference };
ConvAlgo conv_algo_named(const std::string& name);  // throws Error{Code::usage} that lists the names
std::string name_of(ConvAlgo algo);
void set_conv_algo(ConvAlgo algo);
ConvAlgo conv_algo();

// Throws Error{Code::impossible} where this processor, FOVEA_ISA, the device or conv_algo() leaves no convolutions of
// bf16.
void check_bf16_convolutions(Device device = Device::cpu);

}  // namespace fovea
