// One check for every row of the op table: gradients in f64, rehearsal of CUDA blocks, thread counts, f32 against f64.
#pragma once
#include <string>

#include "ops/samples.h"

namespace fovea {

struct CheckResult {
  std::string op;
  int shapes = 0;  // samples drawn
  bool differentiable = false;
  double worst = 0;   // largest relative error of a gradient; infinite where another check failed
  std::string where;  // what the worst sample was: its shapes, the input and the element
  bool ok(double tolerance = 1e-6) const { return worst < tolerance; }
};

// Draws `shapes` samples of the row. For each:
//  - dL/dx of every element of every f64 input (all get one, or none does), L a random linear functional of the output,
//  against differences of
//    fourth order: |analytic - numeric| / max(|analytic|, |numeric|, a thousandth of the input's largest gradient or of
//    1);
//  - value and gradient are finite, and equal under rehearsal() up to the order of sums;
//  - f32 inputs give the f64 values and gradients up to f32's precision.
//  - with a `device`: the same f64 values and gradients there up to the order of sums, with equal bits a second time;
//    and where it computes in f32, an error of at most four times the processor's, or of 1e-6; of 4e-3 and 3e-2 with
//    factors of tf32 and bf16. The same on one sample whose sizes are multiples of 8.
// And on one large sample: 1, 2 and 3 threads give equal bits. A row without a gradient gets the same checks of its
// values. Throws nothing: a check that fails makes `worst` infinite. Changes the number of threads while it runs.
CheckResult gradcheck(const OpCase& row, int shapes = 24, uint64_t seed = 1, Device device = Device::cpu);

}  // namespace fovea
