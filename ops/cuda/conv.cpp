// Which product for which precision, and its launches.
#include "ops/cuda/conv.h"

#include "ops/cuda/conv_products.h"

namespace fovea::cuda {
namespace {

void check_sizes(const ConvShape& s) {
  for (const int64_t n : {s.n * s.h * s.w, s.n * s.oh * s.ow, s.taps() * s.c, s.taps() * s.o})
    check(n < int64_t{1} << 30, "conv2d: a map of ", n, " pixels or places; on a GPU at most 2^30");
}

}  // namespace

template <class T>
void conv_value(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w,
                const ConvEnd<compute_t<T>>& end) {
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  for (const ConvMap<T>& m : maps) check_sizes(m.s), value<Lanes<T>>(m, w, end, launch);
}
template <class T> void conv_input_gradient(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w) {
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  for (const ConvMap<T>& m : maps) check_sizes(m.s), input_gradient<Lanes<T>>(m, w, launch);
}
template <class T> void conv_weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, compute_t<T>* dw) {
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  for (const ConvMap<T>& m : maps) check_sizes(m.s);
  weight_gradient<Lanes<T>>(device, maps, dw, launch);
}

#define FOVEA_CONV(T)                                                                                \
  template void conv_value<T>(Device, const std::vector<ConvMap<T>>&, const compute_t<T>*,           \
                              const ConvEnd<compute_t<T>>&);                                         \
  template void conv_input_gradient<T>(Device, const std::vector<ConvMap<T>>&, const compute_t<T>*); \
  template void conv_weight_gradient<T>(Device, const std::vector<ConvMap<T>>&, compute_t<T>*);
FOVEA_CONV(float)
FOVEA_CONV(double)

}  // namespace fovea::cuda
