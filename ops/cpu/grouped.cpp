// Convolution in groups too narrow for products, whose vectors would stay empty: depthwise, and groups of a few
// channels. Lanes are the outputs of several groups, and blocks of pixels are spread so that below each output lie the
// inputs that it reads. Then a sum needs nothing but multiply-adds of whole vectors, one a place and input. Groups of
// 2, 4 or 8 inputs and as many outputs need not even be spread: sums change lanes instead, once, at the end.
#include <algorithm>
#include <cstdlib>
#include <functional>

#include "ops/cpu/conv.h"

namespace fovea::cpu::grouped {
namespace {

constexpr int64_t kDown = 8;      // rows of results that share what is spread for them
constexpr int64_t kNumbers = 64;  // to spread of a pixel, if that fills a vector
constexpr int64_t kRow = 4096;    // to spread of a row: a few of those stay in L1
constexpr int64_t kUnits = 16;    // parts to aim at where the groups alone give too few
constexpr int64_t kFew = 64;      // numbers of a group and pixel, to spread one by one
constexpr int64_t kWidest = 32;   // channels of a group: more than that fill a product

// Groups of c inputs and o outputs, `per` of them side by side.
struct Split {
  int64_t groups, c, o, per, blocks, ld;
  Below below;
  int64_t reads;         // of a lane at a place of the kernel
  int64_t input, pixel;  // from one of these to the next, from one pixel to the next
  int64_t across;        // results of a row that share what is spread for them
  Split(int64_t groups, int64_t c, int64_t o, const Kernels& k) : groups(groups), c(c), o(o) {
    below = o % k.vector == 0 ? Below::number : c == o && o > 1 && k.vector % o == 0 ? Below::own : Below::spread;
    per = std::min(groups, std::max(kNumbers / (below == Below::spread ? c * o : c), ceil_div(k.vector, o)));
    blocks = ceil_div(groups, per), ld = round_up(per * o, k.vector);
    reads = below == Below::own ? 1 : c, input = below == Below::spread ? ld : 1;
    pixel = below == Below::spread ? c * ld : round_up(per * c, k.vector);
    across = std::max<int64_t>(8, kRow / pixel / 8 * 8);
  }
  int64_t lanes(int64_t block) const { return std::min(per, groups - block * per) * o; }
  // Where the weight of a group's input i and output j lies, from its first lane in the first depth of a place on.
  int64_t at(int64_t i, int64_t j) const {
    return below == Below::own ? (j < i ? j - i + c : j - i) * ld + i : i * ld + j;
  }
};

// Pixels from the first to the last that so many neighbouring results read.
int64_t reach(int64_t results, int64_t step, int64_t kernel, int64_t delta) {
  return (results - 1) * step + std::max<int64_t>(0, kernel - 1) * std::abs(delta) + 1;
}

// What the results [i, i + rows) x [j, j + cols) of an image read, spread: [height, width, c, ld].
template <class T> struct Spreader {
  Patches<T> p;
  Split s;
  int64_t low_h, low_w, width, height;
  std::vector<int64_t> at;  // of the kernel's places and inputs, from where a result begins to read

  Spreader(const Patches<T>& p, const Split& s) : p(p), s(s) {
    low_h = std::min<int64_t>(0, (p.kh - 1) * p.delta_h), low_w = std::min<int64_t>(0, (p.kw - 1) * p.delta_w);
    height = reach(std::min(kDown, p.rows), p.step_h, p.kh, p.delta_h);
    width = reach(std::min(s.across, p.cols), p.step_w, p.kw, p.delta_w);
    for (int64_t u = 0; u < p.kh; ++u)
      for (int64_t v = 0; v < p.kw; ++v)
        for (int64_t i = 0; i < s.reads; ++i)
          at.push_back(((u * p.delta_h - low_h) * width + v * p.delta_w - low_w) * s.pixel + i * s.input);
  }
  int64_t size() const { return height * width * s.pixel; }
  // The sums of rows of m results that e was filled for, but for what they are multiplied with and become.
  Lanes<T> sums(const float* e, int64_t rows, int64_t m, int64_t block) const {
    Lanes<T> l{};
    l.rows = rows, l.m = m, l.n = s.lanes(block), l.c = s.c, l.o = s.o, l.below = s.below;
    l.e = e, l.line = p.step_h * width * s.pixel, l.step = p.step_w * s.pixel;
    l.at = at.data(), l.depth = int64_t(at.size()), l.ld = s.ld;
    return l;
  }
  void fill(int64_t n, int64_t i, int64_t j, int64_t block, float* e, const Kernels& k) const {
    const int64_t top = i * p.step_h + p.base_h + low_h, left = j * p.step_w + p.base_w + low_w;
    const int64_t from = std::clamp<int64_t>(-left, 0, width), to = std::clamp<int64_t>(p.w - left, from, width);
    for (int64_t r = top; r < top + height; ++r, e += width * s.pixel) {
      const bool inside = r >= 0 && r < p.h;
      std::fill_n(e, (inside ? from : width) * s.pixel, 0.f);
      if (!inside) continue;
      const T* x = p.x + ((n * p.h + r) * p.w + left + from) * p.ldx + block * s.per * s.c;
      k.of<T>().spread({x, p.ldx, to - from, s.c, s.o, s.lanes(block), s.ld, s.below, e + from * s.pixel, s.pixel});
      std::fill_n(e + to * s.pixel, (width - to) * s.pixel, 0.f);
    }
  }
};

// From a weight to that of the next place of the kernel, group, input and output of a group.
struct Strides {
  int64_t tap, group, input, output;
};
// Calls f(where it is in w, where it is in [blocks, places * c, ld], as Lanes has it) for the weights at tap(place) of
// all places.
template <class Tap, class F>
void arrange(const Split& s, const Strides& step, int64_t places, const Tap& tap, const F& f) {
  const int64_t size = s.c * s.ld;
  parallel_for(s.blocks * places, ceil_div(1 << 14, size), [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t b = unit / places, lanes = s.lanes(b), to = unit * size;
      int64_t from = tap(unit % places) * step.tap + b * s.per * step.group;
      if (s.below != Below::own && step.group == s.o * step.output) {
        for (int64_t i = 0; i < s.c; ++i)
          for (int64_t l = 0; l < lanes; ++l) f(from + i * step.input + l * step.output, to + i * s.ld + l);
      } else {
        for (int64_t l = 0; l < lanes; l += s.o, from += step.group)
          for (int64_t o = 0; o < s.o; ++o)
            for (int64_t i = 0; i < s.c; ++i) f(from + i * step.input + o * step.output, to + l + s.at(i, o));
      }
    }
  });
}
template <class W, class Tap>
Workspace packed(const Split& s, const W* w, const Strides& step, int64_t places, const Tap& tap) {
  const int64_t size = s.blocks * places * s.c * s.ld;
  Workspace memory(size_t(size) * 4);
  float* to = memory.as<float>();
  if (s.groups * s.o < s.blocks * s.ld) std::fill_n(to, size, 0.f);
  arrange(s, step, places, tap, [=](int64_t from, int64_t at) { to[at] = float(w[from]); });
  return memory;
}

// y[pixel, o] for all pixels of the grid
template <class T>
void convolve(const Patches<T>& p, const Grid<T>& grid, const Split& s, const float* w, const Epilogue<T>& end,
              const Kernels& k) {
  if (grid.size() == 0) return;
  const Spreader<T> spreader(p, s);
  const int64_t down = ceil_div(grid.rows, kDown), across = ceil_div(grid.cols, s.across);
  const int64_t depth = p.kh * p.kw * s.c;
  parallel_for(grid.n * down * across * s.blocks, 1, [&](int64_t first, int64_t last) {
    Workspace memory = scratch(size_t(spreader.size()) * 4);
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t b = unit % s.blocks, j = unit / s.blocks % across * s.across;
      const int64_t i = unit / s.blocks / across % down * kDown, n = unit / s.blocks / across / down;
      spreader.fill(n, i, j, b, memory.as<float>(), k);
      T* y = grid.y + n * grid.image + i * grid.row + j * grid.pixel + b * s.per * s.o;
      const int64_t rows = std::min(kDown, grid.rows - i), m = std::min(s.across, grid.cols - j);
      Lanes<T> l = spreader.sums(memory.as<float>(), rows, m, b);
      l.w = w + b * depth * s.ld, l.y = y, l.row = grid.row, l.pixel = grid.pixel, l.end = end.from(b * s.per * s.o);
      k.of<T>().lanes(l);
    }
  });
}

}  // namespace

// Spreading must not cost more than is gained: nothing is spread, or by whole vectors, or little.
bool applies(int64_t c, int64_t o, int64_t taps, const Kernels& k) {
  if (std::max(c, o) > kWidest) return false;
  return o % k.vector == 0 || (k.vector % o == 0 && c <= o) || (c * o <= kFew && taps > 1);
}

bool near(const ConvShape& s) {
  constexpr int64_t kFar = 1 << 16;  // pixels, the padding's too
  const int64_t height = reach(std::min(kDown, s.oh), s.stride.h, s.kernel.h, s.dilation.h);
  const int64_t width = reach(std::min(kRow / kNumbers, s.ow), s.stride.w, s.kernel.w, s.dilation.w);
  return std::min(height, kFar + 1) * std::min(width, kFar + 1) <= kFar;
}

template <class T, class W> void value(const Maps<T>& maps, const W* w, const ConvEnd& end, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  const Split split(s0.groups, s0.group_c(), s0.group_o(), k);
  Workspace weights = packed(split, w, {split.c * s0.o, split.o, s0.o, 1}, s0.taps(), std::identity{});
  for (const auto& map : maps) {
    const ConvShape& s = map.s;
    convolve(patches(s, map.x, 0), results(s, map.y, 0), split, weights.as<float>(), epilogue(end, map.residual, map.y),
             k);
  }
}

template <class T> void input_gradient(const Maps<T>& maps, const float* w, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  const int64_t cg = s0.group_c(), og = s0.group_o();
  const Split split(s0.groups, og, cg, k);
  for (const Residue& part : residues(maps)) {
    const auto tap = [&](int64_t place) { return part.tap(place); };
    Workspace weights = packed(split, w, {cg * s0.o, og, 1, cg == 1 ? og : s0.o}, part.places(), tap);
    for (const auto& map : maps) {
      if (!part.in(map.s)) continue;
      const Grid<T> grid = part.pixels(map.s, map.dx, 0);
      convolve(part.seen(map.s, map.dy, 0, grid), grid, split, weights.as<float>(), Epilogue<T>{}, k);
    }
  }
}

// Over fixed shares of all blocks of pixels, which are added up in order.
template <class T> void weight_gradient(const Maps<T>& maps, float* dw, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  const Split split(s0.groups, s0.group_c(), s0.group_o(), k);
  const int64_t depth = s0.taps() * split.c, size = split.blocks * depth * split.ld;
  struct Block {
    size_t map;
    int64_t n, i, j;
  };
  std::vector<Block> blocks;
  std::vector<Spreader<T>> spreaders;
  int64_t most = 0;
  for (size_t m = 0; m < maps.size(); ++m) {
    const ConvShape& s = maps[m].s;
    spreaders.emplace_back(patches(s, maps[m].x, 0), split);
    most = std::max(most, spreaders[m].size());
    for (int64_t n = 0; n < s.n; ++n)
      for (int64_t i = 0; i < s.oh; i += kDown)
        for (int64_t j = 0; j < s.ow; j += split.across) blocks.push_back({m, n, i, j});
  }
  const int64_t shares = std::clamp<int64_t>(int64_t(blocks.size()), 1, ceil_div(kUnits, split.blocks));
  Workspace sums(size_t(shares * size) * 4);
  parallel_for(shares * split.blocks, 1, [&](int64_t first, int64_t last) {
    Workspace memory = scratch(size_t(most) * 4);
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t b = unit % split.blocks, share = unit / split.blocks;
      float* sum = sums.as<float>() + share * size + b * depth * split.ld;
      std::fill_n(sum, depth * split.ld, 0.f);
      const size_t from = share * blocks.size() / shares, to = (share + 1) * blocks.size() / shares;
      for (size_t q = from; q < to; ++q) {
        const auto& [m, n, i, j] = blocks[q];
        const ConvShape& s = maps[m].s;
        const Spreader<T>& spreader = spreaders[m];
        spreader.fill(n, i, j, b, memory.as<float>(), k);
        const T* dy = maps[m].dy + ((n * s.oh + i) * s.ow + j) * s.o + b * split.per * split.o;
        const int64_t rows = std::min(kDown, s.oh - i), results = std::min(split.across, s.ow - j);
        Lanes<T> l = spreader.sums(memory.as<float>(), rows, results, b);
        l.dw = sum, l.dy = dy, l.row = s.ow * s.o, l.pixel = s.o;
        k.of<T>().lanes_gradient(l);
      }
    }
  });
  float* total = sums.as<float>();
  parallel_for(size, 1 << 14, [&](int64_t first, int64_t last) {
    for (int64_t share = 1; share < shares; ++share) k.add(total + share * size + first, last - first, total + first);
  });
  arrange(split, {split.c * s0.o, split.o, s0.o, 1}, s0.taps(), std::identity{},
          [=](int64_t to, int64_t at) { dw[to] = total[at]; });
}

#define FOVEA_GROUPED(T)                                                             \
  template void value(const Maps<T>&, const float*, const ConvEnd&, const Kernels&); \
  template void input_gradient(const Maps<T>&, const float*, const Kernels&);        \
  template void weight_gradient(const Maps<T>&, float*, const Kernels&);
FOVEA_GROUPED(float)
FOVEA_GROUPED(bf16)
template void value(const Maps<bf16>&, const bf16*, const ConvEnd&, const Kernels&);

}  // namespace fovea::cpu::grouped
