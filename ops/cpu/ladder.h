// From the definition of a convolution to the library's kernels, rung by rung: what `fovea bench ladder` times.
#pragma once
#include <vector>

#include "core/tensor.h"

namespace fovea::cpu {

// One way to compute y = conv2d(x, w) with a kernel of 3x3 and padding 1: x [N,H,W,C], w [3,3,C,O] -> y [N,H,W,O], O a
// multiple of kLadderWidth.
struct Rung {
  const char *name, *why;  // why it is faster than the rung below
  DType images;            // of x and y
  double tolerance;        // largest error against f64, as a part of the largest result
  Tensor (*run)(const Tensor& x, const Tensor& w);
};
constexpr int64_t kLadderWidth = 32;
std::vector<Rung> ladder();  // the rungs that this processor has, from the bottom

}  // namespace fovea::cpu
