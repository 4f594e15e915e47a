// Rows by index, and the sum of rows that went to one index: what gather, embedding and their gradients share.
#pragma once
#include "core/tensor.h"

namespace fovea {

// Throws unless `index` is i64 with all values in 0..size-1.
// Returns it on the processor, where the two below want it: an index that is on a device is waited for.
Tensor checked_index(const char* op, const Tensor& index, int64_t size);
// x [outer, size, inner] around `axis`, index i64 [M]: y [outer, M, inner].
Tensor gather_rows(const Tensor& x, const Tensor& index, int axis);
// The reverse: dx[.., s, ..] = the sum of dy[.., m, ..] over all m with index[m] = s, in order of m.
Tensor sum_rows(const Tensor& dy, const Tensor& index, int axis, int64_t size);
// dx [R, cols]: dy[r] in column index[r] of row r, otherwise 0. dy and index have R elements, where dy is.
Tensor one_a_row(const Tensor& dy, const Tensor& index, int64_t cols);

}  // namespace fovea
