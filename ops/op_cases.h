// The op table: one row per op. Gradient checks, rehearsal, thread invariance and benchmarks all run on it.
#pragma once
#include "ops/samples.h"

namespace fovea {

const std::vector<OpCase>& op_cases();

}  // namespace fovea
