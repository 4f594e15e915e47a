// Convolutions of f32 and bf16 on the CPU: which algorithm for which shape, and the loops around the kernels.
#pragma once
#include <algorithm>
#include <vector>

#include "core/allocator.h"
#include "core/error.h"
#include "core/threads.h"
#include "ops/conv.h"
#include "ops/conv_reference.h"
#include "ops/cpu/kernels.h"

namespace fovea::cpu {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// T = float or bf16; weights (W) and their gradients are f32 for both, but where only values are wanted of maps of
// bf16: then weights may be stored as those are. Maps share weights, kernel, stride, ...: only n, h, w differ. Results
// are stored as R; of bf16 and as f32 only by tiles.
template <class T, class R = T> using Maps = std::vector<ConvMap<T, R>>;

// Which algorithm a shape gets, and the numbers that decide (`fovea bench conv --explain`).
struct ConvChoice {
  enum Way { direct, winograd, grouped } way;
  int64_t tiles, least;  // 4x4 tiles of all results, and from how many on Winograd is chosen; 0 where it cannot be
  const char* why;
};
// `turned`: for the gradient to the input, in which inputs and outputs change places.
template <class T> ConvChoice choose(const Maps<T>& maps, ConvAlgo algo, const Kernels& k, bool turned = false);

using ConvEnd = fovea::ConvEnd<float>;
template <class T> Epilogue<T> epilogue(const ConvEnd& end, const T* residual, const T* y) {
  return {end.scale, end.b, residual, y, end.relu};
}
template <class T, class W>
void conv_value(const Maps<T>& maps, const W* w, const ConvEnd& end, ConvAlgo algo, const Kernels& k);
template <class T> void conv_input_gradient(const Maps<T>& maps, const float* w, ConvAlgo algo, const Kernels& k);
template <class T> void conv_weight_gradient(const Maps<T>& maps, float* dw, ConvAlgo algo, const Kernels& k);

// Where the results for a grid of pixels (n,i,j) go: y + n*image + i*row + j*pixel.
template <class T> struct Grid {
  T* y;
  int64_t n, rows, cols, image, row, pixel;
  int64_t size() const { return n * rows * cols; }
};

// Memory of the thread that asks, for the length of a scope.
inline Workspace scratch(size_t bytes) { return Workspace::of_thread(bytes, thread_number()); }

// Memory of its own for each thread that takes part in a loop, the same from chunk to chunk: in a core's own cache. Or,
// where not `own`, one for all of them, to be filled before the loop.
class PerThread {
 public:
  explicit PerThread(int64_t floats, bool own = true) : own_(own) {
    constexpr size_t kApart = size_t{5} << 20;  // more than that shares with maps, which are large at other times
    const size_t bytes = size_t(floats) * 4;
    for (int t = 0; t < (own ? num_threads() : 1); ++t)
      places_.push_back({-1, bytes <= kApart ? Workspace::of_thread(bytes, t) : Workspace(bytes)});
  }
  float* mine() { return place().memory.as<float>(); }
  // The same, holding what number `which` stands for: fill(memory) makes that where it was not made last.
  template <class F> float* mine(int64_t which, F fill) {
    Place& own = place();
    if (own.holds != which) own.holds = which, fill(mine());
    return mine();
  }

 private:
  struct Place {
    int64_t holds;
    Workspace memory;
  };
  Place& place() {
    const size_t place = own_ ? size_t(thread_number()) : 0;
    check(Code::usage, place < places_.size(), "threads: their number was changed while a convolution ran");
    return places_[place];
  }
  bool own_;
  std::vector<Place> places_;
};

// B packed, see Product: n columns of the kernel's places one after the other, each a multiple of `stride` depths, of
// which the first `run` are channels and the others zeros. Places that follow each other without gaps count as one.
template <class T> struct Packed {
  // Of `places` with `channels` each; apart: a multiple of a tile's depths for each place.
  Packed(int64_t places, int64_t channels, int64_t n, bool apart, const Kernels& k);
  int64_t runs, run, stride, n, depth;
  T* data;
  // f(row, rows, depth, column, columns): packs a part of rows [row, row + rows) as depths [depth, ...). Columns go
  // from thread to thread slowest, as those of the products do, which then find them in their own cache.
  template <class F> void fill(F f) const {
    constexpr int64_t kRows = 64, kColumns = 128;
    const int64_t chunks = ceil_div(run, kRows), each = runs * chunks;
    parallel_for(ceil_div(n, kColumns) * each, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t column = i / each * kColumns, r = i % each / chunks, from = i % chunks * kRows;
        f(r * run + from, std::min(kRows, run - from), r * stride + from, column, std::min(kColumns, n - column));
      }
    });
  }

 private:
  Workspace memory_;
};

// The images of a map as its value and its weight gradient read them.
template <class T> Patches<T> patches(const ConvShape& s, const T* x, int64_t group) {
  return {x + group * s.group_c(),
          s.h,
          s.w,
          s.c,
          s.group_c(),
          s.kernel.h,
          s.kernel.w,
          -s.pad.h,
          -s.pad.w,
          s.dilation.h,
          s.dilation.w,
          s.stride.h,
          s.stride.w,
          s.oh,
          s.ow};
}

// The results of a map.
template <class R> Grid<R> results(const ConvShape& s, R* y, int64_t group) {
  return {y + group * s.group_o(), s.n, s.oh, s.ow, s.oh * s.ow * s.o, s.ow * s.o, s.o};
}
// Input pixels of one residue class modulo the stride, from (i,j) on, see a fixed set of taps: their gradient is a
// convolution of dy with stride 1.
struct Residue {
  int64_t i, j, across;  // the first pixel; the kernel's width
  Taps h, w;
  int64_t places() const { return h.count * w.count; }
  int64_t tap(int64_t place) const {  // of the kernel, row by row
    return (h.last - place / w.count * h.step) * across + w.last - place % w.count * w.step;
  }
  bool in(const ConvShape& s) const { return i < s.h && j < s.w; }
  template <class R> Grid<R> pixels(const ConvShape& s, R* dx, int64_t group) const {
    const int64_t down = ceil_div(s.h - i, s.stride.h), right = ceil_div(s.w - j, s.stride.w), row = s.w * s.c;
    return {dx + (i * s.w + j) * s.c + group * s.group_c(),
            s.n,
            down,
            right,
            s.h * row,
            s.stride.h * row,
            s.stride.w * s.c};
  }
  template <class T, class R>
  Patches<T> seen(const ConvShape& s, const T* dy, int64_t group, const Grid<R>& grid) const {
    return {dy + group * s.group_o(),
            s.oh,
            s.ow,
            s.o,
            s.group_o(),
            h.count,
            w.count,
            h.base,
            w.base,
            h.delta,
            w.delta,
            1,
            1,
            grid.rows,
            grid.cols};
  }
};
template <class T, class R> std::vector<Residue> residues(const Maps<T, R>& maps) {  // that any of the maps has
  const ConvShape& s0 = maps[0].s;
  int64_t down = 0, right = 0;
  for (const auto& map : maps) down = std::max(down, map.s.h), right = std::max(right, map.s.w);
  std::vector<Residue> all;
  for (int64_t i = 0; i < std::min<int64_t>(down, s0.stride.h); ++i)
    for (int64_t j = 0; j < std::min<int64_t>(right, s0.stride.w); ++j)
      all.push_back({i, j, s0.kernel.w, conv_taps(i, s0.kernel.h, s0.stride.h, s0.pad.h, s0.dilation.h),
                     conv_taps(j, s0.kernel.w, s0.stride.w, s0.pad.w, s0.dilation.w)});
  return all;
}

// The families of algorithms, and the products of `direct` for bf16 where the processor has tile registers.
namespace direct {
template <class T, class R, class W>
void value(const Maps<T, R>& maps, const W* w, const ConvEnd& end, const Kernels& k);
template <class T, class R> void input_gradient(const Maps<T, R>& maps, const float* w, const Kernels& k);
template <class T, class R> void weight_gradient(const Maps<T, R>& maps, float* dw, const Kernels& k);
}  // namespace direct
namespace tiles {
// Whether the places of images with so many channels are packed apart, so that the images are read as they lie.
template <class T> bool apart(int64_t channels, const Kernels& k) {
  return sizeof(T) == 2 && k.tiles && channels >= 16;  // fewer would fill less than half a tile
}
// y[pixel, 0..n) = patches[pixel] B, then the epilogue, for all pixels of the grid
template <class R>
void convolve(const Patches<bf16>& p, const Grid<R>& grid, const Packed<bf16>& b, const Epilogue<R>& end,
              const Kernels& k);
template <class R> void weight_gradient(const Maps<bf16, R>& maps, float* dw, const Kernels& k);
}  // namespace tiles
namespace winograd {  // 3x3, stride 1, dilation 1, one group
bool applies(const ConvShape& s);
template <class T> int64_t tiles(const Maps<T>& maps);
template <class T, class W> void value(const Maps<T>& maps, const W* w, const ConvEnd& end, const Kernels& k);
template <class T> void input_gradient(const Maps<T>& maps, const float* w, const Kernels& k);
template <class T> void weight_gradient(const Maps<T>& maps, float* dw, const Kernels& k);
}  // namespace winograd
namespace grouped {  // groups of few inputs and outputs
bool applies(int64_t inputs, int64_t outputs, int64_t taps, const Kernels& k);
bool near(const ConvShape& s);  // whether neighbouring results read what lies near, so that spreading it is little work
template <class T, class W> void value(const Maps<T>& maps, const W* w, const ConvEnd& end, const Kernels& k);
template <class T> void input_gradient(const Maps<T>& maps, const float* w, const Kernels& k);
template <class T> void weight_gradient(const Maps<T>& maps, float* dw, const Kernels& k);
}  // namespace grouped

}  // namespace fovea::cpu
