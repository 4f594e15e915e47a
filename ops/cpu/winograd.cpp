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
    Workspace memory(static_cast<size_t>(kBlock * row) * sizeof(W));
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

// Tiles of a block: enough that the weights pay, few enough for the cache, and an even number of blocks for the
// threads. With few tiles there is one block, and the threads share its steps instead.
int64_t block_size(int64_t tiles, int64_t floats) {
  if (tiles < 192) return tiles;
  const int64_t most = std::clamp<int64_t>((int64_t{3} << 20) / (36 * 4 * floats), 24, 48);
  return ceil_div(tiles, round_up(ceil_div(tiles, most), 2));
}
// Columns whose transformed weights are made at a time: about so many bytes, used up while they are in the cache.
int64_t slab_size(int64_t c, int64_t o, int64_t bytes) {
  const int64_t most = std::max<int64_t>(bytes / (36 * 4 * c) / 64 * 64, 64);
  return std::min(round_up(ceil_div(o, ceil_div(o, most)), 64), o);
}

template <class T, class W>
void convolve(const Tiling<T>& tiling, const Weights<W>& weights, const ConvEnd& end, const Kernels& k) {
  if (tiling.count == 0) return;
  const Typed<T>& images = k.of<T>();
  const int64_t c = weights.c, o = weights.o, lv = round_up(c, 16) + 16,
                most = block_size(tiling.count, lv + round_up(o, 16) + 16);
  const bool one = most >= tiling.count;
  const int64_t slab = slab_size(c, o, one ? 0 : 10 << 20), slabs = ceil_div(o, slab), lm = round_up(slab, 16) + 16;
  // Of one block, the threads take whole slabs where there are enough: transformed weights then stay with one core, and
  // so do the sums of 36 tiles at a time.
  const bool whole = one && slabs >= num_threads();
  const int64_t size = whole ? round_up(ceil_div(most, ceil_div(most, 36)), 6) : most;
  // planes are staggered, or all 36 would share cache sets
  const int64_t u_plane = c * round_up(slab, k.vector) + 16, v_plane = most * lv + 16, m_plane = size * lm + 16;
  Workspace shared(static_cast<size_t>(one ? 36 * v_plane : 0) * 4);
  const auto read = [&](int64_t first, int64_t count, float* v) {
    parallel_for(count, 4, [&](int64_t b, int64_t e) {
      for (int64_t t = b; t < e; ++t) images.tile_input(tiling.input(first + t), c, v + t * lv, v_plane);
    });
  };
  if (one) read(0, tiling.count, shared.as<float>());
  parallel_for(slabs, whole ? 1 : slabs, [&](int64_t first_slab, int64_t last_slab) {
    Workspace transformed(static_cast<size_t>(36 * u_plane) * 4);
    float* u = transformed.as<float>();
    for (int64_t column = first_slab * slab; column < std::min(last_slab * slab, o); column += slab) {
      const int64_t n = std::min(slab, o - column), parts = ceil_div(n, 64);
      transform(weights, column, n, u, u_plane, k);
      parallel_for(ceil_div(tiling.count, size), 1, [&](int64_t block, int64_t) {
        Workspace memory(static_cast<size_t>(36 * ((one ? 0 : v_plane) + m_plane)) * 4);
        const int64_t first = block * size, count = std::min(size, tiling.count - first);
        float *m = memory.as<float>(), *v = one ? shared.as<float>() + first * lv : m + 36 * m_plane;
        if (!one) read(first, count, v);
        parallel_for(36 * parts, 1, [&](int64_t b, int64_t e) {
          for (int64_t i = b; i < e; ++i) {
            const int64_t p = i / parts, j = i % parts * 64;
            const Run all{0, 0, c};
            k.f32.product({.m = count,
                           .n = std::min<int64_t>(64, n - j),
                           .runs = &all,
                           .a = v + p * v_plane,
                           .lda = lv,
                           .b = u + p * u_plane + j * c,
                           .depth = c,
                           .c = m + p * m_plane + j,
                           .ldc = lm});
          }
        });
        parallel_for(count, 4, [&](int64_t b, int64_t e) {
          for (int64_t t = b; t < e; ++t)
            tiling.at(first + t, [&](const Plane<T>& p, int64_t image, int64_t i, int64_t j) {
              images.tile_output(m + t * lm, m_plane, n, p.y + ((image * p.oh + i) * p.ow + j) * o + column, p.ow * o,
                                 o, int(std::min<int64_t>(4, p.oh - i)), int(std::min<int64_t>(4, p.ow - j)),
                                 epilogue(end, p.residual, p.y).from(column));
            });
        });
      });
    }
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

// dw = G' dU G, dU[p] = sum over tiles of (B' x B)[p]' (A dy A')[p]. The tiles come in blocks that fit the cache. With
// few tiles dU is the largest of the matrices: then each part of it is made and used up at once, in L2.
template <class T> void weight_gradient(const Maps<T>& maps, float* dw, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  Tiling<T> tiling{{}, 0, s0.c, s0.o};
  for (auto& [s, x, y, dx, dy, residual] : maps)
    tiling.append({x, nullptr, nullptr, dy, s.n, s.h, s.w, s.oh, s.ow, s.pad.h, s.pad.w, 0});
  const Typed<T>& images = k.of<T>();
  if (tiling.count == 0) return std::fill(dw, dw + 9 * s0.c * s0.o, 0.f);
  const int64_t c = s0.c, o = s0.o, lv = round_up(c, 16) + 16, wide = round_up(o, k.vector), lu = wide + 16;
  // a block reads and writes all of dU once: it should hold a few times as much
  const int64_t bytes = std::clamp<int64_t>(4 * 36 * 4 * c * lu, 6 << 20, 24 << 20);
  const int64_t most = std::max<int64_t>(bytes / (36 * 4 * (lv + wide)), 48);
  const int64_t size = ceil_div(tiling.count, ceil_div(tiling.count, most));
  const int64_t v_plane = size * lv + 16, d_plane = size * wide + 16;
  const bool few = tiling.count < 128;
  const int64_t part = few ? 24 : 96, parts = ceil_div(c, part), u_plane = part * lu + 16;
  Workspace memory(static_cast<size_t>(36 * (v_plane + d_plane + (few ? 0 : parts * u_plane))) * 4);
  float *v = memory.as<float>(), *d = v + 36 * v_plane, *du = d + 36 * d_plane;  // du [parts, 36, part, lu]
  const auto rows = [&](int64_t i) { return std::min(part, c - i * part); };
  const auto multiply = [&](int64_t i, int64_t p, float* u, int64_t count, bool add) {
    const Run all{0, 0, count};
    k.f32.product({.m = rows(i),
                   .n = o,
                   .runs = &all,
                   .a = v + p * v_plane + i * part,
                   .lda = lv,
                   .transposed = true,
                   .b = d + p * d_plane,
                   .depth = count,
                   .c = u + p * u_plane,
                   .ldc = lu,
                   .add = add});
  };
  const auto finish = [&](int64_t i, int64_t r, const float* u) {
    k.filter_gradient(u + r * lu, u_plane, o, dw + (i * part + r) * o, c * o);
  };
  for (int64_t first = 0; first < tiling.count; first += size) {
    const int64_t count = std::min(size, tiling.count - first);
    parallel_for(count, 4, [&](int64_t b, int64_t e) {
      for (int64_t t = b; t < e; ++t) {
        images.tile_input(tiling.input(first + t), c, v + t * lv, v_plane);
        images.tile_gradient(tiling.gradient(first + t), o, d, d_plane, count, t);
      }
    });
    if (few) break;
    parallel_for(36 * parts, 1, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) multiply(i % parts, i / parts, du + i % parts * 36 * u_plane, count, first > 0);
    });
  }
  parallel_for(few ? parts : c, few ? 1 : 8, [&](int64_t b, int64_t e) {
    if (!few) {
      for (int64_t r = b; r < e; ++r) finish(r / part, r % part, du + r / part * 36 * u_plane);
      return;
    }
    Workspace local(static_cast<size_t>(36 * u_plane) * 4);
    for (int64_t i = b; i < e; ++i) {
      for (int64_t p = 0; p < 36; ++p) multiply(i, p, local.as<float>(), tiling.count, false);
      for (int64_t r = 0; r < rows(i); ++r) finish(i, r, local.as<float>());
    }
  });
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
