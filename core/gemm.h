// Matrix products, the one heavy primitive of every device: OpenBLAS' here, cuBLASLt's there.
#pragma once
#include <cstdint>

#include "core/allocator.h"

namespace fovea {

// The product and what follows it (core/device.h). The processor runs it in fixed chunks of rows, or of columns where
// there are more of these, each on one thread.
template <class T> void gemm(Device device, const Gemm<T>& product);

// What the factors of f32 may be rounded to: not at all, as it is at first; of products and convolutions to tf32, with
// 10 bits after the point; of convolutions to bf16, with 7. Sums and results are f32. A GPU does so, and a processor
// with tile registers (AMX) for bf16; others round nothing.
enum class Factors { f32, tf32, bf16 };
void round_factors(Factors to);
Factors factors();
struct WithFactors {  // while it lives
  explicit WithFactors(Factors to) { round_factors(to); }
  ~WithFactors() { round_factors(before); }
  WithFactors(const WithFactors&) = delete;
  WithFactors& operator=(const WithFactors&) = delete;
  const Factors before = factors();
};
inline bool tf32() { return factors() == Factors::tf32; }

const char* blas_name();  // "OpenBLAS 0.3.21 (SkylakeX)" or "builtin"

}  // namespace fovea
