// One check for every row of the op table: gradients in f64, rehearsal of CUDA blocks, thread counts, f32 against f64.
#pragma once
#include <string>

#include "ops/draw.h"

namespace fovea {

struct CheckResult {
  std::string op;
  int shapes = 0;              // samples drawn
  bool differentiable = false;
  double worst = 0;            // largest relative error of a gradient (values only: 0, or 1 where a check failed)
  std::string where;           // what the worst sample was: its shapes, the input and the element
  bool ok(double tolerance = 1e-6) const { return worst < tolerance; }
};

// Draws `shapes` samples of the row. For each:
//  - dL/dx of every element of every f64 input, L a random linear functional of the output, against central differences;
//    the error is |analytic - numeric| / max(|analytic|, |numeric|, size of the gradient's largest element, 1e-3);
//  - value and gradient under rehearsal() (equal up to the order of sums) and with 1, 2 and 3 threads (equal bits);
//  - f32 inputs give the f64 values up to f32's precision.
// A row without a gradient is checked for equal and finite results. Throws nothing: a failure is worst = infinity.
CheckResult gradcheck(const OpCase& row, int shapes = 24, uint64_t seed = 1);

}  // namespace fovea
