// Dropout with counter-based random numbers: the mask is a pure function of (seed, stream, element), never stored.
#pragma once
#include "core/autograd.h"

namespace fovea {

// Each element is 0 with probability p, else x / (1 - p) (Srivastava et al. 2014, inverted). 0 <= p < 1, taken to
// the next 1/65536; p = 0 returns x.
Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream);

}  // namespace fovea
