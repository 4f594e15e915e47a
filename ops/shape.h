// Ops that move elements: reshape and leading-axis slices share storage, everything else copies. All throw where
// shapes, axes or an index do not fit.
#pragma once
#include <utility>
#include <vector>

#include "core/autograd.h"

namespace fovea {

Tensor reshape(const Tensor& x, const Shape& shape);  // same number of elements; shares storage
// [begin, end) along an axis; shares storage where all axes before it have size 1.
Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end);
Tensor concat(const std::vector<Tensor>& parts, int axis);  // parts agree in all other axes; any element type
// y's axis i is x's axis order[i]; a copy, but of an order that changes nothing.
Tensor permute(const Tensor& x, const std::vector<int>& order);
// width[axis] = {before, after}, one pair per axis, never negative; the border is filled with `value`.
Tensor pad(const Tensor& x, const std::vector<std::pair<int64_t, int64_t>>& width, double value = 0);
// y[.., i, ..] = x[.., index[i], ..] along the axis; index i64 [M] in 0..size-1, repeats are allowed.
// The gradient of a repeated row is summed in index order.
Tensor gather(const Tensor& x, const Tensor& index, int axis);
// y[r] = x[r, index[r]]; x [R,K], index i64 [R] in 0..K-1. Of an index on a device the caller vouches for that: reading
// it would wait.
Tensor pick(const Tensor& x, const Tensor& index);

}  // namespace fovea
