// Sums of narrow groups: a lane is an output channel, and what it reads lies below it; or it is an input channel, and
// its sums turn to their outputs.
#include <utility>

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
template <class T> const float* below(const Lanes<T>& s, int64_t j) {
  return s.e + (s.below == Below::number ? j / s.o * s.c : j);
}

template <class T> bool wide(const Lanes<T>& s) { return s.below == Below::number && s.o % (2 * kVector) == 0; }

// kPixels results of a row, for kWide vectors of lanes from j on: what is loaded of the weights serves all pixels, and
// a single number all vectors, which are whole ones.
template <int kPixels, int kWide, bool kSingle, class T>
void results(const Lanes<T>& s, const float* e, T* y, int64_t j) {
  Vec sum[kPixels][kWide] = {};
  for (int64_t d = 0; d < s.depth; ++d) {
    const float* first = e + s.at[d];
    Vec w[kWide];
#pragma GCC unroll 2
    for (int v = 0; v < kWide; ++v) w[v] = load(s.w + d * s.ld + j + v * kVector);
#pragma GCC unroll 8
    for (int i = 0; i < kPixels; ++i) {
      const Vec x = read<kSingle>(first + i * s.step);
#pragma GCC unroll 2
      for (int v = 0; v < kWide; ++v) sum[i][v] += x * w[v];
    }
  }
#pragma GCC unroll 2
  for (int v = 0; v < kWide; ++v) {
    const Finish<T> finish(s.end, j + v * kVector, kSingle ? kVector : s.n - j);
#pragma GCC unroll 8
    for (int i = 0; i < kPixels; ++i) finish(sum[i][v], y + i * s.pixel + v * kVector);
  }
}
template <int kWide, bool kSingle, class T> void row(const Lanes<T>& s, const float* e, T* y, int64_t j) {
  constexpr int kMost = kWide == 2 && kVector < 16 ? 6 : 8;
  int64_t p = 0;
  for (; p + kMost <= s.m; p += kMost) results<kMost, kWide, kSingle>(s, e + p * s.step, y + p * s.pixel, j);
  for (; p + 4 <= s.m; p += 4) results<4, kWide, kSingle>(s, e + p * s.step, y + p * s.pixel, j);
  for (; p + 2 <= s.m; p += 2) results<2, kWide, kSingle>(s, e + p * s.step, y + p * s.pixel, j);
  for (; p < s.m; ++p) results<1, kWide, kSingle>(s, e + p * s.step, y + p * s.pixel, j);
}

// kDepths gradients of weights, for kWide vectors of lanes: what is loaded of dy serves all depths.
template <int kDepths, int kWide, bool kSingle, class T> void gradients(const Lanes<T>& s, int64_t d, int64_t j) {
  Vec sum[kDepths][kWide];
  const float* e[kDepths];
#pragma GCC unroll 9
  for (int i = 0; i < kDepths; ++i) {
    e[i] = below(s, j) + s.at[d + i];
#pragma GCC unroll 2
    for (int v = 0; v < kWide; ++v) sum[i][v] = load(s.dw + (d + i) * s.ld + j + v * kVector);
  }
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t p = 0; p < s.m; ++p) {
      Vec dy[kWide];
#pragma GCC unroll 2
      for (int v = 0; v < kWide; ++v) {
        const int64_t at = j + v * kVector;  // of whole vectors, but for AVX-512 the loop that asks is the faster one
        dy[v] = load(s.dy + r * s.row + p * s.pixel + at, kSingle && kVector < 16 ? kVector : s.n - at);
      }
#pragma GCC unroll 9
      for (int i = 0; i < kDepths; ++i) {
        const Vec x = read<kSingle>(e[i] + r * s.line + p * s.step);
#pragma GCC unroll 2
        for (int v = 0; v < kWide; ++v) sum[i][v] += x * dy[v];
      }
    }
#pragma GCC unroll 9
  for (int i = 0; i < kDepths; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < kWide; ++v) store(s.dw + (d + i) * s.ld + j + v * kVector, sum[i][v]);
}
template <int kWide, bool kSingle, class T> void column(const Lanes<T>& s, int64_t j) {
  constexpr int kMost = kWide == 2 && kVector < 16 ? 6 : 9;
  int64_t d = 0;
  for (; d + kMost <= s.depth; d += kMost) gradients<kMost, kWide, kSingle>(s, d, j);
  for (; d + 3 <= s.depth; d += 3) gradients<3, kWide, kSingle>(s, d, j);
  for (; d < s.depth; ++d) gradients<1, kWide, kSingle>(s, d, j);
}

// Groups of kGroup channels whose lanes read their own, for one output of the group after the other.
constexpr int kSums = kVector == 16 ? 24 : 12;  // that registers hold
template <int kGroup, int kTurn, size_t... l> inline Vec turned(Vec v, std::index_sequence<l...>) {
  return __builtin_shufflevector(v, v, (l / kGroup * kGroup + (l % kGroup + kTurn) % kGroup)...);
}
template <int kGroup, int kTurn> inline Vec turned(Vec v) {  // lane i of a group: v[(i + kTurn) % kGroup]
  return turned<kGroup, kTurn>(v, std::make_index_sequence<kVector>{});
}
// Adds the sums of all turns up where their outputs are: those half a group apart, then a quarter.
template <int kGroup, int kHalf = kGroup / 2> inline Vec gathered(Vec* sum) {
  if constexpr (kHalf > 0) {
#pragma GCC unroll 4
    for (int r = 0; r < kHalf; ++r) sum[r] += turned<kGroup, kGroup - kHalf>(sum[r + kHalf]);
    return gathered<kGroup, kHalf / 2>(sum);
  }
  return sum[0];
}
template <int kGroup, int kPixels, class T> void own_results(const Lanes<T>& s, const float* e, T* y, int64_t j) {
  Vec sum[kPixels][kGroup];
#pragma GCC unroll 8
  for (int i = 0; i < kPixels; ++i)
#pragma GCC unroll 8
    for (int r = 0; r < kGroup; ++r) sum[i][r] = Vec{};
  const float* weights = s.w + j;
  for (int64_t d = 0; d < s.depth; ++d) {
    Vec x[kPixels];
#pragma GCC unroll 8
    for (int i = 0; i < kPixels; ++i) x[i] = load(e + s.at[d] + i * s.step);
#pragma GCC unroll 8
    for (int r = 0; r < kGroup; ++r, weights += s.ld) {
      Vec w = load(weights);
      hold(w);
#pragma GCC unroll 8
      for (int i = 0; i < kPixels; ++i) sum[i][r] += x[i] * w;
    }
  }
  const Finish<T> finish(s.end, j, s.n - j);
#pragma GCC unroll 8
  for (int i = 0; i < kPixels; ++i) finish(gathered<kGroup>(sum[i]), y + i * s.pixel);
}
template <int kGroup, class T> void own_row(const Lanes<T>& s, const float* e, T* y, int64_t j) {
  constexpr int kPixels = int(least(8, kSums / kGroup)), kHalf = (kPixels + 1) / 2;
  int64_t p = 0;
  for (; p + kPixels <= s.m; p += kPixels) own_results<kGroup, kPixels>(s, e + p * s.step, y + p * s.pixel, j);
  for (; p + kHalf <= s.m; p += kHalf) own_results<kGroup, kHalf>(s, e + p * s.step, y + p * s.pixel, j);
  for (; p < s.m; ++p) own_results<kGroup, 1>(s, e + p * s.step, y + p * s.pixel, j);
}

// The gradients of the weights at kPlaces places: what is turned of dy serves all of them.
template <int kGroup, int kPlaces, class T> void own_gradients(const Lanes<T>& s, int64_t d, int64_t j) {
  Vec sum[kPlaces][kGroup];
  const float* e[kPlaces];
#pragma GCC unroll 3
  for (int i = 0; i < kPlaces; ++i) {
    e[i] = below(s, j) + s.at[d + i];
#pragma GCC unroll 8
    for (int r = 0; r < kGroup; ++r) sum[i][r] = load(s.dw + ((d + i) * kGroup + r) * s.ld + j);
  }
  for (int64_t line = 0; line < s.rows; ++line)
    for (int64_t p = 0; p < s.m; ++p) {
      Vec dy = load(s.dy + line * s.row + p * s.pixel + j, s.n - j), x[kPlaces];
#pragma GCC unroll 3
      for (int i = 0; i < kPlaces; ++i) x[i] = load(e[i] + line * s.line + p * s.step);
#pragma GCC unroll 8
      for (int r = 0; r < kGroup; ++r, dy = turned<kGroup, 1>(dy))
#pragma GCC unroll 3
        for (int i = 0; i < kPlaces; ++i) sum[i][r] += x[i] * dy;
    }
#pragma GCC unroll 3
  for (int i = 0; i < kPlaces; ++i)
#pragma GCC unroll 8
    for (int r = 0; r < kGroup; ++r) store(s.dw + ((d + i) * kGroup + r) * s.ld + j, sum[i][r]);
}
template <int kGroup, class T> void own_column(const Lanes<T>& s, int64_t j) {
  int64_t d = 0;
  for (; d + 3 <= s.depth; d += 3) own_gradients<kGroup, 3>(s, d, j);
  for (; d < s.depth; ++d) own_gradients<kGroup, 1>(s, d, j);
}
// Calls f with the channels of a group as a constant.
template <class F> void with_group(int64_t c, F f) {
  if (c == 2) f.template operator()<2>();
  else if (c == 4 && kVector > 4) f.template operator()<4>();
  else if (c == 8 && kVector > 8) f.template operator()<8>();
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
    if (s.below != Below::spread) {
      if (q + 8 < s.count) prefetch(x + 8 * s.ldx, inputs);
      for (int64_t j = 0; j < inputs; j += kVector) store(e + j, load(x + j, inputs - j));
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
  for (int64_t r = 0; r < s.rows; ++r)
    for (int64_t j = 0; j < s.n; j += wide(s) ? 2 * kVector : kVector) {
      const float* e = below(s, j) + r * s.line;
      T* y = s.y + r * s.row + j;
      switch (s.below) {
        case Below::number: wide(s) ? row<2, true>(s, e, y, j) : row<1, true>(s, e, y, j); break;
        case Below::spread: row<1, false>(s, e, y, j); break;
        case Below::own: with_group(s.c, [&]<int kGroup> { own_row<kGroup>(s, e, y, j); });
      }
    }
}
template <class T> void lanes_gradient(const Lanes<T>& s) {
  for (int64_t j = 0; j < s.n; j += wide(s) ? 2 * kVector : kVector) switch (s.below) {
      case Below::number: wide(s) ? column<2, true>(s, j) : column<1, true>(s, j); break;
      case Below::spread: column<1, false>(s, j); break;
      case Below::own: with_group(s.c, [&]<int kGroup> { own_column<kGroup>(s, j); });
    }
}

#define FOVEA_LANES(T)                    \
  template void spread(const Spread<T>&); \
  template void lanes(const Lanes<T>&);   \
  template void lanes_gradient(const Lanes<T>&);
FOVEA_STORED(FOVEA_LANES)

}  // namespace fovea::cpu::FOVEA_KERNELS
