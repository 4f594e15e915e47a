// Matrix products, the one heavy primitive of every device: OpenBLAS' here, cuBLASLt's there.
#pragma once
#include <cstdint>

#include "core/allocator.h"

namespace fovea {

// C [m,n] = alpha op(A) op(B) + beta C, row-major; op(A) is [m,k], op(B) is [k,n]; ld* are row strides as stored.
// Where beta is 0, C is not read. T = float or double. Runs in fixed chunks of rows, or of columns where there
// are more of these, each on one thread.
template <class T>
void gemm(Device device, Trans ta, Trans tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
          const T* b, int64_t ldb, T beta, T* c, int64_t ldc);
template <class T> void gemm(Device device, const Gemm<T>& product);  // the same, with what follows it

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
