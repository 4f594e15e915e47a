// Which runtime is in use: CUDA's where this build has it and a device answers, or the one that a test has set.
#include "core/device.h"

#include "core/allocator.h"
#include "core/error.h"
#if FOVEA_CUDA
#include "core/cuda/runtime.h"
#endif

namespace fovea {
namespace {

int chosen = 0;
std::unique_ptr<Runtime>& current() {
  static auto* slot = new std::unique_ptr<Runtime>;  // never destroyed: tensors in static storage may outlive it
  return *slot;
}

}  // namespace

Runtime& runtime() {
  if (!current()) {
#if FOVEA_CUDA
    current() = make_cuda_runtime(chosen);
#else
    fail(Code::resource,
         "this build has no CUDA device\n  hint: build with `cmake --preset cuda`, or use --device cpu");
#endif
  }
  return *current();
}

bool has_device(std::string* why_not) {
  try {
    return runtime(), true;
  } catch (const Error& error) {
    if (why_not) *why_not = error.what();
    return false;
  }
}

void choose_device(int index) {
  check(!current() || index == chosen, "choose_device: device ", chosen, " is in use already");
  chosen = index;
}

void set_runtime(std::unique_ptr<Runtime> replacement) {
  if (current()) {
    check(memory_stats(Device::cuda).current == 0, "set_runtime: tensors of the device are still alive");
    for (auto stream : {Runtime::Stream::compute, Runtime::Stream::copy}) current()->synchronize(stream);
    trim_cache(Device::cuda);
  }
  current() = std::move(replacement);
}

}  // namespace fovea
