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
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  const Weights<T> weights(device, w, maps[0].s);
  with_precision<T>([&]<class P>() {
    for (const ConvMap<T>& m : maps) check_sizes(m.s), value<P>(m, weights.w, end, launch);
  });
}
template <class T> void conv_input_gradient(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w) {
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  const Weights<T> weights(device, w, maps[0].s);
  with_precision<T>([&]<class P>() {
    for (const ConvMap<T>& m : maps) check_sizes(m.s), input_gradient<P>(m, weights.w, launch);
  });
}
template <class T> void conv_weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, compute_t<T>* dw) {
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
