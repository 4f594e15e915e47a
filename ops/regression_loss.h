// Distances between rows, for box regression: a [R,D], b [R,D] -> [R], each the sum over a row's D elements.
// They throw for other shapes and for two types; smooth_l1 also for a negative beta.
#pragma once
#include "core/tensor.h"

namespace fovea {

// |d| < beta: d^2 / (2 beta), otherwise |d| - beta / 2 (Fast R-CNN, eq. 3, with its kink at beta). beta 0: |d|.
Tensor smooth_l1(const Tensor& a, const Tensor& b, double beta = 1);
Tensor l1_loss(const Tensor& a, const Tensor& b);  // |d|
Tensor l2_loss(const Tensor& a, const Tensor& b);  // d^2

}  // namespace fovea
