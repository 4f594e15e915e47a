// The product of tile registers (AMX): one instruction adds to 16 x 16 sums what 16 rows of 32 numbers of bf16 give
// with 16 columns of them. Four tiles of sums, two of rows and two of columns: 32 x 32 sums for four loads a step.
#include "ops/cpu/vec.h"

namespace fovea::cpu::FOVEA_KERNELS {
namespace {

constexpr int64_t kSide = 32, kTile = 16;

struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};  // of a row
  uint8_t rows[16] = {};
};

#if defined(__AMX_BF16__)
#define FOVEA_TILE_SHAPES(shapes) _tile_loadconfig(shapes)
#define FOVEA_TILE_RELEASE() _tile_release()
#define FOVEA_TILE_ZERO(t) _tile_zero(t)
#define FOVEA_TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define FOVEA_TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#define FOVEA_TILE_MULTIPLY(sums, a, b) _tile_dpbf16ps(sums, a, b)
#else  // the same instructions played, so that the loops around them can be tested on any processor
struct Unit {
  TileShapes shapes;
  alignas(64) char tiles[8][16][64];
  template <class T> T* row(int t, int r) { return reinterpret_cast<T*>(tiles[t][r]); }
  void zero(int t) {
    for (auto& row : tiles[t])
      for (char& byte : row) byte = 0;
  }
  void load(int t, const void* from, int64_t stride) {
    zero(t);
    for (int r = 0; r < shapes.rows[t]; ++r)
      __builtin_memcpy(tiles[t][r], static_cast<const char*>(from) + r * stride, shapes.bytes[t]);
  }
  void store(int t, void* to, int64_t stride) {
    for (int r = 0; r < shapes.rows[t]; ++r)
      __builtin_memcpy(static_cast<char*>(to) + r * stride, tiles[t][r], shapes.bytes[t]);
  }
  void multiply(int sums, int a, int b) {
    typedef float Line __attribute__((vector_size(4 * kTile)));
    const int depth = shapes.bytes[a] / 2;
    Line lines[2 * kTile] = {};  // of B, made once for all rows of A
    for (int k = 0; k < depth; ++k)
      for (int c = 0; c < shapes.bytes[sums] / 4; ++c) lines[k][c] = float(row<bf16>(b, k / 2)[2 * c + k % 2]);
    for (int r = 0; r < shapes.rows[sums]; ++r) {
      Line sum = {};
      __builtin_memcpy(&sum, tiles[sums][r], shapes.bytes[sums]);
      for (int k = 0; k < depth; ++k) sum += float(row<bf16>(a, r)[k]) * lines[k];
      __builtin_memcpy(tiles[sums][r], &sum, shapes.bytes[sums]);
    }
  }
};
thread_local Unit unit;
#define FOVEA_TILE_SHAPES(s) unit.shapes = *(s)
#define FOVEA_TILE_RELEASE() unit.shapes = {}
#define FOVEA_TILE_ZERO(t) unit.zero(t)
#define FOVEA_TILE_LOAD(t, from, stride) unit.load(t, from, stride)
#define FOVEA_TILE_STORE(t, to, stride) unit.store(t, to, stride)
#define FOVEA_TILE_MULTIPLY(sums, a, b) unit.multiply(sums, a, b)
#endif

// Tiles 0 and 1 hold the sums of the upper rows, 2 and 3 those of the lower ones; 4 and 5 rows of A, 6 and 7 columns of
// B. Nothing is read or written beyond `rows`.
void set_shapes(int64_t rows) {
  TileShapes shapes;
  for (int t = 0; t < 8; ++t) {
    const bool lower = t == 2 || t == 3 || t == 5;
    shapes.bytes[t] = 64;
    shapes.rows[t] = uint8_t(t >= 6 ? kTile : lower ? most(rows - kTile, 1) : least(rows, kTile));
  }
  FOVEA_TILE_SHAPES(&shapes);
}

// Up to 32 x 32 sums, `row` bytes from one row to the next.
struct Sums {
  float* at;
  int64_t row;
  bool add;  // to what is there
};

// sums (+)= the rows from a on times the columns from b on, of a panel that is `width` columns wide: R x N tiles.
template <int R, int N, class T>
void multiply(const TileProduct<T>& p, const bf16* a, const bf16* b, int64_t width, const Sums& sums) {
  const int64_t stride = p.lda * int64_t{sizeof(bf16)}, pairs = width * 2 * int64_t{sizeof(bf16)}, row = sums.row;
  float *upper = sums.at, *lower = upper + kTile * row / int64_t{sizeof(float)};
  if (sums.add) {
    FOVEA_TILE_LOAD(0, upper, row);
    if constexpr (N > 1) FOVEA_TILE_LOAD(1, upper + kTile, row);
    if constexpr (R > 1) FOVEA_TILE_LOAD(2, lower, row);
    if constexpr (R * N > 2) FOVEA_TILE_LOAD(3, lower + kTile, row);
  } else {
    FOVEA_TILE_ZERO(0);
    if constexpr (N > 1) FOVEA_TILE_ZERO(1);
    if constexpr (R > 1) FOVEA_TILE_ZERO(2);
    if constexpr (R * N > 2) FOVEA_TILE_ZERO(3);
  }
  for (const Run* run = p.runs; run < p.runs + p.count; ++run) {
    const bf16 *x = a + run->a, *end = x + run->length, *y = b + run->b * width;
    for (; x < end; x += kTileDepth, y += kTileDepth * width) {
      FOVEA_TILE_LOAD(4, x, stride);
      FOVEA_TILE_LOAD(6, y, pairs);
      FOVEA_TILE_MULTIPLY(0, 4, 6);
      if constexpr (N > 1) {
        FOVEA_TILE_LOAD(7, y + 2 * kTile, pairs);
        FOVEA_TILE_MULTIPLY(1, 4, 7);
      }
      if constexpr (R > 1) {
        FOVEA_TILE_LOAD(5, x + kTile * p.lda, stride);
        FOVEA_TILE_MULTIPLY(2, 5, 6);
      }
      if constexpr (R * N > 2) FOVEA_TILE_MULTIPLY(3, 5, 7);
    }
  }
  FOVEA_TILE_STORE(0, upper, row);
  if constexpr (N > 1) FOVEA_TILE_STORE(1, upper + kTile, row);
  if constexpr (R > 1) FOVEA_TILE_STORE(2, lower, row);
  if constexpr (R * N > 2) FOVEA_TILE_STORE(3, lower + kTile, row);
}

// Sends the sums of rows i.. and columns j.. where they go, row by row: lines of memory are written at once.
template <class T>
void finish(const TileProduct<T>& p, int64_t i, int64_t rows, int64_t j, int64_t cols, const float* sums) {
  const Finish<T> left(p.end, j, cols), right(p.end, j + kTile, most(cols - kTile, 0));
  for (int64_t r = 0; r < rows; ++r, sums += kSide) {
    if (!p.rows) {
      float* c = p.c + (i + r) * p.ldc + j;
      for (int64_t at = 0; at < cols; at += kVector)
        store(c + at, p.add ? load(c + at, cols - at) + load(sums + at) : load(sums + at), cols - at);
    } else if (T* y = p.rows[i + r]) {
      left(load(sums), y + j);
      if (cols > kTile) right(load(sums + kTile), y + j + kTile);
    }
  }
}

template <class T> void multiply_all(const TileProduct<T>& p) {
  alignas(64) float sums[kSide * kSide];
  int64_t shaped = 0;
  const auto block = [&](int64_t i, int64_t j) {
    const int64_t panel = j / kPanel * kPanel, width = padded(least(kPanel, p.n - panel)), cols = least(kSide, p.n - j);
    const int64_t rows = least(kSide, p.m - i);
    const bf16 *a = p.a + i * p.lda, *b = p.b + panel * p.depth + 2 * (j - panel);
    if (rows != shaped) set_shapes(shaped = rows);
    const bool direct = !p.rows && cols % kTile == 0;  // whole tiles of C
    const Sums to = direct ? Sums{p.c + i * p.ldc + j, p.ldc * int64_t{sizeof(float)}, p.add}
                           : Sums{sums, kSide * sizeof(float), false};
    if (rows > kTile) (cols > kTile ? multiply<2, 2, T> : multiply<2, 1, T>)(p, a, b, width, to);
    else (cols > kTile ? multiply<1, 2, T> : multiply<1, 1, T>)(p, a, b, width, to);
    if (!direct) finish(p, i, rows, j, cols, sums);
  };
  // Rows stay in L1 while all of B passes; where that would not stay in L2, a few columns of it do while the rows pass.
  const bool by_rows = p.depth * p.n * int64_t{sizeof(bf16)} <= 1 << 20;
  const int64_t outer = by_rows ? p.m : p.n, inner = by_rows ? p.n : p.m;
  for (int64_t u = 0; u < outer; u += kSide)
    for (int64_t v = 0; v < inner; v += kSide) by_rows ? block(u, v) : block(v, u);
  FOVEA_TILE_RELEASE();
}

}  // namespace

extern const TileKernels tiles;
const TileKernels tiles{multiply_all<bf16>, multiply_all<float>};

}  // namespace fovea::cpu::FOVEA_KERNELS
