// The choice between Winograd and direct convolution.
#include "ops/cpu/conv.h"

#include <algorithm>
#include <type_traits>

namespace fovea::cpu {

// Winograd does a quarter of the multiplies, but has 36 numbers for each 9 of the weights: with few tiles those decide.
template <class T> ConvChoice choose(const Maps<T>& maps, ConvAlgo algo) {
  const ConvShape& s = maps[0].s;
  if (!winograd::applies(s)) return {false, 0, 0, "Winograd is for 3x3 of stride 1, in one group"};
  // products of bf16 take half the time, those of Winograd's transforms stay f32
  const int64_t tiles = winograd::tiles(maps), least = std::is_same_v<T, bf16> ? 10 : 3;
  if (algo == ConvAlgo::direct) return {false, tiles, least, "conv.algo=direct"};
  if (algo == ConvAlgo::winograd) return {true, tiles, least, "conv.algo=winograd"};
  if (std::min(s.c, s.o) < 16) return {false, tiles, 0, "fewer than 16 channels do not fill Winograd's products"};
  if (tiles < least) return {false, tiles, least, "too few tiles: four times the weights cost more than is saved"};
  return {true, tiles, least, "a quarter of the multiplies outweighs the transforms"};
}

template <class T>
void conv_value(const Maps<T>& maps, const float* w, const ConvEnd& end, ConvAlgo algo, const Kernels& k) {
  choose(maps, algo).winograd ? winograd::value(maps, w, end, k) : direct::value(maps, w, end, k);
}
template <class T> void conv_input_gradient(const Maps<T>& maps, const float* w, ConvAlgo algo, const Kernels& k) {
  choose(maps, algo).winograd ? winograd::input_gradient(maps, w, k) : direct::input_gradient(maps, w, k);
}
template <class T> void conv_weight_gradient(const Maps<T>& maps, float* dw, ConvAlgo algo, const Kernels& k) {
  choose(maps, algo).winograd ? winograd::weight_gradient(maps, dw, k) : direct::weight_gradient(maps, dw, k);
}

#define FOVEA_CONV(T)                                                                                  \
  template ConvChoice choose<T>(const Maps<T>&, ConvAlgo);                                             \
  template void conv_value<T>(const Maps<T>&, const float*, const ConvEnd&, ConvAlgo, const Kernels&); \
  template void conv_input_gradient<T>(const Maps<T>&, const float*, ConvAlgo, const Kernels&);        \
  template void conv_weight_gradient<T>(const Maps<T>&, float*, ConvAlgo, const Kernels&);
FOVEA_CONV(float)
FOVEA_CONV(bf16)

}  // namespace fovea::cpu
