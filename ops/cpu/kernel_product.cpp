// The matrix product of everything hot: a tile of 6 rows x a panel of columns stays in registers while the depth
// passes.
#include "ops/cpu/vec.h"

namespace fovea::cpu::FOVEA_KERNELS {
namespace {

struct Job {  // one register tile
  const float* a;
  int64_t lda;
  const float* b;
  int64_t k, n;
  float* c[kRows];
  bool add;
  Epilogue end;
};

// c[i,j] (+)= sum_k a[i,k] b[k,j]: R rows, N vectors of columns; a is [k,i] where kTransposed.
template <int R, int N, bool kTransposed> void tile(const Job& job) {
  Vec sum[R][N] = {};
  const float *a = job.a, *b = job.b;
  const int64_t row = kTransposed ? 1 : job.lda, next = kTransposed ? job.lda : 1;
  for (int64_t k = 0; k < job.k; ++k, a += next, b += N * kVector) {
    Vec v[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) v[j] = load(b + j * kVector);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const Vec s = Vec{} + a[i * row];
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) sum[i][j] += s * v[j];
    }
  }
  for (int j = 0; j < N; ++j) {  // the last vector may be cut off by the matrix' edge
    const int64_t cols = job.n - j * kVector;
    const Finish finish(job.end, j * kVector, cols);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      float* c = job.c[i] + j * kVector;
      finish(job.add ? sum[i][j] + load(c, cols) : sum[i][j], c);
    }
  }
}

using Function = void (*)(const Job&);
template <int R, bool kTransposed> Function by_width(int64_t vectors) {
  if constexpr (kVectors == 4) {
    if (vectors == 4) return tile<R, 4, kTransposed>;
    if (vectors == 3) return tile<R, 3, kTransposed>;
  }
  return vectors == 2 ? tile<R, 2, kTransposed> : tile<R, 1, kTransposed>;
}
template <bool kTransposed> Function choose(int64_t rows, int64_t vectors) {
  switch (rows) {
    case 1: return by_width<1, kTransposed>(vectors);
    case 2: return by_width<2, kTransposed>(vectors);
    case 3: return by_width<3, kTransposed>(vectors);
    case 4: return by_width<4, kTransposed>(vectors);
    case 5: return by_width<5, kTransposed>(vectors);
    default: return by_width<6, kTransposed>(vectors);
  }
}

}  // namespace

void product(const Product& p) {
  for (int64_t j = 0; j < p.n; j += kPanel) {
    const int64_t cols = least(kPanel, p.n - j), width = padded(cols);
    const auto pick = p.transposed ? choose<true> : choose<false>;
    const Function full = pick(kRows, width / kVector);
    Job job{p.a, p.lda, p.b + j * p.depth + p.first * width, p.k, cols, {}, p.add, p.end.from(j)};
    for (int64_t i = 0; i < p.m; i += kRows) {
      const int64_t rows = least(kRows, p.m - i);
      for (int64_t r = 0; r < rows; ++r) job.c[r] = (p.rows ? p.rows[i + r] : p.c + (i + r) * p.ldc) + j;
      for (int64_t r = 0; r < rows; ++r) {
        if (p.end.residual) prefetch(p.end.residual + (job.c[r] - p.end.y), cols);
      }
      job.a = p.transposed ? p.a + i : p.a + i * p.lda;
      (rows == kRows ? full : pick(rows, width / kVector))(job);
    }
  }
}

void add(const float* x, int64_t n, float* sum) {
  int64_t i = 0;
  for (; i + kVector <= n; i += kVector) store(sum + i, load(sum + i) + load(x + i));
  for (; i < n; ++i) sum[i] += x[i];
}

}  // namespace fovea::cpu::FOVEA_KERNELS
