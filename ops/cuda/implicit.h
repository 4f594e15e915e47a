// The arithmetic of indices behind a convolution as a matrix product: which number of an image is element (pixel,
// place) of the matrix that nobody stores, which block computes what, and where a tile lies in shared memory. Pure
// functions, which the tests try out exhaustively.
#pragma once
#include <cstdint>

#include "ops/conv_reference.h"

namespace fovea::cuda {

// n / d for 0 <= n < 2^31 by a multiplication: a division takes a GPU some twenty instructions. Rounding
// up makes the factor 2^(31+s) / d too large by less than 1, and so n / d by less than n / 2^(31+s) < 2^-s <= 1 / d,
// which does not reach the next whole number (Granlund & Montgomery 1994).
struct Divisor {
  int d = 1;
  uint32_t factor = uint32_t{1} << 31;
  int shift = 31;
  constexpr Divisor() = default;
  explicit constexpr Divisor(int divisor) : d(divisor > 0 ? divisor : 1) {
    while ((int64_t{1} << (shift - 31)) < d) ++shift;
    factor = uint32_t(((uint64_t{1} << shift) + uint64_t(d) - 1) / uint64_t(d));
  }
  HD constexpr int operator()(int n) const { return int((uint64_t(uint32_t(n)) * factor) >> shift); }
};

// The pixels (n,i,j) of a grid [n,rows,cols] and where they lie: first + n * image + i * row + j * pixel.
struct Grid {
  int n = 0, rows = 0, cols = 0;
  int64_t first = 0, image = 0, row = 0, pixel = 0;
  Divisor by_cols{cols}, by_rows{rows};
  struct Pixel {
    int n, i, j;
  };
  HD constexpr int size() const { return n * rows * cols; }
  HD constexpr Pixel at(int p) const {
    const int line = by_cols(p), image_of = by_rows(line);
    return {image_of, line - image_of * rows, p - line * cols};
  }
  HD constexpr int64_t offset(int p) const {
    const Pixel q = at(p);
    return first + q.n * image + q.i * row + q.j * pixel;
  }
};

// Along one axis, output pixel i sees the input at i * step + base + u * delta for u < count, through tap
// tap + u * tap_step of the kernel.
struct Axis {
  int count = 0, step = 0, base = 0, delta = 0, tap = 0, tap_step = 0;
};

// The implicit matrix [grid.size(), places()]: row (n,i,j) holds the numbers of image n [h,w,ld] that pixel (i,j)
// sees; column (u,v,c), channels fastest, is a place in that view.
struct View {
  Grid grid;
  Axis vertical, horizontal;
  int h = 0, w = 0, ld = 0, c = 0;
  Divisor by_c{c}, by_width{horizontal.count};
  struct Place {
    int u, v, c;
  };
  HD constexpr int places() const { return vertical.count * horizontal.count * c; }
  HD constexpr Place place(int q) const {
    const int tap = by_c(q), u = by_width(tap);
    return {u, tap - u * horizontal.count, q - tap * c};
  }
  // Where a pixel's view begins, and how far on a place is: kernels keep the half that does not change.
  struct Origin {
    int y, x;
    int64_t at;
  };
  struct Move {
    int y, x, by;
  };
  static constexpr int kNowhere = -(1 << 30);  // a line above all images
  HD constexpr Origin origin(int p) const {
    const Grid::Pixel at = grid.at(p);
    const int y = at.i * vertical.step + vertical.base, x = at.j * horizontal.step + horizontal.base;
    return {p < grid.size() ? y : kNowhere, x, int64_t{(at.n * h + y) * w + x} * ld};
  }
  HD constexpr Move move(int q) const {
    const Place to = place(q);
    const int y = to.u * vertical.delta, x = to.v * horizontal.delta;
    return {q < places() ? y : kNowhere, x, (y * w + x) * ld + to.c};
  }
  HD constexpr bool inside(int y, int x) const { return unsigned(y) < unsigned(h) && unsigned(x) < unsigned(w); }
  HD constexpr int64_t source(int p, int q) const {  // its index in the images; -1 outside of them, where they are 0
    const Origin from = origin(p);
    const Move to = move(q);
    return inside(from.y + to.y, from.x + to.x) ? from.at + to.by : -1;
  }
};

template <class T> struct Entry {  // of an operand, a matrix
  const T* p;
  bool there;  // otherwise it is 0
};

// What the results of a convolution see of x.
inline View view_of_input(const ConvShape& s) {
  const Grid grid{int(s.n), int(s.oh), int(s.ow), 0, s.oh * s.ow * s.o, s.ow * s.o, s.o};
  return {grid,
          {s.kernel.h, s.stride.h, -s.pad.h, s.dilation.h, 0, 1},
          {s.kernel.w, s.stride.w, -s.pad.w, s.dilation.w, 0, 1},
          int(s.h),
          int(s.w),
          int(s.c),
          int(s.group_c())};
}
// What the input pixels (a + i * stride.h, b + j * stride.w) see of dy: pixels of one remainder see it through the same
// taps, so dx is a few convolutions of stride 1. A remainder that a map lacks gives an empty grid.
inline View view_of_output(const ConvShape& s, int a, int b) {
  const Taps u = conv_taps(a, s.kernel.h, s.stride.h, s.pad.h, s.dilation.h);
  const Taps v = conv_taps(b, s.kernel.w, s.stride.w, s.pad.w, s.dilation.w);
  const auto axis = [](const Taps& t) {
    return Axis{int(t.count), 1, int(t.base), int(t.delta), int(t.last), -int(t.step)};
  };
  const Grid grid{int(s.n),
                  int((s.h - a + s.stride.h - 1) / s.stride.h),
                  int((s.w - b + s.stride.w - 1) / s.stride.w),
                  (a * s.w + b) * s.c,
                  s.h * s.w * s.c,
                  s.stride.h * s.w * s.c,
                  s.stride.w * s.c};
  return {grid, axis(u), axis(v), int(s.oh), int(s.ow), int(s.o), int(s.group_o())};
}

// Which part of C [rows, cols] = A [rows, depth] B, one for each group, a block computes: one tile, from one of
// `splits` shares of the depth. Neighbouring blocks share rows of A.
struct Schedule {
  int rows, cols, depth, groups, splits;
  struct Part {
    int group, split, row, col, depth, steps;  // its first row, column and depth
  };
  static HD constexpr int64_t tiles(int64_t n, int tile) { return (n + tile - 1) / tile; }
  HD constexpr int64_t blocks(int high, int wide) const {  // tiles of that height and width
    return tiles(rows, high) * tiles(cols, wide) * groups * splits;
  }
  HD constexpr Part part(int64_t block, int high, int wide, int step) const {
    const int64_t across = tiles(cols, wide), down = tiles(rows, high), steps = tiles(depth, step);
    const int64_t col = block % across, row = block / across % down, rest = block / across / down;
    const int64_t split = rest % splits, begin = steps * split / splits, end = steps * (split + 1) / splits;
    return {int(rest / splits), int(split), int(row) * high, int(col) * wide, int(begin) * step, int(end - begin)};
  }
};
// Shares of the depth: as many as bring 264 blocks (two for each multiprocessor of the largest GPUs), of at least four
// steps each. A constant, so that every GPU gives the same bits.
constexpr int splits_of(int64_t blocks, int64_t steps) {
  const int64_t wanted = 264 / (blocks > 0 ? blocks : 1), most = steps / 4, splits = wanted < most ? wanted : most;
  return splits > 1 ? int(splits) : 1;
}

// Where word (depth, row) of a tile lies in shared memory, 32 banks wide: rows of depths are 8 banks apart, so that the
// fragments of an mma (4 depths x 8 rows) lie in 32 banks; and each four depths are turned by 8 more, so that lanes
// that store a vector along the depth (8 rows x 4 vectors) do not meet either. Four rows stay side by side.
template <int kTile> HD constexpr int slot(int depth, int row) {
  return depth * (kTile + 8) + (row ^ (depth / 4 % 4 * 8));
}

// Where a vector of 16 bytes lies in a tile of the pipeline [lines, kChunks], in vectors: 8 lines at one place, and the
// chunks of a line that lie in 128 bytes, are in different banks, so that a load of matrices waits for none. `eights`
// is a multiple of 8: line eights + j.
template <int kChunks> HD constexpr int eight(int eights, int j, int chunk) {
  constexpr int kLines = kChunks < 8 ? 8 / kChunks : 1;  // in 128 bytes
  return (eights + j) * kChunks + (chunk ^ (j / kLines % kChunks));
}

// Which 4 words of a tile of [kDepth, kTile] a lane brings in its turn i: down the depth, or across the rows, as they
// lie side by side in memory.
struct Quad {
  int depth, row;
};
template <bool kDown, int kDepth, int kTile> HD constexpr Quad quad(int lane, int i, int lanes) {
  const int q = lane + i * lanes;
  if (kDown) return {q % (kDepth / 4) * 4, q / (kDepth / 4)};
  return {q / (kTile / 4), q % (kTile / 4) * 4};
}

}  // namespace fovea::cuda
