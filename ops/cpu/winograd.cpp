// Winograd's convolution over blocks of 4x4 tiles: transform the input, 36 products over the channels, transform the
// result.
#include <algorithm>
#include <type_traits>

#include "core/threads.h"
#include "ops/cpu/conv.h"

namespace fovea::cpu::winograd {
namespace {

// One map seen as 4x4 tiles of its result: x [n,h,w,c] with padding -> y [n,oh,ow,o].
template <class T> struct Plane {
  const T* x;
  T* y;  // null for the weight gradient
  const T *residual, *dy;
  int64_t n, h, w, oh, ow, pad_h, pad_w;
  int64_t first;  // number of its first tile
  int64_t down() const { return ceil_div(oh, 4); }
  int64_t across() const { return ceil_div(ow, 4); }
};

template <class T> struct Tiling {
  std::vector<Plane<T>> planes;
  int64_t count = 0, c, o;
  void append(Plane<T> p) {
    p.first = count;
    count += p.n * p.down() * p.across();
    planes.push_back(p);
  }
  // f(plane, n, i, j) of tile t: its first row and column in the result.
  template <class F> void at(int64_t t, F f) const {
    size_t k = planes.size() - 1;
    while (planes[k].first > t) --k;
    const Plane<T>& p = planes[k];
    t -= p.first;
    f(p, t / p.across() / p.down(), t / p.across() % p.down() * 4, t % p.across() * 4);
  }
  Tile<T> input(int64_t t) const {
    Tile<T> tile;
    at(t, [&](const Plane<T>& p, int64_t n, int64_t i, int64_t j) {
      const int64_t y = i - p.pad_h, x = j - p.pad_w;
      tile = {p.x + ((n * p.h + y) * p.w + x) * c,
              p.w * c,
              c,
              int(std::max<int64_t>(0, -y)),
              int(std::min<int64_t>(6, p.h - y)),
              int(std::max<int64_t>(0, -x)),
              int(std::min<int64_t>(6, p.w - x))};
    });
    return tile;
  }
  Tile<T> gradient(int64_t t) const {
    Tile<T> tile;
    at(t, [&](const Plane<T>& p, int64_t n, int64_t i, int64_t j) {
      tile = {p.dy + ((n * p.oh + i) * p.ow + j) * o, p.ow * o, o, 0, int(std::min<int64_t>(4, p.oh - i)), 0,
              int(std::min<int64_t>(4, p.ow - j))};
    });
    return tile;
  }
};

// The weights of a product of `c` channels deep and `o` wide: w [3,3,c,o], or w [3,3,o,c] to be turned round and about.
template <class W> struct Weights {
  const W* w;
  int64_t c, o;
  bool flipped;
};
// Columns [first, first + n) of the transformed weights: 36 packed matrices [c,n], `plane` floats apart. A few rows of
// all taps are gathered first: they lie far apart, often at multiples of a power of two that share cache sets. The rows
// that follow are asked for meanwhile: the memory idles while these are computed with.
template <class W>
void transform(const Weights<W>& f, int64_t first, int64_t n, float* u, int64_t plane, const Kernels& k) {
  constexpr int64_t kBlock = 16;  // a line of memory, where they are turned
  parallel_for(f.c, kBlock, [&](int64_t begin, int64_t end) {
    const int64_t tap = n + 16, row = 9 * tap;
    Workspace memory = scratch(static_cast<size_t>(kBlock * row) * sizeof(W));
    W* rows = memory.as<W>();  // [c, 9, n]
    const auto tap_at = [&](int64_t t, int64_t c, int64_t o) {
      return f.w + (f.flipped ? (t * f.o + first + o) * f.c + c : (t * f.c + c) * f.o + first + o);
    };
    for (int64_t t = 0; t < 9; ++t) {
      if constexpr (std::is_same_v<W, float>)
        if (f.flipped) {
          k.transpose(tap_at(t, begin, 0), f.c, n, end - begin, rows + t * tap, row);
          continue;
        }
      for (int64_t c = begin; c < end; ++c) std::copy_n(tap_at(t, c, 0), n, rows + (c - begin) * row + t * tap);
    }
    for (int64_t c = begin; c < end; ++c) {
      for (int64_t t = 0; t < 9; ++t)
        for (int64_t o = 0; o < n; o += kBlock)
          __builtin_prefetch(f.flipped ? tap_at(t, begin + kBlock, o + c - begin) : tap_at(t, c + kBlock, o), 0, 2);
      k.of<W>().filter(rows + (c - begin) * row, tap, f.flipped, n, u, plane, f.c, c);
    }
  });
}

// Columns whose transformed weights are made at a time: about so many bytes, used up while they are in the cache.
int64_t slab_size(int64_t c, int64_t o, int64_t bytes) {
  const int64_t most = std::max<int64_t>(bytes / (36 * 4 * c) / 64 * 64, 64);
  return std::min(round_up(ceil_div(o, ceil_div(o, most)), 64), o);
}
// What all threads need, a thread makes for itself where it is little work, for so many columns or tiles each, and
// little memory: this takes less time than to fetch the parts that others have just written into their caches.
bool worth_repeating(int64_t uses, int64_t floats) { return uses >= 64 * num_threads() && floats <= 1 << 20; }

// How the work is shared out. A unit is a group of tiles by a slab of 64 columns. Where there are enough of them, a
// thread takes whole ones: the transformed weights then stay with one core, and so do the sums of 36 tiles at a time.
// Otherwise the threads take blocks of tiles, for wide slabs, or of few tiles share each step.
struct Plan {
  bool units, own_u, own_v;
  int64_t slab, group, block;  // columns; tiles whose transforms are kept, and that are multiplied, at a time
  Plan(int64_t tiles, int64_t c, int64_t o) {
    const int64_t row = 36 * 4 * (round_up(c, 16) + 16), sums = 36 * 4 * (round_up(o, 16) + 16),
                  threads = num_threads();
    const bool few = tiles < (threads == 2 ? 96 : 192);  // two threads take a half each
    slab = slab_size(c, o, few ? 0 : 10 << 20);
    own_u = !few && worth_repeating(tiles, 36 * c * slab);
    // an even number of groups and of blocks (measured on two threads), or as many blocks for each of more threads
    const int64_t fit = std::min<int64_t>((7 << 20) / row, 192), narrow = slab_size(c, o, 0);
    const int64_t groups = few ? 1 : round_up(ceil_div(tiles, std::max<int64_t>(fit, 1)), 2);
    units = groups * ceil_div(o, narrow) >= (few ? threads : 4 * threads) && (few || (!own_u && fit >= 96));
    if (units) {
      slab = narrow, group = ceil_div(tiles, groups), block = round_up(ceil_div(group, ceil_div(group, 36)), 6);
      own_u = true, own_v = !few || worth_repeating(o, group * row / 4);
    } else {  // enough that the weights pay, few enough for the cache
      const int64_t most = std::clamp<int64_t>((3 << 20) / (row + sums), 24, 48);
      const int64_t even = threads <= 2 ? 2 : std::min(threads, tiles / 12);
      group = block = few ? tiles : ceil_div(tiles, round_up(ceil_div(tiles, most), even));
      own_v = !few;
    }
  }
};

template <class T, class W> class Convolution {
 public:
  Convolution(const Tiling<T>& tiling, const Weights<W>& weights, const ConvEnd& end, const Kernels& k)
      : tiling_(tiling), weights_(weights), end_(end), k_(k) {}
  void run() {
    if (!plan_.own_v) v_.mine(0, [&](float* v) { read(0, tiling_.count, v); });
    plan_.units ? by_units() : by_blocks();
  }

 private:
  void by_units() {
    const int64_t slabs = ceil_div(o_, plan_.slab);
    parallel_for(ceil_div(tiling_.count, plan_.group) * slabs, 1, [&](int64_t unit, int64_t) {
      const int64_t g = unit / slabs, column = unit % slabs * plan_.slab, first = g * plan_.group;
      const int64_t count = std::min(plan_.group, tiling_.count - first);
      const float* u = weights(column);
      const float* v = v_.mine(g, [&](float* v) { read(first, count, v); });
      for (int64_t i = 0; i < count; i += plan_.block)
        multiply(first + i, std::min(plan_.block, count - i), column, v + i * lv_, u);
    });
  }
  void by_blocks() {
    for (int64_t column = 0; column < o_; column += plan_.slab) {
      if (!plan_.own_u) weights(column);  // by all threads, before they part
      parallel_for(ceil_div(tiling_.count, plan_.block), 1, [&](int64_t i, int64_t) {
        const int64_t first = i * plan_.block, count = std::min(plan_.block, tiling_.count - first);
        const float* u = weights(column);
        float* v = v_.mine();
        if (plan_.own_v) read(first, count, v);
        multiply(first, count, column, v, u);
      });
    }
  }
  int64_t columns(int64_t column) const { return std::min(plan_.slab, o_ - column); }
  const float* weights(int64_t column) {  // of a slab, transformed
    return u_.mine(column, [&](float* u) { transform(weights_, column, columns(column), u, u_plane_, k_); });
  }
  void read(int64_t first, int64_t count, float* v) const {
    parallel_for(count, 4, [&](int64_t b, int64_t e) {
      for (int64_t t = b; t < e; ++t)
        k_.of<T>().tile_input(tiling_.input(first + t), c_, v + t * lv_, v_plane_, Points::all);
    });
  }
  // y of tiles [first, first + count) and the columns of a slab
  void multiply(int64_t first, int64_t count, int64_t column, const float* v, const float* u) {
    float* m = m_.mine();
    const int64_t n = columns(column), parts = ceil_div(n, 64);
    parallel_for(36 * parts, 1, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        const int64_t p = i / parts, j = i % parts * 64;
        const Run all{0, 0, c_};
        k_.f32.product({.m = count,
                        .n = std::min<int64_t>(64, n - j),
                        .runs = &all,
                        .a = v + p * v_plane_,
                        .lda = lv_,
                        .b = u + p * u_plane_ + j * c_,
                        .depth = c_,
                        .c = m + p * m_plane_ + j,
                        .ldc = lm_});
      }
    });
    parallel_for(count, 4, [&](int64_t b, int64_t e) {
      for (int64_t t = b; t < e; ++t)
        tiling_.at(first + t, [&](const Plane<T>& p, int64_t image, int64_t i, int64_t j) {
          k_.of<T>().tile_output(m + t * lm_, m_plane_, n, p.y + ((image * p.oh + i) * p.ow + j) * o_ + column,
                                 p.ow * o_, o_, int(std::min<int64_t>(4, p.oh - i)),
                                 int(std::min<int64_t>(4, p.ow - j)), epilogue(end_, p.residual, p.y).from(column));
        });
    });
  }

  const Tiling<T>& tiling_;
  const Weights<W>& weights_;
  const ConvEnd& end_;
  const Kernels& k_;
  const int64_t c_ = weights_.c, o_ = weights_.o;
  const Plan plan_{tiling_.count, c_, o_};
  // rows and planes are staggered, or all 36 would share cache sets
  const int64_t lv_ = round_up(c_, 16) + 16, lm_ = round_up(plan_.slab, 16) + 16;
  const int64_t u_plane_ = c_ * round_up(plan_.slab, k_.vector) + 16, v_plane_ = plan_.group * lv_ + 16,
                m_plane_ = plan_.block * lm_ + 16;
  PerThread u_{36 * u_plane_, plan_.own_u}, v_{36 * v_plane_, plan_.own_v}, m_{36 * m_plane_};
};

template <class T, class W>
void convolve(const Tiling<T>& tiling, const Weights<W>& weights, const ConvEnd& end, const Kernels& k) {
  if (tiling.count > 0) Convolution<T, W>(tiling, weights, end, k).run();
}

// dw = G' dU G, dU[p] = sum over tiles of (B' x B)[p]' (A dy A')[p].
constexpr int64_t kFew = 128;

// Of few tiles dU is the largest of the matrices: each part of its rows is made and used up at once, by one thread.
template <class T> void weight_gradient_of_few(const Tiling<T>& tiling, float* dw, const Kernels& k) {
  constexpr int64_t kPart = 24, kRead = 32, lv = kRead + 16;  // rows; the same in whole vectors
  const Typed<T>& images = k.of<T>();
  const int64_t count = tiling.count, c = tiling.c, o = tiling.o, wide = round_up(o, k.vector), lu = wide + 16;
  const int64_t v_plane = count * lv + 16, d_plane = count * wide + 16, u_plane = kPart * lu + 16;
  const bool own_d = worth_repeating(c, 36 * d_plane);
  PerThread d_of(36 * d_plane, own_d), v_of(36 * v_plane), u_of(36 * u_plane);
  const auto make_d = [&](float* d) {
    parallel_for(count, 4, [&](int64_t b, int64_t e) {
      for (int64_t t = b; t < e; ++t) images.tile_gradient(tiling.gradient(t), o, d, d_plane, count, t, Points::all);
    });
  };
  if (!own_d) d_of.mine(0, make_d);
  parallel_for(ceil_div(c, kPart), 1, [&](int64_t part, int64_t) {
    const int64_t first = part * kPart, rows = std::min(kPart, c - first);
    const float* d = d_of.mine(0, make_d);
    float *v = v_of.mine(), *u = u_of.mine();
    for (int64_t t = 0; t < count; ++t) {
      Tile<T> tile = tiling.input(t);
      tile.x += first;
      images.tile_input(tile, std::min(kRead, c - first), v + t * lv, v_plane, Points::all);
    }
    const Run all{0, 0, count};
    for (int64_t p = 0; p < 36; ++p)
      k.f32.product({.m = rows,
                     .n = o,
                     .runs = &all,
                     .a = v + p * v_plane,
                     .lda = lv,
                     .transposed = true,
                     .b = d + p * d_plane,
                     .depth = count,
                     .c = u + p * u_plane,
                     .ldc = lu});
    for (int64_t r = 0; r < rows; ++r) k.filter_gradient(u + r * lu, u_plane, o, dw + (first + r) * o, c * o);
  });
}

// The tiles come in blocks that fit the cache. Two threads share out the 36 products from the start, transforms and
// all: what one makes, the other neither reads nor overwrites, and little is computed twice. If one of the cores is
// taken away, though, the other waits.
template <class T> void weight_gradient_of_many(const Tiling<T>& tiling, float* dw, const Kernels& k) {
  const Typed<T>& images = k.of<T>();
  const int64_t c = tiling.c, o = tiling.o, lv = round_up(c, 16) + 16, wide = round_up(o, k.vector), lu = wide + 16;
  // a block reads and writes all of dU once: it should hold a few times as much
  const int64_t bytes = std::clamp<int64_t>(4 * 36 * 4 * c * lu, 6 << 20, 24 << 20);
  const int64_t most = std::max<int64_t>(bytes / (36 * 4 * (lv + wide)), 48);
  const int64_t size = ceil_div(tiling.count, ceil_div(tiling.count, most));
  const int64_t v_plane = size * lv + 16, d_plane = size * wide + 16;
  constexpr int64_t kPart = 96;  // rows
  const int64_t parts = ceil_div(c, kPart), u_plane = kPart * lu + 16;
  const int64_t halves = num_threads() == 2 ? 2 : 1, planes = 36 / halves;
  Workspace memory(static_cast<size_t>(36 * parts * u_plane) * 4);
  float* du = memory.as<float>();  // [parts, 36, kPart, lu]
  PerThread transforms(planes * (v_plane + d_plane), halves == 2);
  parallel_for(halves, 1, [&](int64_t half, int64_t) {
    const Points points = halves == 1 ? Points::all : half == 0 ? Points::first : Points::second;
    float *v = transforms.mine(), *d = v + planes * v_plane;
    for (int64_t first = 0; first < tiling.count; first += size) {
      const int64_t count = std::min(size, tiling.count - first);
      parallel_for(count, 4, [&](int64_t b, int64_t e) {
        for (int64_t t = b; t < e; ++t) {
          images.tile_input(tiling.input(first + t), c, v + t * lv, v_plane, points);
          images.tile_gradient(tiling.gradient(first + t), o, d, d_plane, count, t, points);
        }
      });
      parallel_for(planes * parts, 1, [&](int64_t unit, int64_t) {
        const int64_t i = unit % parts, p = unit / parts;
        const Run all{0, 0, count};
        k.f32.product({.m = std::min(kPart, c - i * kPart),
                       .n = o,
                       .runs = &all,
                       .a = v + p * v_plane + i * kPart,
                       .lda = lv,
                       .transposed = true,
                       .b = d + p * d_plane,
                       .depth = count,
                       .c = du + (i * 36 + half * planes + p) * u_plane,
                       .ldc = lu,
                       .add = first > 0});
      });
    }
  });
  parallel_for(c, 8, [&](int64_t b, int64_t e) {
    for (int64_t r = b; r < e; ++r)
      k.filter_gradient(du + r / kPart * 36 * u_plane + r % kPart * lu, u_plane, o, dw + r * o, c * o);
  });
}

}  // namespace

bool applies(const ConvShape& s) { return s.kernel == 3 && s.stride == 1 && s.dilation == 1 && s.groups == 1; }

template <class T> int64_t tiles(const Maps<T>& maps) {
  int64_t n = 0;
  for (auto& m : maps) n += m.s.n * ceil_div(m.s.oh, 4) * ceil_div(m.s.ow, 4);
  return n;
}

template <class T, class W> void value(const Maps<T>& maps, const W* w, const ConvEnd& end, const Kernels& k) {
  Tiling<T> tiling{{}, 0, maps[0].s.c, maps[0].s.o};
  for (auto& [s, x, y, dx, dy, residual] : maps)
    tiling.append({x, y, residual, nullptr, s.n, s.h, s.w, s.oh, s.ow, s.pad.h, s.pad.w, 0});
  convolve(tiling, Weights<W>{w, tiling.c, tiling.o, false}, end, k);
}

// dx is the convolution of dy with the flipped weights, channels exchanged, padding 2 - pad.
template <class T> void input_gradient(const Maps<T>& maps, const float* w, const Kernels& k) {
  Tiling<T> tiling{{}, 0, maps[0].s.o, maps[0].s.c};
  for (auto& [s, x, y, dx, dy, residual] : maps)
    tiling.append({dy, dx, nullptr, nullptr, s.n, s.oh, s.ow, s.h, s.w, 2 - s.pad.h, 2 - s.pad.w, 0});
  convolve(tiling, Weights<float>{w, tiling.c, tiling.o, true}, {}, k);
}

template <class T> void weight_gradient(const Maps<T>& maps, float* dw, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  Tiling<T> tiling{{}, 0, s0.c, s0.o};
  for (auto& [s, x, y, dx, dy, residual] : maps)
    tiling.append({x, nullptr, nullptr, dy, s.n, s.h, s.w, s.oh, s.ow, s.pad.h, s.pad.w, 0});
  if (tiling.count == 0) return std::fill(dw, dw + 9 * s0.c * s0.o, 0.f);
  tiling.count < kFew ? weight_gradient_of_few(tiling, dw, k) : weight_gradient_of_many(tiling, dw, k);
}

#define FOVEA_WINOGRAD(T)                                                               \
  template int64_t tiles<T>(const Maps<T>&);                                            \
  template void value<T>(const Maps<T>&, const float*, const ConvEnd&, const Kernels&); \
  template void input_gradient<T>(const Maps<T>&, const float*, const Kernels&);        \
  template void weight_gradient<T>(const Maps<T>&, float*, const Kernels&);
FOVEA_WINOGRAD(float)
FOVEA_WINOGRAD(bf16)
template void value(const Maps<bf16>&, const bf16*, const ConvEnd&, const Kernels&);

}  // namespace fovea::cpu::winograd
