// The number of threads, as it was again at the end of a scope: also where a check throws.
#pragma once
#include "core/threads.h"

namespace fovea::test {

struct Threads {
  Threads() = default;
  explicit Threads(int threads) { set_num_threads(threads); }
  ~Threads() { set_num_threads(before); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  const int before = num_threads();
};

}  // namespace fovea::test
