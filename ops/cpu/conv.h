// f32 convolutions on the CPU: which algorithm for which shape, and the loops around the kernels.
#pragma once
#include <vector>

#include "ops/conv.h"
#include "ops/conv_reference.h"
#include "ops/cpu/kernels.h"

namespace fovea::cpu {

using Maps = std::vector<ConvMap<float>>;  // same weights, kernel, stride, ...: only n, h, w differ

// Which algorithm a shape gets, and the numbers that decide (`fovea bench conv --explain`).
struct ConvChoice {
  bool winograd;
  int64_t tiles, least;  // 4x4 tiles of all results, and from how many on Winograd is chosen; 0 where it cannot be
  const char* why;
};
ConvChoice choose(const Maps& maps, ConvAlgo algo);

using ConvEnd = fovea::ConvEnd<float>;
inline Epilogue epilogue(const ConvEnd& end, const float* residual, const float* y) {
  return {end.scale, end.b, residual, y, end.relu};
}
void conv_value(const Maps& maps, const float* w, const ConvEnd& end, ConvAlgo algo, const Kernels& k);
void conv_input_gradient(const Maps& maps, const float* w, ConvAlgo algo, const Kernels& k);
void conv_weight_gradient(const Maps& maps, float* dw, ConvAlgo algo, const Kernels& k);

// The two families of algorithms.
namespace direct {
void value(const Maps& maps, const float* w, const ConvEnd& end, const Kernels& k);
void input_gradient(const Maps& maps, const float* w, const Kernels& k);
void weight_gradient(const Maps& maps, float* dw, const Kernels& k);
}  // namespace direct
namespace winograd {  // 3x3, stride 1, dilation 1, one group
bool applies(const ConvShape& s);
int64_t tiles(const Maps& maps);
void value(const Maps& maps, const float* w, const ConvEnd& end, const Kernels& k);
void input_gradient(const Maps& maps, const float* w, const Kernels& k);
void weight_gradient(const Maps& maps, float* dw, const Kernels& k);
}  // namespace winograd

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace fovea::cpu
