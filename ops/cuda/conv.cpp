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
bool plain(const ConvShape& s) { return s.pointwise() && s.groups == 1; }
template <class T> int64_t pixels_of(const ConvMap<T>& m) { return m.s.n * m.s.h * m.s.w; }
template <class T> struct ScaledWeights {
  const T *w, *scale;
  T* out;
  int64_t o;
  HD void operator()(int64_t i) const { out[i] = w[i] * scale[i % o]; }
};
template <class T>
void plain_value(Device device, const std::vector<ConvMap<T>>& maps, const T* w, const ConvEnd<T>& end) {
  const int64_t c = maps[0].s.c, o = maps[0].s.o;
  Workspace scaled(end.scale ? size_t(c * o) * sizeof(T) : 0, device);
  if (end.scale) for_each(device, c * o, ScaledWeights<T>{w, end.scale, scaled.as<T>(), o}), w = scaled.as<T>();
  for (const ConvMap<T>& m : maps) {
    const T residual = m.residual ? 1 : 0;
    const GemmEnd<T> after{m.residual, end.b, end.relu};
    gemm(device, Gemm<T>{Trans::no, Trans::no, pixels_of(m), o, c, 1, m.x, c, w, o, residual, m.y, o, after});
  }
}
template <class T>
void plain_input_gradient(Device device, const std::vector<ConvMap<T>>& maps, const T* w) {  // dx = dy w^T
  const int64_t c = maps[0].s.c, o = maps[0].s.o;
  for (const ConvMap<T>& m : maps)
    gemm(device, Gemm<T>{Trans::no, Trans::yes, pixels_of(m), c, o, 1, m.dy, o, w, o, 0, m.dx, c});
}
template <class T>
void plain_weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, T* dw) {  // dw = x^T dy, of all maps
  const int64_t c = maps[0].s.c, o = maps[0].s.o;
  for (const ConvMap<T>& m : maps)
    gemm(device, Gemm<T>{Trans::yes, Trans::no, c, o, pixels_of(m), 1, m.x, c, m.dy, o, T(&m != &maps[0]), dw, o});
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
    if (plain(maps[0].s)) return plain_value(device, maps, w, end);
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  const Weights<T> weights(device, w, maps[0].s);
  with_precision<T>([&]<class P>() {
    for (const ConvMap<T>& m : maps) check_sizes(m.s), value<P>(m, weights.w, end, launch);
  });
}
template <class T> void conv_input_gradient(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w) {
  if constexpr (!std::is_same_v<T, bf16>)
    if (plain(maps[0].s)) return plain_input_gradient(device, maps, w);
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  const Weights<T> weights(device, w, maps[0].s);
  with_precision<T>([&]<class P>() {
    for (const ConvMap<T>& m : maps) check_sizes(m.s), input_gradient<P>(m, weights.w, launch);
  });
}
template <class T> void conv_weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, compute_t<T>* dw) {
  if constexpr (!std::is_same_v<T, bf16>)
    if (plain(maps[0].s)) return plain_weight_gradient(device, maps, dw);
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
