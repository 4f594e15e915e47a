// Sums of narrow groups: a lane is an output channel, and what it reads lies spread below it.
#include "ops/cpu/vec.h"

namespace fovea::cpu::FOVEA_KERNELS {
namespace {

typedef int Index __attribute__((vector_size(kVector * 4)));
inline Vec picked(Vec v, Index from) {  // lane l: v[from[l]]
#if defined(__GNUC__) && !defined(__clang__)
  return __builtin_shuffle(v, from);
#else
  Vec out;
  for (int l = 0; l < kVector; ++l) out[l] = v[from[l]];
  return out;
#endif
}

template <bool kSingle> inline Vec read(const float* e) {
  if constexpr (kSingle) return *e - Vec{};
  else return load(e);
}
template <class T> const float* below(const Lanes<T>& s, int64_t j) { return s.e + (s.single ? j / s.o * s.c : j); }

// kPixels results of a row: what is loaded of the weights serves all of them.
template <int kPixels, bool kSingle, class T> void results(const Lanes<T>& s, int64_t p, int64_t j) {
  Vec sum[kPixels] = {};
  const float* first = below(s, j) + p * s.step;
  for (int64_t d = 0; d < s.depth; ++d) {
    const float* e = first + s.at[d];
    const Vec w = load(s.w + d * s.ld + j);
#pragma GCC unroll 8
    for (int i = 0; i < kPixels; ++i) sum[i] += read<kSingle>(e + i * s.step) * w;
  }
  const Finish<T> finish(s.end, j, s.n - j);
#pragma GCC unroll 8
  for (int i = 0; i < kPixels; ++i) finish(sum[i], s.y + (p + i) * s.pixel + j);
}
template <bool kSingle, class T> void row(const Lanes<T>& s, int64_t j) {
  int64_t p = 0;
  for (; p + 8 <= s.m; p += 8) results<8, kSingle>(s, p, j);
  for (; p + 4 <= s.m; p += 4) results<4, kSingle>(s, p, j);
  for (; p < s.m; ++p) results<1, kSingle>(s, p, j);
}

// kDepths gradients of weights: what is loaded of dy serves all of them.
template <int kDepths, bool kSingle, class T> void gradients(const Lanes<T>& s, int64_t d, int64_t j) {
  Vec sum[kDepths];
  const float* e[kDepths];
#pragma GCC unroll 9
  for (int i = 0; i < kDepths; ++i) sum[i] = load(s.dw + (d + i) * s.ld + j), e[i] = below(s, j) + s.at[d + i];
  for (int64_t p = 0; p < s.m; ++p) {
    const Vec dy = load(s.dy + p * s.pixel + j, s.n - j);
#pragma GCC unroll 9
    for (int i = 0; i < kDepths; ++i) sum[i] += read<kSingle>(e[i] + p * s.step) * dy;
  }
#pragma GCC unroll 9
  for (int i = 0; i < kDepths; ++i) store(s.dw + (d + i) * s.ld + j, sum[i]);
}
template <bool kSingle, class T> void column(const Lanes<T>& s, int64_t j) {
  int64_t d = 0;
  for (; d + 9 <= s.depth; d += 9) gradients<9, kSingle>(s, d, j);
  for (; d + 3 <= s.depth; d += 3) gradients<3, kSingle>(s, d, j);
  for (; d < s.depth; ++d) gradients<1, kSingle>(s, d, j);
}

}  // namespace

template <class T> void spread(const Spread<T>& s) {
  const int64_t c = s.c, o = s.o, ld = s.ld, lanes = s.lanes, inputs = lanes / o * c, some = kVector / o * c;
  const bool near = kVector % o == 0 && c <= o;  // a vector of inputs has what a vector of outputs reads
  Index first{};
  for (int l = 0; l < kVector && near; ++l) first[l] = int(l / o * c);
  for (int64_t q = 0; q < s.count; ++q) {
    const T* x = s.x + q * s.ldx;
    float* e = s.e + q * s.pixel;
    if (s.single) {
      for (int64_t j = 0; j < inputs; j += kVector) store(e + j, load(x + j, inputs - j), inputs - j);
    } else if (near) {
      for (int64_t j = 0, at = 0; j < lanes; j += kVector, at += some) {
        const Vec v = load(x + at, inputs - at);
        float* to = e + j;
        for (int i = 0; i < c; ++i, to += ld) store(to, picked(v, first + i));
      }
    } else {
      for (int64_t j = 0; j < lanes; j += o, x += c)
        for (int64_t i = 0; i < c; ++i)
          for (int64_t l = 0; l < o; ++l) e[i * ld + j + l] = float(x[i]);
    }
  }
}

template <class T> void lanes(const Lanes<T>& s) {
  for (int64_t j = 0; j < s.n; j += kVector) s.single ? row<true>(s, j) : row<false>(s, j);
}
template <class T> void lanes_gradient(const Lanes<T>& s) {
  for (int64_t j = 0; j < s.n; j += kVector) s.single ? column<true>(s, j) : column<false>(s, j);
}

#define FOVEA_LANES(T)                    \
  template void spread(const Spread<T>&); \
  template void lanes(const Lanes<T>&);   \
  template void lanes_gradient(const Lanes<T>&);
FOVEA_STORED(FOVEA_LANES)

}  // namespace fovea::cpu::FOVEA_KERNELS
