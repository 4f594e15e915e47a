// The plain convolution: one gather and one matrix product a group, for both devices and f32/f64. Gradient checks run
// on it, and the tests hold every fast kernel of ops/cpu against it.
#pragma once
#include "core/allocator.h"
#include "core/platform.h"
#include "ops/window.h"

namespace fovea {

// x [n,h,w,c] * w [kh,kw,c/groups,o] -> y [n,oh,ow,o].
struct ConvShape {
  int64_t n, h, w, c, oh, ow, o;
  Int2 kernel = 1, stride = 1, pad = 0, dilation = 1;
  int groups = 1;
  HD int64_t taps() const { return int64_t{kernel.h} * kernel.w; }
  HD int64_t group_c() const { return c / groups; }
  HD int64_t group_o() const { return o / groups; }
  bool pointwise() const {  // a plain product over pixels (a transposed convolution's output may be larger)
    return kernel == 1 && stride == 1 && pad == 0 && oh == h && ow == w;
  }
};

// The taps u, along one axis, through which input pixels a, a + stride, a + 2 stride, ... are seen, in falling order:
// u = last - t * step for t < count; pixel a + stride * q reads output q + base + t * delta. So the gradient to the
// input is one convolution of stride 1 for each a < stride.
struct Taps {
  int64_t count, last, step, base, delta;
};
Taps conv_taps(int64_t a, int kernel, int stride, int pad, int dilation);

// One of the maps that share their weights. The value reads x and residual and writes y; the gradient to the
// input reads dy and writes dx; that to the weights reads x and dy. The others may be null. Results may be stored as
// another type, R, than what they are made of.
template <class T, class R = T> struct ConvMap {
  ConvShape s;
  const T* x;  // [n,h,w,c]
  R* y;        // [n,oh,ow,o]
  R* dx;
  const T* dy;
  const R* residual = nullptr;  // as y
};

// What follows the sums: y = scale y + b + residual, then max(0, y) if asked for; scale, b [o], null: left out. They
// and the weights are f32 (f64), whatever the maps are stored in.
template <class T> struct ConvEnd {
  const T *scale = nullptr, *b = nullptr;
  bool relu = false;
  HD T operator()(T v, int64_t o, T residual) const {  // of one sum of channel o; residual: 0 where there is none
    if (scale) v *= scale[o];
    if (b) v += b[o];
    v += residual;
    return relu && v < 0 ? T(0) : v;  // NaN stays NaN, as in relu()
  }
};

namespace reference {

template <class T> void conv_value(Device device, const ConvShape& s, const T* x, const T* w, T* y);  // y = x * w
template <class T>
void conv_input_gradient(Device device, const ConvShape& s, const T* dy, const T* w, T* dx);  // dx = dL/dx
template <class T>
void conv_weight_gradient(Device device, const ConvShape& s, const T* x, const T* dy, T* dw,
                          bool add);  // dw (+)= dL/dw

}  // namespace reference
}  // namespace fovea
