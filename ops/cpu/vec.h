// The vectors of the instruction set that a kernel file is compiled for, through gcc's vector extensions (clang has
// them too).
#pragma once
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif
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
#if defined(__AVX512BF16__)
#define FOVEA_STORED(F) F(bf16)  // the others are those of v4
typedef uint32_t Bits __attribute__((vector_size(64), may_alias));
typedef uint32_t LooseBits __attribute__((vector_size(64), may_alias, aligned(2)));
typedef uint16_t Half __attribute__((vector_size(32), may_alias, aligned(2)));
inline Half rounded(Vec v) { return reinterpret_cast<Half>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(v))); }
inline Vec load(const bf16* p) {
  return reinterpret_cast<Vec>(__builtin_convertvector(*reinterpret_cast<const Half*>(p), Bits) << 16);
}
inline void store(bf16* p, Vec v) { *reinterpret_cast<Half*>(p) = rounded(v); }
#else
#define FOVEA_STORED(F) F(float)
#endif
template <class T> inline Vec load(const T* p, int64_t n) {  // the first n elements, zeros after them
  if (n >= kVector) return load(p);
  T part[kVector] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = p[i];
  return load(part);
}
template <class T> inline void store(T* p, Vec v, int64_t n) {
  if (n >= kVector) return store(p, v);
  T part[kVector];
  store(part, v);
  for (int64_t i = 0; i < n; ++i) p[i] = part[i];
}
inline void hold(Vec& v) {  // in a register, where the compiler would rather load it for each use
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
}
// Asks for n numbers that are needed soon: rows that lie far apart are nothing that the processor foresees.
template <class T> inline void prefetch(const T* p, int64_t n) {
  for (int64_t i = 0; i < n; i += 64 / int64_t{sizeof(T)}) __builtin_prefetch(p + i);
}
inline Vec positive(Vec v) { return v < 0 ? Vec{} : v; }  // NaN stays NaN
constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t padded(int64_t n) { return (n + kVector - 1) / kVector * kVector; }

// The epilogue of n columns from `column` on, for what is stored at y.
template <class T> struct Finish {
  Vec scale, bias;
  const Epilogue<T> end;  // a copy, or every store could change it
  int64_t n;
  Finish(const Epilogue<T>& e, int64_t column, int64_t count)
      : scale(e.scale ? load(e.scale + column, count) : Vec{} + 1.f),
        bias(e.bias ? load(e.bias + column, count) : Vec{}),
        end(e),
        n(count) {}
  void operator()(Vec v, T* y) const {
    if (end.scale) v *= scale;
    v += bias;
    if (end.residual) v += load(end.residual + (y - end.y), n);
    store(y, end.relu ? positive(v) : v, n);
  }
};

// The functions of the table, each in the kernel_*.cpp of its name.
template <class T> void product(const Product<T>& p);
template <class T>
void gather(const Patches<T>& p, int64_t begin, int64_t count, int64_t first, int64_t k, T* a, int64_t lda);
template <class S, class T>
void pack(const S* src, int64_t ld, int64_t k, int64_t n, T* b, int64_t depth, int64_t first);
template <class T>
void pack_turned(const float* src, int64_t ld, int64_t k, int64_t n, T* b, int64_t depth, int64_t first);
template <class T> void tile_input(const Tile<T>& t, int64_t channels, float* v, int64_t plane, Points points);
template <class T>
void tile_output(const float* m, int64_t plane, int64_t channels, T* y, int64_t row, int64_t pixel, int rows, int cols,
                 const Epilogue<T>& end);
template <class T>
void tile_gradient(const Tile<T>& t, int64_t channels, float* d, int64_t plane, int64_t depth, int64_t index,
                   Points points);
template <class T>
void filter(const T* w, int64_t tap, bool flipped, int64_t n, float* u, int64_t plane, int64_t depth, int64_t index);
template <class T> void spread(const Spread<T>& s);
template <class T> void lanes(const Lanes<T>& s);
template <class T> void lanes_gradient(const Lanes<T>& s);
void transpose(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y, int64_t ldy);
void add(const float* x, int64_t n, float* sum);
void filter_gradient(const float* du, int64_t plane, int64_t n, float* dw, int64_t tap);

}  // namespace fovea::cpu::FOVEA_KERNELS
