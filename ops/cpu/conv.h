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
// `prepared`: the transformed weights are there already, as in inference.
ConvChoice choose(const Maps& maps, ConvAlgo algo, bool prepared = false);

// `kept`: the weights as a tensor whose prepared form may be kept for the next call (inference), or null.
void conv_value(const Maps& maps, const float* w, const float* b, bool relu, ConvAlgo algo, const Kernels& k,
                const Tensor* kept = nullptr);
void conv_input_gradient(const Maps& maps, const float* w, ConvAlgo algo, const Kernels& k);
void conv_weight_gradient(const Maps& maps, float* dw, ConvAlgo algo, const Kernels& k);

// Forgets what is kept for these weights: they are about to change.
void forget_prepared(const Tensor& w);

// The two families of algorithms. prepare() packs or transforms weights into prepared_size() floats for value().
namespace direct {
int64_t prepared_size(const ConvShape& s, const Kernels& k);
void prepare(const ConvShape& s, const float* w, float* prepared, const Kernels& k);
void value(const Maps& maps, const float* prepared, const float* b, bool relu, const Kernels& k);
void input_gradient(const Maps& maps, const float* w, const Kernels& k);
void weight_gradient(const Maps& maps, float* dw, const Kernels& k);
}  // namespace direct
namespace winograd {  // 3x3, stride 1, dilation 1, one group
bool applies(const ConvShape& s);
int64_t tiles(const Maps& maps);
int64_t prepared_size(const ConvShape& s, const Kernels& k);
void prepare(const ConvShape& s, const float* w, float* prepared, const Kernels& k);
void value(const Maps& maps, const float* prepared, const float* b, bool relu, const Kernels& k);
void input_gradient(const Maps& maps, const float* w, const Kernels& k);
void weight_gradient(const Maps& maps, float* dw, const Kernels& k);
}  // namespace winograd

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

}  // namespace fovea::cpu
