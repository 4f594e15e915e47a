// The transforms of Winograd's convolution F(4x4,3x3) (Lavin & Gray 2015): 36 multiplies for 16 results instead of 144.
//
// Toom-Cook at the points 0, +-a, +-b and infinity with a = sqrt(1/2), b = sqrt(2): ab = 1, which halves the rounding
// error of the usual points 0, +-1, +-2. With M(x) = x (x^2 - 1/2) (x^2 - 2) and N_i = prod_{j != i} (x_i - x_j) over
// the finite points:
//   y = A' [ (G w G') . (B' x B) ] A
//   row i of A: (1, x_i, x_i^2, x_i^3)        infinity: (0, 0, 0, 1)
//   row i of G: (1, x_i, x_i^2) / N_i         infinity: (0, 0, 1)           N = 1, -3/2, -3/2, 6, 6
//   row i of B': coefficients of M(x) / (x - x_i), lowest first             infinity: those of M(x)
// The product is a plain matrix product over channels for each of the 36 places, so the whole convolution is 36
// products. Gradients: dx is the same convolution of dy with flipped weights; dw = G' [ sum over tiles (B' x B) . (A dy
// A') ] G.
#include "ops/cpu/vec.h"

namespace fovea::cpu::FOVEA_KERNELS {
namespace {

constexpr float a = 0.70710678118654752f, b = 1.41421356237309505f;

inline void input6(const Vec (&d)[6], Vec (&o)[6]) {  // B' d
  const Vec e1 = d[4] - 2 * d[2], f1 = a * (d[3] - 2 * d[1]), e2 = d[4] - 0.5f * d[2], f2 = b * (d[3] - 0.5f * d[1]);
  o[0] = d[0] - 2.5f * d[2] + d[4], o[5] = d[1] - 2.5f * d[3] + d[5];
  o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2;
}
inline void output4(const Vec (&m)[6], Vec (&o)[4]) {  // A' m
  const Vec s1 = m[1] + m[2], q1 = a * (m[1] - m[2]), s2 = m[3] + m[4], q2 = b * (m[3] - m[4]);
  o[0] = m[0] + s1 + s2, o[1] = q1 + q2, o[2] = 0.5f * s1 + 2 * s2, o[3] = 0.5f * q1 + 2 * q2 + m[5];
}
inline void gradient6(const Vec (&y)[4], Vec (&o)[6]) {  // A y
  const Vec e1 = y[0] + 0.5f * y[2], f1 = a * (y[1] + 0.5f * y[3]), e2 = y[0] + 2 * y[2], f2 = b * (y[1] + 2 * y[3]);
  o[0] = y[0], o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2, o[5] = y[3];
}
inline void filter6(const Vec (&g)[3], Vec (&o)[6]) {  // G g
  const Vec e1 = (-1 / 3.f) * (2 * g[0] + g[2]), f1 = (-b / 3) * g[1], e2 = (1 / 6.f) * (g[0] + 2 * g[2]),
            f2 = (b / 6) * g[1];
  o[0] = g[0], o[1] = e1 + f1, o[2] = e1 - f1, o[3] = e2 + f2, o[4] = e2 - f2, o[5] = g[2];
}
inline void filter3(const Vec (&u)[6], Vec (&o)[3]) {  // G' u
  const Vec s1 = u[1] + u[2], q1 = u[1] - u[2], s2 = u[3] + u[4], q2 = u[3] - u[4];
  o[0] = u[0] - (2 / 3.f) * s1 + (1 / 6.f) * s2, o[1] = (b / 6) * (q2 - 2 * q1), o[2] = (1 / 3.f) * (s2 - s1) + u[5];
}

// A transform of a square: f over the columns of in (I rows), then over the rows of the result (O x O), of which only
// those from kFirst to kEnd are computed.
template <int I, int O, int kFirst = 0, int kEnd = O, class F>
inline void square(const Vec (&in)[I][I], Vec (&out)[O][O], F f) {
  Vec half[O][I];
#pragma GCC unroll 6
  for (int j = 0; j < I; ++j) {
    Vec x[I], y[O];
#pragma GCC unroll 6
    for (int i = 0; i < I; ++i) x[i] = in[i][j];
    f(x, y);
#pragma GCC unroll 6
    for (int i = 0; i < O; ++i) half[i][j] = y[i];
  }
#pragma GCC unroll 6
  for (int i = kFirst; i < kEnd; ++i) f(half[i], out[i]);
}

// The S x S pixels of a tile at channel c, zero where there are none.
template <int S, class T> inline void read(const Tile<T>& t, int64_t c, int64_t n, Vec (&x)[S][S]) {
  const T* p = t.x + c;
  if (n >= kVector && t.r0 == 0 && t.c0 == 0 && t.r1 == S && t.c1 == S) {
#pragma GCC unroll 6
    for (int i = 0; i < S; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < S; ++j) x[i][j] = load(p + i * t.row + j * t.pixel);
    return;
  }
  for (int i = 0; i < S; ++i)
    for (int j = 0; j < S; ++j)
      x[i][j] = i >= t.r0 && i < t.r1 && j >= t.c0 && j < t.c1 ? load(p + i * t.row + j * t.pixel, n) : Vec{};
}
// Asks for the pixels that the tile four columns to the right has beyond these: it comes next.
template <int S, class T> inline void prefetch_next(const Tile<T>& t, int64_t c) {
  for (int i = t.r0; i < t.r1; ++i)
    for (int j = S; j < S + 4; ++j) __builtin_prefetch(t.x + c + i * t.row + j * t.pixel, 0, 2);
}
template <int S, int kFirst = 0, int kEnd = S>
inline void write_planes(const Vec (&x)[S][S], float* v, int64_t plane, int64_t n) {
#pragma GCC unroll 6
  for (int i = kFirst; i < kEnd; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < S; ++j) store(v + ((i - kFirst) * S + j) * plane, x[i][j], n);
}
template <int S> inline void read_planes(const float* v, int64_t plane, int64_t n, Vec (&x)[S][S]) {
#pragma GCC unroll 6
  for (int i = 0; i < S; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < S; ++j) x[i][j] = load(v + (i * S + j) * plane, n);
}
// Where column c of row `index` lies in a packed matrix of n columns.
inline int64_t packed_at(int64_t c, int64_t n, int64_t depth, int64_t index) {
  const int64_t first = c / kPanel * kPanel;
  return first * depth + index * padded(least(kPanel, n - first)) + (c - first);
}

// Rows [kFirst, kEnd) of the 6x6 points.
template <class T, int kFirst, int kEnd> void input(const Tile<T>& t, int64_t channels, float* v, int64_t plane) {
  for (int64_t c = 0; c < channels; c += kVector) {
    Vec x[6][6], y[6][6];
    prefetch_next<6>(t, c);
    read(t, c, channels - c, x);
    square<6, 6, kFirst, kEnd>(x, y, input6);
    write_planes<6, kFirst, kEnd>(y, v + c, plane, channels - c);
  }
}

template <class T, int kFirst, int kEnd>
void gradient(const Tile<T>& t, int64_t channels, float* d, int64_t plane, int64_t depth, int64_t index) {
  for (int64_t c = 0; c < channels; c += kVector) {
    Vec x[4][4], y[6][6];
    prefetch_next<4>(t, c);
    read(t, c, channels - c, x);
    square<4, 6, kFirst, kEnd>(x, y, gradient6);
    write_planes<6, kFirst, kEnd>(y, d + packed_at(c, channels, depth, index), plane, kVector);
  }
}

// The pixels that exist, of the channels that are left from c on. Where all 16 do and fill vectors, nothing is asked.
template <bool kWhole, class T>
inline void output(const float* m, int64_t plane, int64_t c, int64_t left, T* y, int64_t row, int64_t pixel, int rows,
                   int cols, const Epilogue<T>& end) {
  const int64_t n = kWhole ? kVector : left;
  Vec x[6][6], z[4][4];
  read_planes(m + c, plane, n, x);
  square<6, 4>(x, z, output4);
  const Finish<T> finish(end, c, n);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (kWhole || (i < rows && j < cols)) finish(z[i][j], y + i * row + j * pixel + c);
    }
  }
}

}  // namespace

template <class T> void tile_input(const Tile<T>& t, int64_t channels, float* v, int64_t plane, Points points) {
  switch (points) {
    case Points::all: return input<T, 0, 6>(t, channels, v, plane);
    case Points::first: return input<T, 0, 3>(t, channels, v, plane);
    case Points::second: return input<T, 3, 6>(t, channels, v, plane);
  }
}

template <class T>
void tile_output(const float* m, int64_t plane, int64_t channels, T* y, int64_t row, int64_t pixel, int rows, int cols,
                 const Epilogue<T>& end) {
  int64_t c = 0;
  if (rows == 4 && cols == 4)
    for (; c + kVector <= channels; c += kVector) output<true>(m, plane, c, kVector, y, row, pixel, 4, 4, end);
  for (; c < channels; c += kVector) output<false>(m, plane, c, channels - c, y, row, pixel, rows, cols, end);
}

template <class T>
void tile_gradient(const Tile<T>& t, int64_t channels, float* d, int64_t plane, int64_t depth, int64_t index,
                   Points points) {
  switch (points) {
    case Points::all: return gradient<T, 0, 6>(t, channels, d, plane, depth, index);
    case Points::first: return gradient<T, 0, 3>(t, channels, d, plane, depth, index);
    case Points::second: return gradient<T, 3, 6>(t, channels, d, plane, depth, index);
  }
}

#define FOVEA_TILES(T)                                                                                           \
  template void tile_input(const Tile<T>&, int64_t, float*, int64_t, Points);                                    \
  template void tile_output(const float*, int64_t, int64_t, T*, int64_t, int64_t, int, int, const Epilogue<T>&); \
  template void tile_gradient(const Tile<T>&, int64_t, float*, int64_t, int64_t, int64_t, Points);
FOVEA_STORED(FOVEA_TILES)

template <class T>
void filter(const T* w, int64_t tap, bool flipped, int64_t n, float* u, int64_t plane, int64_t depth, int64_t index) {
  for (int64_t c = 0; c < n; c += kVector) {
    Vec x[3][3], y[6][6];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) x[i][j] = load(w + (flipped ? 8 - 3 * i - j : 3 * i + j) * tap + c, n - c);
    square<3, 6>(x, y, filter6);
    write_planes(y, u + packed_at(c, n, depth, index), plane, kVector);
  }
}

#define FOVEA_FILTER(T) template void filter(const T*, int64_t, bool, int64_t, float*, int64_t, int64_t, int64_t);
FOVEA_STORED(FOVEA_FILTER)

void filter_gradient(const float* du, int64_t plane, int64_t n, float* dw, int64_t tap) {
  for (int64_t c = 0; c < n; c += kVector) {
    Vec x[6][6], y[3][3];
    read_planes(du + c, plane, n - c, x);
    square<6, 3>(x, y, filter3);
    write_planes(y, dw + c, tap, n - c);
  }
}

}  // namespace fovea::cpu::FOVEA_KERNELS
