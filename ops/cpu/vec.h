// The vectors of the instruction set that a kernel file is compiled for, through gcc's vector extensions (clang has
// them too).
#pragma once
#include <cstdint>

#include "ops/cpu/kernels.h"

#ifndef FOVEA_KERNELS
#define FOVEA_KERNELS fallback
#endif

namespace fovea::cpu::FOVEA_KERNELS {

#if defined(__AVX512F__)
constexpr int kVector = 16, kVectors = 4;  // a 6x64 tile of sums: 24 of 32 registers
#elif defined(__AVX2__)
constexpr int kVector = 8, kVectors = 2;  // 6x16: 12 of 16 registers
#elif defined(__aarch64__)
constexpr int kVector = 4, kVectors = 4;  // 6x16: 24 of 32
#else
constexpr int kVector = 4, kVectors = 2;  // 6x8
#endif
constexpr int kRows = 6, kPanel = kVector * kVectors;

typedef float Vec __attribute__((vector_size(kVector * 4), may_alias));
typedef float Loose __attribute__((vector_size(kVector * 4), may_alias, aligned(4)));

inline Vec load(const float* p) { return *reinterpret_cast<const Loose*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Loose*>(p) = v; }
inline Vec load(const float* p, int64_t n) {  // the first n elements, zeros after them
  if (n >= kVector) return load(p);
  float part[kVector] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = p[i];
  return load(part);
}
inline void store(float* p, Vec v, int64_t n) {
  if (n >= kVector) return store(p, v);
  float part[kVector];
  store(part, v);
  for (int64_t i = 0; i < n; ++i) p[i] = part[i];
}
// Asks for n floats that are needed soon: rows that lie far apart are nothing that the processor foresees.
inline void prefetch(const float* p, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(p + i);
}
inline Vec positive(Vec v) { return v < 0 ? Vec{} : v; }  // NaN stays NaN
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t padded(int64_t n) { return (n + kVector - 1) / kVector * kVector; }

// The epilogue of n columns from `column` on, for what is stored at y.
struct Finish {
  Vec scale, bias;
  const Epilogue& end;
  int64_t n;
  Finish(const Epilogue& e, int64_t column, int64_t count)
      : scale(e.scale ? load(e.scale + column, count) : Vec{} + 1.f),
        bias(e.bias ? load(e.bias + column, count) : Vec{}),
        end(e),
        n(count) {}
  void operator()(Vec v, float* y) const {
    if (end.scale) v *= scale;
    v += bias;
    if (end.residual) v += load(end.residual + (y - end.y), n);
    store(y, end.relu ? positive(v) : v, n);
  }
};

// The functions of the table, each in the kernel_*.cpp of its name.
void product(const Product& p);
void gather(const Patches& p, int64_t begin, int64_t count, int64_t first, int64_t k, float* a, int64_t lda);
void pack(const float* src, int64_t ld, bool transposed, int64_t k, int64_t n, float* b, int64_t depth, int64_t first);
void transpose(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y, int64_t ldy);
void add(const float* x, int64_t n, float* sum);
void tile_input(const Tile& t, int64_t channels, float* v, int64_t plane);
void tile_output(const float* m, int64_t plane, int64_t channels, float* y, int64_t row, int64_t pixel, int rows,
                 int cols, const Epilogue& end);
void tile_gradient(const Tile& t, int64_t channels, float* d, int64_t plane, int64_t depth, int64_t index);
void filter(const float* w, int64_t tap, bool flipped, int64_t n, float* u, int64_t plane, int64_t depth,
            int64_t index);
void filter_gradient(const float* du, int64_t plane, int64_t n, float* dw, int64_t tap);

}  // namespace fovea::cpu::FOVEA_KERNELS
