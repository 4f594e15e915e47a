// Convolutions of f32 and bf16 on the CPU: which algorithm for which shape, and the loops around the kernels.
#pragma once
#include <vector>

#include "ops/conv.h"
#include "ops/conv_reference.h"
#include "ops/cpu/kernels.h"

namespace fovea::cpu {

// T = float or bf16; weights and their gradients are f32 for both. Maps share weights, kernel, stride, ...: only n, h,
// w differ.
template <class T> using Maps = std::vector<ConvMap<T>>;

// Which algorithm a shape gets, and the numbers that decide (`fovea bench conv --explain`).
struct ConvChoice {
  bool winograd;
  int64_t tiles, least;  // 4x4 tiles of all results, and from how many on Winograd is chosen; 0 where it cannot be
  const char* why;
};
template <class T> ConvChoice choose(const Maps<T>& maps, ConvAlgo algo);

using ConvEnd = fovea::ConvEnd<float>;
template <class T> Epilogue<T> epilogue(const ConvEnd& end, const T* residual, const T* y) {
  return {end.scale, end.b, residual, y, end.relu};
}
template <class T>
void conv_value(const Maps<T>& maps, const float* w, const ConvEnd& end, ConvAlgo algo, const Kernels& k);
template <class T> void conv_input_gradient(const Maps<T>& maps, const float* w, ConvAlgo algo, const Kernels& k);
template <class T> void conv_weight_gradient(const Maps<T>& maps, float* dw, ConvAlgo algo, const Kernels& k);

// The two families of algorithms.
namespace direct {
template <class T> void value(const Maps<T>& maps, const float* w, const ConvEnd& end, const Kernels& k);
template <class T> void input_gradient(const Maps<T>& maps, const float* w, const Kernels& k);
template <class T> void weight_gradient(const Maps<T>& maps, float* dw, const Kernels& k);
}  // namespace direct
namespace winograd {  // 3x3, stride 1, dilation 1, one group
bool applies(const ConvShape& s);
template <class T> int64_t tiles(const Maps<T>& maps);
template <class T> void value(const Maps<T>& maps, const float* w, const ConvEnd& end, const Kernels& k);
template <class T> void input_gradient(const Maps<T>& maps, const float* w, const Kernels& k);
template <class T> void weight_gradient(const Maps<T>& maps, float* dw, const Kernels& k);
}  // namespace winograd

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace fovea::cpu
