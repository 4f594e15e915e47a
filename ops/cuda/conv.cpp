// Which product for which precision, and its launches.
#include "ops/cuda/conv.h"

#include "core/gemm.h"
#include "ops/cuda/conv_products.h"

namespace fovea::cuda {
namespace {

void check_sizes(const ConvShape& s) {
  for (const int64_t n : {s.n * s.h * s.w, s.n * s.oh * s.ow, s.taps() * s.c, s.taps() * s.o})
    check(n < int64_t{1} << 30, "conv2d: a map of ", n, " pixels or places; on a GPU at most 2^30");
}

// How numbers that are stored as T are multiplied, and the weights as that wants them.
template <class T> struct Weights {
  using Precision = Lanes<T>;
  const T* w;
  Weights(Device, const T* w, const ConvShape&) : w(w) {}
};
struct Rounded {
  const float* from;
  bf16* to;
  HD void operator()(int64_t i) const { to[i] = bf16(from[i]); }
};
template <> struct Weights<bf16> {
  using Precision = TensorCores<Bf16>;
  Workspace memory;
  const bf16* w;
  Weights(Device device, const float* from, const ConvShape& s)
      : memory(size_t(s.taps() * s.group_c() * s.o) * sizeof(bf16), device), w(memory.as<bf16>()) {
    for_each(device, s.taps() * s.group_c() * s.o, Rounded{from, memory.as<bf16>()});
  }
};

// Without stride and padding a convolution of 1x1 is a product of matrices as they lie, x [pixels,c] and w [c,o], and
// the library's. One of bf16 stays here: that has no bias of f32 there.
template <class T> bool plain(const ConvShape& s) { return !std::is_same_v<T, bf16> && s.pointwise() && s.groups == 1; }
template <class T> struct ScaledWeights {
  const T *w, *scale;
  T* out;
  int64_t o;
  HD void operator()(int64_t i) const { out[i] = w[i] * scale[i % o]; }
};
template <class T> void plain_value(Device device, const ConvMap<T>& m, const T* w, const ConvEnd<T>& end) {
  const int64_t pixels = m.s.n * m.s.h * m.s.w, c = m.s.c, o = m.s.o;
  Workspace scaled(end.scale ? size_t(c * o) * sizeof(T) : 0, device);
  if (end.scale) for_each(device, c * o, ScaledWeights<T>{w, end.scale, scaled.as<T>(), o}), w = scaled.as<T>();
  const T residual = m.residual ? 1 : 0;
  gemm(device,
       Gemm<T>{Trans::no, Trans::no, pixels, o, c, 1, m.x, c, w, o, residual, m.y, o, {m.residual, end.b, end.relu}});
}
template <class T> void plain_input_gradient(Device device, const ConvMap<T>& m, const T* w) {  // dx = dy w^T
  const int64_t pixels = m.s.n * m.s.h * m.s.w, c = m.s.c, o = m.s.o;
  gemm(device, Gemm<T>{Trans::no, Trans::yes, pixels, c, o, 1, m.dy, o, w, o, 0, m.dx, c});
}
template <class T> void plain_weight_gradient(Device device, const ConvMap<T>& m, T* dw, bool add) {  // dw = x^T dy
  const int64_t pixels = m.s.n * m.s.h * m.s.w, c = m.s.c, o = m.s.o;
  gemm(device, Gemm<T>{Trans::yes, Trans::no, c, o, pixels, 1, m.x, c, m.dy, o, T(add), dw, o});
}

// f.operator()<P>() with the way in which numbers of type T are to be multiplied.
template <class T, class F> void with_precision(F f) {
  if constexpr (std::is_same_v<T, float>)
    if (tf32()) return f.template operator()<TensorCores<Tf32>>();
  f.template operator()<typename Weights<T>::Precision>();
}

}  // namespace

template <class T>
void conv_value(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w,
                const ConvEnd<compute_t<T>>& end) {
  if constexpr (!std::is_same_v<T, bf16>)
    if (plain<T>(maps[0].s)) {
      for (const ConvMap<T>& m : maps) plain_value(device, m, w, end);
      return;
    }
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  const Weights<T> weights(device, w, maps[0].s);
  with_precision<T>([&]<class P>() {
    for (const ConvMap<T>& m : maps) check_sizes(m.s), value<P>(m, weights.w, end, launch);
  });
}
template <class T> void conv_input_gradient(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w) {
  if constexpr (!std::is_same_v<T, bf16>)
    if (plain<T>(maps[0].s)) {
      for (const ConvMap<T>& m : maps) plain_input_gradient(device, m, w);
      return;
    }
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  const Weights<T> weights(device, w, maps[0].s);
  with_precision<T>([&]<class P>() {
    for (const ConvMap<T>& m : maps) check_sizes(m.s), input_gradient<P>(m, weights.w, launch);
  });
}
template <class T> void conv_weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, compute_t<T>* dw) {
  if constexpr (!std::is_same_v<T, bf16>)
    if (plain<T>(maps[0].s)) {
      for (size_t i = 0; i < maps.size(); ++i) plain_weight_gradient(device, maps[i], dw, i > 0);
      return;
    }
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  for (const ConvMap<T>& m : maps) check_sizes(m.s);
  with_precision<T>([&]<class P>() { weight_gradient<P>(device, maps, dw, launch); });
}

#define FOVEA_CONV(T)                                                                                \
  template void conv_value<T>(Device, const std::vector<ConvMap<T>>&, const compute_t<T>*,           \
                              const ConvEnd<compute_t<T>>&);                                         \
  template void conv_input_gradient<T>(Device, const std::vector<ConvMap<T>>&, const compute_t<T>*); \
  template void conv_weight_gradient<T>(Device, const std::vector<ConvMap<T>>&, compute_t<T>*);
FOVEA_CONV(float)
FOVEA_CONV(double)
FOVEA_CONV(bf16)

}  // namespace fovea::cuda
