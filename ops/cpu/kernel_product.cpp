// The matrix product of everything hot: a tile of 6 rows x a panel of columns stays in registers while the depth
// passes.
#include "ops/cpu/vec.h"

namespace fovea::cpu::FOVEA_KERNELS {
namespace {

template <class T> struct Job {  // one register tile
  const T* a;
  int64_t lda;
  const T* b;
  const Run *runs, *last;
  int64_t n;
  float* c[kRows];
  bool add;
  T* y[kRows];  // null: the sums go to c
  Epilogue<T> end;
};

// What one step of the depth takes from a row of A and a column of B: a number, or two of bf16 side by side.
template <class T> constexpr int kDepths = 4 / int{sizeof(T)};
[[maybe_unused]] inline Vec everywhere(const float* a) { return *a - Vec{}; }
[[maybe_unused]] inline Vec multiply_add(const float*, Vec sum, Vec a, Vec b) { return sum + a * b; }
#if defined(__AVX512BF16__)
inline Vec everywhere(const bf16* a) {
  typedef uint32_t Pair __attribute__((may_alias, aligned(2)));
  return reinterpret_cast<Vec>(*reinterpret_cast<const Pair*>(a) + Bits{});
}
inline Vec multiply_add(const bf16*, Vec sum, Vec a, Vec b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}
#endif
template <class T> inline Vec load_bits(const T* p) { return *reinterpret_cast<const Loose*>(p); }

// Takes the sums of a whole tile where they go, straight from the registers.
template <int R, int N, class T> inline void deliver(const Job<T>& job, Vec (&sum)[R][N]) {
  if (job.add) {
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) sum[i][j] += load(job.c[i] + j * kVector);
  }
  if (!job.y[0]) {
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) store(job.c[i] + j * kVector, sum[i][j]);
    return;
  }
#pragma GCC unroll 8
  for (int j = 0; j < N; ++j) {
    const Finish<T> finish(job.end, j * kVector, kVector);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) finish(sum[i][j], job.y[i] + j * kVector);
  }
}

// The same for tiles at the matrix' edges, of `rows` x `vectors` sums; the last vector may be cut off. Once for all of
// these: in each of their functions it would be most of the code.
template <class T> [[gnu::noinline]] void deliver_rest(const Job<T>& job, const Vec* sums, int rows, int vectors) {
  for (int j = 0; j < vectors; ++j) {
    const int64_t at = j * kVector, cols = job.n - at;
    const Finish<T> finish(job.end, at, cols);
    for (int i = 0; i < rows; ++i) {
      const Vec sum = sums[i * vectors + j], v = job.add ? sum + load(job.c[i] + at, cols) : sum;
      if (job.y[i]) finish(v, job.y[i] + at);
      else store(job.c[i] + at, v, cols);
    }
  }
}

// c[i,j] (+)= sum_k a[i,k] b[k,j]: R rows, N vectors of columns; a is [k,i] where kTransposed.
template <class T, int R, int N, bool kTransposed> void tile(const Job<T>& job) {
  constexpr int64_t depths = kDepths<T>, width = N * kVector;
  Vec sum[R][N] = {};
  const int64_t row = kTransposed ? depths : job.lda, next = kTransposed ? job.lda : depths;
  for (const Run* run = job.runs; run < job.last; ++run) {
    const T *a = job.a + run->a, *b = job.b + run->b * width;
    for (int64_t k = 0; k < run->length; k += depths, a += next, b += width * depths) {
      Vec v[N];
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) v[j] = load_bits(b + j * kVector * depths);
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) {
        const Vec s = everywhere(a + i * row);
#pragma GCC unroll 8
        for (int j = 0; j < N; ++j) sum[i][j] = multiply_add(a, sum[i][j], s, v[j]);
      }
    }
  }
  if (R == kRows && N == kVectors && job.n == width) return deliver(job, sum);  // most are whole
  Vec done[R][N];  // in memory, so that the sums themselves, never indexed by a variable, need not be
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) done[i][j] = sum[i][j];
  deliver_rest(job, done[0], R, N);
}

template <class T> using Function = void (*)(const Job<T>&);
template <class T, int R, bool kTransposed> Function<T> by_width(int64_t vectors) {
  if constexpr (kVectors == 4) {
    if (vectors == 4) return tile<T, R, 4, kTransposed>;
    if (vectors == 3) return tile<T, R, 3, kTransposed>;
  }
  return vectors == 2 ? tile<T, R, 2, kTransposed> : tile<T, R, 1, kTransposed>;
}
template <class T, bool kTransposed> Function<T> choose(int64_t rows, int64_t vectors) {
  switch (rows) {
    case 1: return by_width<T, 1, kTransposed>(vectors);
    case 2: return by_width<T, 2, kTransposed>(vectors);
    case 3: return by_width<T, 3, kTransposed>(vectors);
    case 4: return by_width<T, 4, kTransposed>(vectors);
    case 5: return by_width<T, 5, kTransposed>(vectors);
    default: return by_width<T, 6, kTransposed>(vectors);
  }
}

}  // namespace

template <class T> void product(const Product<T>& p) {
  for (int64_t j = 0; j < p.n; j += kPanel) {
    const int64_t cols = least(kPanel, p.n - j), width = padded(cols);
    const auto pick = p.transposed ? choose<T, true> : choose<T, false>;
    const Function<T> full = pick(kRows, width / kVector);
    Job<T> job{p.a, p.lda, p.b + j * p.depth, p.runs, p.runs + p.count, cols, {}, p.add, {}, p.end.from(j)};
    for (int64_t i = 0; i < p.m; i += kRows) {
      const int64_t rows = least(kRows, p.m - i);
      for (int64_t r = 0; r < rows; ++r) {  // where a tile ends is asked for before it begins
        if (p.c) job.c[r] = p.c + (i + r) * p.ldc + j;
        if (p.add) prefetch(job.c[r], cols);
        if (!p.rows) continue;
        job.y[r] = p.rows[i + r] + j;
        prefetch(job.y[r], cols);
        if (p.end.residual) prefetch(p.end.residual + (job.y[r] - p.end.y), cols);
      }
      job.a = p.transposed ? p.a + i * kDepths<T> : p.a + i * p.lda;
      (rows == kRows ? full : pick(rows, width / kVector))(job);
    }
  }
}
#define FOVEA_PRODUCT(T) template void product(const Product<T>&);
FOVEA_STORED(FOVEA_PRODUCT)

void add(const float* x, int64_t n, float* sum) {
  int64_t i = 0;
  for (; i + kVector <= n; i += kVector) store(sum + i, load(sum + i) + load(x + i));
  for (; i < n; ++i) sum[i] += x[i];
}

}  // namespace fovea::cpu::FOVEA_KERNELS
