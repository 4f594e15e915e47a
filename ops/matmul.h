// Matrix products: batched, with either operand read transposed; and the linear layer.
#pragma once
#include "core/autograd.h"

namespace fovea {

struct MatmulOptions {
  bool transpose_a = false, transpose_b = false;  // of the last two axes
};

// a [..., m, k] times b [..., k, n] (as transposed): [..., m, n]. Leading axes broadcast; f32 or f64.
// Throws naming both shapes where the inner dimensions or the leading axes do not fit.
Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions options = {});

// x [..., in] w [in, out] + b [out]: [..., out]; b may be undefined.
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b = {});

}  // namespace fovea
