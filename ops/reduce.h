// Reductions over any axes: sum, mean, max, and argmax.
#pragma once
#include <vector>

#include "core/autograd.h"

namespace fovea {

// Axes count from the end when negative; none given means all of them. `keep` leaves an axis of 1 where one was
// reduced. Throws on an axis out of range or given twice. Results do not depend on the number of threads.
Tensor sum(const Tensor& x, std::vector<int> axes = {}, bool keep = false);   // of nothing: 0
Tensor mean(const Tensor& x, std::vector<int> axes = {}, bool keep = false);  // of nothing: NaN
// The gradient goes to the first of equal values in row-major order. NaN wins over numbers. Throws for the max of
// nothing.
Tensor max(const Tensor& x, std::vector<int> axes = {}, bool keep = false);
Tensor argmax(const Tensor& x, int axis);  // i64, without that axis: the first of equal values; no gradient

}  // namespace fovea
