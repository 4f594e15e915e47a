// The CUDA device as a Runtime.
#pragma once
#include "core/device.h"

namespace fovea {

// Throws Code::impossible where there is no driver, no device or one that this build has no code for; Code::usage for
// an index that no device has.
std::unique_ptr<Runtime> make_cuda_runtime(int index);

}  // namespace fovea
