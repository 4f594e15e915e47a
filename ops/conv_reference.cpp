// The plain convolution as gather + product (im2col); every gradient is a gather too: each index writes what it owns.
#include "ops/conv_reference.h"

#include "core/gemm.h"
#include "core/loops.h"

namespace fovea {

Taps conv_taps(int64_t a, int kernel, int stride, int pad, int dilation) {
  Taps t{0, 0, 0, 0, 0};
  for (int64_t u = 0; u < kernel; ++u) {
    if ((a + pad - u * dilation) % stride != 0) continue;
    if (t.count > 0) t.step = u - t.last;
    t.last = u, ++t.count;
  }
  t.base = (a + pad - t.last * dilation) / stride;  // divides exactly where there are taps
  t.delta = t.step * dilation / stride;
  return t;
}

namespace reference {
namespace {

// Image row that tap k of output row o reads: o * stride - pad + k * dilation.
HD inline int64_t source(int64_t o, int64_t k, int stride, int pad, int dilation) {
  return o * stride - pad + k * dilation;
}

// col[(i,j),(u,v,c)] = x[source(i,u), source(j,v), first + c], 0 outside the image.
template <class T> struct Gather {
  const T* x;  // one image [h,w,c]
  T* col;      // [oh*ow, kh*kw*c/groups]
  ConvShape s;
  int64_t first, cg;                                                      // channels of the group
  template <class Team> HD void operator()(Team team, int64_t k) const {  // all c of k = (i,j,u,v)
    const int64_t v = k % s.kernel.w, u = k / s.kernel.w % s.kernel.h, pixel = k / s.taps(), j = pixel % s.ow,
                  i = pixel / s.ow;
    const int64_t row = source(i, u, s.stride.h, s.pad.h, s.dilation.h),
                  at = source(j, v, s.stride.w, s.pad.w, s.dilation.w);
    const bool inside = row >= 0 && row < s.h && at >= 0 && at < s.w;
    const T* from = x + (inside ? (row * s.w + at) * s.c + first : 0);
    T* to = col + k * cg;
    if (inside) team.each(cg, [=](int64_t c) { to[c] = from[c]; });
    else team.each(cg, [=](int64_t c) { to[c] = T(0); });
  }
};

// dx[row,at,first + c] = sum of dcol over the (i,j,u,v) whose source is (row,at): Gather's transpose, as a gather.
template <class T> struct GatherBack {
  const T* dcol;
  T* dx;
  ConvShape s;
  int64_t first, cg;
  template <class Team> HD void operator()(Team team, int64_t pixel) const {
    const int64_t at = pixel % s.w, row = pixel / s.w;
    T* sum = dx + pixel * s.c + first;
    team.each(cg, [=](int64_t c) { sum[c] = 0; });
    for (int64_t u = 0; u < s.kernel.h; ++u) {
      const int64_t y = row + s.pad.h - u * s.dilation.h, i = y / s.stride.h;
      if (y < 0 || y % s.stride.h != 0 || i >= s.oh) continue;
      for (int64_t v = 0; v < s.kernel.w; ++v) {
        const int64_t z = at + s.pad.w - v * s.dilation.w, j = z / s.stride.w;
        if (z < 0 || z % s.stride.w != 0 || j >= s.ow) continue;
        const T* from = dcol + (((i * s.ow + j) * s.kernel.h + u) * s.kernel.w + v) * cg;
        team.each(cg, [=](int64_t c) { sum[c] += from[c]; });
      }
    }
  }
};

template <class T> struct Zero {
  T* x;
  HD void operator()(int64_t i) const { x[i] = T(0); }
};

// f(image, group) for all of them.
template <class F> void each_group(const ConvShape& s, F f) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t g = 0; g < s.groups; ++g) f(n, g);
}
size_t col_elements(const ConvShape& s) { return size_t(s.oh * s.ow * s.taps() * s.group_c()); }

}  // namespace

template <class T> void conv_value(Device device, const ConvShape& s, const T* x, const T* w, T* y) {
  const int64_t pixels = s.oh * s.ow, cg = s.group_c(), og = s.group_o(), depth = s.taps() * cg;
  Workspace memory(s.pointwise() ? 0 : col_elements(s) * sizeof(T), device);
  each_group(s, [&](int64_t n, int64_t g) {
    const T* a = x + n * s.h * s.w * s.c;
    if (!s.pointwise()) for_rows(device, pixels * s.taps(), cg, Gather<T>{a, memory.as<T>(), s, g * cg, cg});
    const auto col = s.pointwise() ? GemmFactor<T>{a + g * cg, s.c} : GemmFactor<T>{memory.as<T>(), depth};
    T* out = y + n * pixels * s.o + g * og;
    gemm(device, Gemm<T>{.m = pixels, .n = og, .k = depth, .a = col, .b = {w + g * og, s.o}, .c = out, .ldc = s.o});
  });
}

template <class T> void conv_input_gradient(Device device, const ConvShape& s, const T* dy, const T* w, T* dx) {
  const int64_t pixels = s.oh * s.ow, cg = s.group_c(), og = s.group_o(), depth = s.taps() * cg;
  Workspace memory(s.pointwise() ? 0 : col_elements(s) * sizeof(T), device);
  each_group(s, [&](int64_t n, int64_t g) {  // dcol = dy w^T, then back to the image
    T* image = dx + n * s.h * s.w * s.c;
    T* dcol = s.pointwise() ? image + g * cg : memory.as<T>();
    const int64_t row = s.pointwise() ? s.c : depth;
    const GemmFactor<T> d{dy + n * pixels * s.o + g * og, s.o}, wt{w + g * og, s.o, Trans::yes};
    gemm(device, Gemm<T>{.m = pixels, .n = depth, .k = og, .a = d, .b = wt, .c = dcol, .ldc = row});
    if (!s.pointwise()) for_rows(device, s.h * s.w, depth, GatherBack<T>{memory.as<T>(), image, s, g * cg, cg});
  });
}

template <class T>
void conv_weight_gradient(Device device, const ConvShape& s, const T* x, const T* dy, T* dw, bool add) {
  const int64_t pixels = s.oh * s.ow, cg = s.group_c(), og = s.group_o(), depth = s.taps() * cg;
  Workspace memory(s.pointwise() ? 0 : col_elements(s) * sizeof(T), device);
  if (!add) for_each(device, depth * s.o, Zero<T>{dw});
  each_group(s, [&](int64_t n, int64_t g) {  // dw += col^T dy
    const T* a = x + n * s.h * s.w * s.c;
    if (!s.pointwise()) for_rows(device, pixels * s.taps(), cg, Gather<T>{a, memory.as<T>(), s, g * cg, cg});
    auto col = s.pointwise() ? GemmFactor<T>{a + g * cg, s.c} : GemmFactor<T>{memory.as<T>(), depth};
    col.trans = Trans::yes;
    const GemmFactor<T> d{dy + n * pixels * s.o + g * og, s.o};
    gemm(device, Gemm<T>{.m = depth, .n = og, .k = pixels, .a = col, .b = d, .c = dw + g * og, .ldc = s.o, .beta = 1});
  });
}

#define FOVEA_CONV(T)                                                                     \
  template void conv_value<T>(Device, const ConvShape&, const T*, const T*, T*);          \
  template void conv_input_gradient<T>(Device, const ConvShape&, const T*, const T*, T*); \
  template void conv_weight_gradient<T>(Device, const ConvShape&, const T*, const T*, T*, bool);
FOVEA_CONV(float)
FOVEA_CONV(double)

}  // namespace reference
}  // namespace fovea
