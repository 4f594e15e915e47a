// Moving numbers to where a product reads them fastest: patches of images into rows, weights into panels.
#include "ops/cpu/vec.h"

namespace fovea::cpu::FOVEA_KERNELS {
namespace {

// By vectors, the last of which overlaps the one before; where there are too few numbers for one, by shorter ones.
template <int kBytes = kVector * 4, class T> inline void copy(const T* x, int64_t n, T* y) {
  typedef char Any __attribute__((vector_size(kBytes), may_alias, aligned(2)));
  constexpr int64_t step = kBytes / int64_t{sizeof(T)};
  const auto part = [=](int64_t i) { *reinterpret_cast<Any*>(y + i) = *reinterpret_cast<const Any*>(x + i); };
  if (n < step) {
    if constexpr (kBytes > 16) return copy<kBytes / 2>(x, n, y);
    for (int64_t i = 0; i < n; ++i) y[i] = x[i];
    return;
  }
  for (int64_t i = 0; i + step < n; i += step) part(i);
  part(n - step);
}
template <class T> inline void zero(T* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = {};
}

// A row of a panel from rows of numbers: y[j] = x[j]; or two rows side by side, y[j] = (x[j], below[j]).
[[maybe_unused]] inline void fill_row(const float* x, const float*, int64_t cols, int64_t width, float* y) {
  copy(x, cols, y);
  zero(y + cols, width - cols);
}
#if defined(__AVX512BF16__)
inline Bits wide(const float* x, int64_t n) { return __builtin_convertvector(rounded(load(x, n)), Bits); }
inline Bits wide(const bf16* x, int64_t n) { return reinterpret_cast<Bits>(load(x, n)) >> 16; }
template <class S> inline void fill_row(const S* x, const S* below, int64_t cols, int64_t width, bf16* y) {
  for (int64_t j = 0; j < width; j += kVector) {
    const Bits low = wide(x + j, cols - j), high = below ? wide(below + j, cols - j) : Bits{};
    *reinterpret_cast<LooseBits*>(y + 2 * j) = low | high << 16;
  }
}
#endif

#if defined(__GNUC__) && !defined(__clang__)
// A square of vectors is transposed by swapping its off-diagonal quarters, then theirs, ...
inline void transpose_square(Vec (&v)[kVector]) {
  typedef int Index __attribute__((vector_size(kVector * 4)));
#pragma GCC unroll 4
  for (int half = 1; half < kVector; half *= 2) {
    Index upper, lower;
    for (int l = 0; l < kVector; ++l) {
      upper[l] = l & half ? kVector + l - half : l;
      lower[l] = l & half ? kVector + l : l + half;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kVector; ++i) {
      if (i & half) continue;
      const Vec a = v[i], b = v[i + half];
      v[i] = __builtin_shuffle(a, b, upper), v[i + half] = __builtin_shuffle(a, b, lower);
    }
  }
}
#else
inline void transpose_square(Vec (&v)[kVector]) {
  for (int i = 0; i < kVector; ++i)
    for (int j = 0; j < i; ++j) {
      const float t = v[i][j];
      v[i][j] = v[j][i], v[j][i] = t;
    }
}
#endif

}  // namespace

void transpose(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y, int64_t ldy) {
  for (int64_t c = 0; c < cols; c += kVector)
    for (int64_t r = 0; r < rows; r += kVector) {
      Vec v[kVector];
      for (int i = 0; i < kVector; ++i) {
        v[i] = r + i < rows ? load(x + (r + i) * ldx + c, cols - c) : Vec{};
        prefetch(x + (r + i + kVector) * ldx + c, 1);
      }
      transpose_square(v);
      for (int i = 0; i < kVector && c + i < cols; ++i) store(y + (c + i) * ldy + r, v[i], rows - r);
    }
}

template <class T>
void gather(const Patches<T>& p, int64_t begin, int64_t count, int64_t first, int64_t k, T* a, int64_t lda) {
  const bool touch = p.touch();
  const int64_t runs = p.runs(), length = p.run(), line = p.w * p.ldx;
  int64_t j = begin % p.cols, i = begin / p.cols % p.rows, n = begin / p.cols / p.rows;
  for (int64_t r = 0; r < count; ++r) {
    const T* image = p.x + n * p.h * line;
    for (int64_t run = first / length; run < runs && run * length < first + k; ++run) {
      const int64_t from = most(first, run * length) - run * length,
                    to = least(first + k, (run + 1) * length) - run * length;
      const int64_t row = i * p.step_h + p.base_h + p.row_of(run) * p.delta_h;
      const int64_t at = j * p.step_w + p.base_w + p.col_of(run) * p.delta_w;
      T* y = a + r * lda + run * length + from - first;
      // the numbers [low, high) of the run lie inside the image
      const bool inside = row >= 0 && row < p.h;
      int64_t low = touch ? most(from, -at * p.c) : at < 0 ? to : from;
      int64_t high = touch ? least(to, (p.w - at) * p.c) : at < p.w ? to : from;
      if (!inside || low >= high) low = high = to;
      zero(y, low - from);
      if (low < high) copy(image + row * line + at * p.ldx + low, high - low, y + low - from);
      zero(y + high - from, to - high);
    }
    if (sizeof(T) == 2 && k % 2) a[r * lda + k] = {};
    if (++j == p.cols) j = 0, ++i;
    if (i == p.rows) i = 0, ++n;
  }
}

template <class S, class T>
void pack(const S* src, int64_t ld, int64_t k, int64_t n, T* b, int64_t depth, int64_t first) {
  constexpr int64_t step = 4 / int64_t{sizeof(T)};
  for (int64_t j = 0; j < n; j += kPanel) {
    const int64_t cols = least(kPanel, n - j), width = padded(cols);
    T* panel = b + j * depth + first * width;
    for (int64_t r = 0; r < k; r += step) {
      const S* row = src + r * ld + j;
      for (int64_t next = 0; next < step; ++next) prefetch(row + (8 + next) * ld, cols);
      fill_row(row, r + 1 < k ? row + ld : nullptr, cols, width, panel + r * width);
    }
  }
}

// What a lane holds of n numbers that lie together, from x on: one each, or two of bf16.
inline Vec load_lanes(const float* x, int64_t n, const float*) { return load(x, n); }
#if defined(__AVX512BF16__)
inline Vec load_lanes(const float* x, int64_t n, const bf16*) {
  const Vec low = load(x, n), high = n > kVector ? load(x + kVector, n - kVector) : Vec{};
  return reinterpret_cast<Vec>(_mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(high), reinterpret_cast<__m512>(low)));
}
#endif

template <class T>
void pack_turned(const float* src, int64_t ld, int64_t k, int64_t n, T* b, int64_t depth, int64_t first) {
  constexpr int64_t step = 4 / int64_t{sizeof(T)}, rows = kVector * step;  // depths of a lane, of a square
  if (first % step != 0) {  // the second number of a pair whose first one is there
    for (int64_t j = 0; j < n; ++j) {
      const int64_t panel = j / kPanel * kPanel, width = padded(least(kPanel, n - panel));
      b[panel * depth + (first - 1) * width + (j - panel) * step + 1] = T(src[j * ld]);
    }
    ++src, ++first, --k;
  }
  for (int64_t r = 0; r < k; r += rows)
    for (int64_t j = 0; j < n; j += kVector) {
      const int64_t panel = j / kPanel * kPanel, width = padded(least(kPanel, n - panel));
      Vec v[kVector];
      for (int i = 0; i < kVector; ++i) {
        const float* x = src + (j + i) * ld + r;
        v[i] = j + i < n ? load_lanes(x, k - r, b) : Vec{};
        prefetch(x + kVector * ld, rows);
      }
      transpose_square(v);
      T* y = b + panel * depth + (first + r) * width + (j - panel) * step;
      for (int i = 0; i < kVector && r + i * step < k; ++i, y += width * step) *reinterpret_cast<Loose*>(y) = v[i];
    }
}

#define FOVEA_GATHER(T) template void gather(const Patches<T>&, int64_t, int64_t, int64_t, int64_t, T*, int64_t);
#define FOVEA_PACK(S, T) template void pack(const S*, int64_t, int64_t, int64_t, T*, int64_t, int64_t);
#define FOVEA_TURNED(T) template void pack_turned(const float*, int64_t, int64_t, int64_t, T*, int64_t, int64_t);
FOVEA_STORED(FOVEA_GATHER)
FOVEA_STORED(FOVEA_TURNED)
#if defined(__AVX512BF16__)
FOVEA_PACK(float, bf16)
FOVEA_PACK(bf16, bf16)
#else
FOVEA_PACK(float, float)
#endif

}  // namespace fovea::cpu::FOVEA_KERNELS
