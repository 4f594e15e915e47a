// The k largest elements, in a total order: value descending, then index ascending. NaN is below everything.
#pragma once
#include "core/tensor.h"

namespace fovea {

struct TopK {
  Tensor values, indices;  // [min(k, n)] of x's type, and i64
};

// x [n], f32 or f64. Linear in n; on a device, where it sorts for f64 and k above 1024, n log^2 n. No gradient. Throws
// for other types and ranks and a negative k.
TopK top_k(const Tensor& x, int64_t k);

}  // namespace fovea
