// The choice between Winograd and direct convolution.
#include "ops/cpu/conv.h"

#include <algorithm>

namespace fovea::cpu {
namespace {

// Winograd does a quarter of the multiplies, but has 36 numbers for each 9 of the weights: with few tiles those decide.
bool by_winograd(const Maps& maps, ConvAlgo algo) {
  const ConvShape& s = maps[0].s;
  if (algo == ConvAlgo::direct || !winograd::applies(s)) return false;
  if (algo == ConvAlgo::winograd) return true;
  return std::min(s.c, s.o) >= 16 && 20 * winograd::tiles(maps) >= std::min(s.c, s.o);
}

}  // namespace

void conv_value(const Maps& maps, const float* w, const float* b, bool relu, ConvAlgo algo, const Kernels& k) {
  by_winograd(maps, algo) ? winograd::value(maps, w, b, relu, k) : direct::value(maps, w, b, relu, k);
}
void conv_input_gradient(const Maps& maps, const float* w, ConvAlgo algo, const Kernels& k) {
  by_winograd(maps, algo) ? winograd::input_gradient(maps, w, k) : direct::input_gradient(maps, w, k);
}
void conv_weight_gradient(const Maps& maps, float* dw, ConvAlgo algo, const Kernels& k) {
  by_winograd(maps, algo) ? winograd::weight_gradient(maps, dw, k) : direct::weight_gradient(maps, dw, k);
}

}  // namespace fovea::cpu
