// The best of many numbers, and of many boxes, on a device, with the results of the processor, bit for bit; but scores
// that are lowered by an exponential, which two libraries round.
#pragma once
#include <vector>

#include "ops/nms.h"

namespace fovea::cuda {

// x [n] of f32 or f64, k <= n -> values [k] and indices i64 [k], in the order of fovea::top_k. Nothing waits.
std::vector<Tensor> top_k(const Tensor& x, int64_t k);

// boxes [R,4], scores [R] of the same type, classes i64 [R] or undefined -> i64 [K], as fovea::batched_nms. Waits for
// K.
Tensor nms(const Tensor& boxes, const Tensor& scores, const Tensor& classes, double iou);
// The same -> indices i64 [K] and lowered scores [K], as fovea::soft_nms. Waits for K.
std::vector<Tensor> soft_nms(const Tensor& boxes, const Tensor& scores, const Tensor& classes,
                             const SoftNmsOptions& options);

}  // namespace fovea::cuda
