// The CUDA device as a Runtime.
#pragma once
#include "core/device.h"

namespace fovea {

// Throws Code::resource where there is no driver, no device or one that this build has no code for, or none of that
// index.
std::unique_ptr<Runtime> make_cuda_runtime(int index);

}  // namespace fovea
