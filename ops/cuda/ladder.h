// From the definition of a convolution to the kernels of this folder, rung by rung: what `fovea bench ladder
// --device cuda` times.
#pragma once
#include "ops/cpu/ladder.h"

namespace fovea::cuda {

// From the bottom; x and w on the device. A device that is played runs the first three in f64.
std::vector<cpu::Rung> ladder();

}  // namespace fovea::cuda
