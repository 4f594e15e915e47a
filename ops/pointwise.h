// Pointwise ops: one formula and its derivative each (ops/pointwise.cpp), every type and broadcasting from one header.
#pragma once
#include "core/autograd.h"

namespace fovea {

// Two operands of one floating-point type broadcast as in numpy: aligned at the last axis, 1 stretches. Throws naming
// both shapes where they do not fit. The gradient of a stretched operand is summed over the axes that it stretched
// along.
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);   // a tie: the gradient goes to a
Tensor maximum(const Tensor& a, const Tensor& b);   // a tie: the gradient goes to a
Tensor add_relu(const Tensor& a, const Tensor& b);  // relu(a + b) in one pass: the end of a residual block
// a where condition (u8) is not 0, else b; all three broadcast.
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);

Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor abs(const Tensor& x);  // gradient 0 at 0
Tensor neg(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor relu(const Tensor& x);                      // gradient 0 at 0
Tensor leaky_relu(const Tensor& x, double slope);  // gradient `slope` at 0
Tensor silu(const Tensor& x);                      // x sigmoid(x)
Tensor gelu(const Tensor& x);                      // x Phi(x), exact (erf), as torch's default
Tensor softplus(const Tensor& x);                  // log(1 + e^x), never overflows
Tensor log_sigmoid(const Tensor& x);               // -softplus(-x)
Tensor pow(const Tensor& x, double exponent);
Tensor clamp(const Tensor& x, double low, double high);  // gradient 1 inside and at both ends, 0 outside
Tensor scale(const Tensor& x, double factor);
Tensor shift(const Tensor& x, double term);  // x + term
Tensor cast(const Tensor& x, DType type);    // to another floating-point type; the gradient comes back in x's

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& x) { return neg(x); }
inline Tensor operator+(const Tensor& x, double s) { return shift(x, s); }
inline Tensor operator+(double s, const Tensor& x) { return shift(x, s); }
inline Tensor operator-(const Tensor& x, double s) { return shift(x, -s); }
inline Tensor operator-(double s, const Tensor& x) { return shift(neg(x), s); }
inline Tensor operator*(const Tensor& x, double s) { return scale(x, s); }
inline Tensor operator*(double s, const Tensor& x) { return scale(x, s); }
inline Tensor operator/(const Tensor& x, double s) { return scale(x, 1 / s); }
inline Tensor operator/(double s, const Tensor& x) { return scale(pow(x, -1), s); }

}  // namespace fovea
