// Winograd's convolution over blocks of 4x4 tiles: transform the input, 36 products over the channels, transform the
// result.
#include <algorithm>

#include "core/threads.h"
#include "ops/cpu/conv.h"

namespace fovea::cpu::winograd {
namespace {

// One map seen as 4x4 tiles of its result: x [n,h,w,c] with padding -> y [n,oh,ow,o].
struct Plane {
  const float* x;
  float* y;  // null for the weight gradient
  const float* dy;
  int64_t n, h, w, oh, ow, pad_h, pad_w;
  int64_t first;  // number of its first tile
  int64_t down() const { return ceil_div(oh, 4); }
  int64_t across() const { return ceil_div(ow, 4); }
};

struct Tiling {
  std::vector<Plane> planes;
  int64_t count = 0, c, o;
  void append(Plane p) {
    p.first = count;
    count += p.n * p.down() * p.across();
    planes.push_back(p);
  }
  // f(plane, n, i, j) of tile t: its first row and column in the result.
  template <class F> void at(int64_t t, F f) const {
    size_t k = planes.size() - 1;
    while (planes[k].first > t) --k;
    const Plane& p = planes[k];
    t -= p.first;
    f(p, t / p.across() / p.down(), t / p.across() % p.down() * 4, t % p.across() * 4);
  }
  Tile input(int64_t t) const {
    Tile tile;
    at(t, [&](const Plane& p, int64_t n, int64_t i, int64_t j) {
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
  Tile gradient(int64_t t) const {
    Tile tile;
    at(t, [&](const Plane& p, int64_t n, int64_t i, int64_t j) {
      tile = {p.dy + ((n * p.oh + i) * p.ow + j) * o, p.ow * o, o, 0, int(std::min<int64_t>(4, p.oh - i)), 0,
              int(std::min<int64_t>(4, p.ow - j))};
    });
    return tile;
  }
};

// The transformed weights: 36 packed matrices [c,o]. Planes are staggered, or all 36 would share cache sets.
int64_t filter_plane(int64_t c, int64_t o, const Kernels& k) { return c * round_up(o, k.vector) + 16; }

void transform_flipped(const float* w, const ConvShape& s, float* u,
                       const Kernels& k) {  // w [3,3,c,o] as [2-u,2-v,o,c]
  constexpr int64_t kBlock = 16;
  parallel_for(s.o, kBlock, [&](int64_t begin, int64_t end) {
    Workspace memory(static_cast<size_t>(kBlock * 9 * s.c) * 4);
    float* turned = memory.as<float>();  // [o, 9, c]
    for (int64_t tap = 0; tap < 9; ++tap)
      k.transpose(w + tap * s.c * s.o + begin, s.o, s.c, end - begin, turned + tap * s.c, 9 * s.c);
    for (int64_t o = begin; o < end; ++o)
      k.filter(turned + (o - begin) * 9 * s.c, s.c, true, s.c, u, filter_plane(s.o, s.c, k), s.o, o);
  });
}

// Tiles of a block: enough that the weights pay, few enough for the cache, and an even number of blocks for the
// threads. With few tiles there is one block, and the threads share its steps instead.
int64_t block_size(int64_t tiles, int64_t floats) {
  if (tiles < 192) return tiles;
  const int64_t most = std::clamp<int64_t>((int64_t{8} << 20) / (36 * 4 * floats), 24, 96);
  const int64_t blocks = round_up(ceil_div(tiles, most), 4);
  return round_up(ceil_div(tiles, blocks), 6);
}

void convolve(const Tiling& tiling, const float* u, const float* bias, bool relu, const Kernels& k) {
  const int64_t c = tiling.c, o = tiling.o, lv = round_up(c, 16) + 16, lm = round_up(o, 16) + 16;
  const int64_t u_plane = filter_plane(c, o, k), size = block_size(tiling.count, lv + lm);
  const int64_t v_plane = size * lv + 16, m_plane = size * lm + 16;
  parallel_for(ceil_div(tiling.count, std::max<int64_t>(size, 1)), 1, [&](int64_t begin, int64_t end) {
    Workspace memory(static_cast<size_t>(36 * (v_plane + m_plane)) * 4);
    float *v = memory.as<float>(), *m = v + 36 * v_plane;
    for (int64_t first = begin * size; first < std::min(end * size, tiling.count); first += size) {
      const int64_t count = std::min(size, tiling.count - first);
      parallel_for(count, 4, [&](int64_t b, int64_t e) {
        for (int64_t t = b; t < e; ++t) k.tile_input(tiling.input(first + t), c, v + t * lv, v_plane);
      });
      parallel_for(36, 1, [&](int64_t b, int64_t e) {
        for (int64_t p = b; p < e; ++p)
          k.product({count, o, c, v + p * v_plane, lv, false, u + p * u_plane, c, 0, m + p * m_plane, lm, nullptr,
                     false, nullptr, false});
      });
      parallel_for(count, 4, [&](int64_t b, int64_t e) {
        for (int64_t t = b; t < e; ++t)
          tiling.at(first + t, [&](const Plane& p, int64_t n, int64_t i, int64_t j) {
            k.tile_output(m + t * lm, m_plane, o, p.y + ((n * p.oh + i) * p.ow + j) * o, p.ow * o, o,
                          int(std::min<int64_t>(4, p.oh - i)), int(std::min<int64_t>(4, p.ow - j)), bias, relu);
          });
      });
    }
  });
}

}  // namespace

bool applies(const ConvShape& s) { return s.kernel == 3 && s.stride == 1 && s.dilation == 1 && s.groups == 1; }

int64_t tiles(const Maps& maps) {
  int64_t n = 0;
  for (auto& m : maps) n += m.s.n * ceil_div(m.s.oh, 4) * ceil_div(m.s.ow, 4);
  return n;
}

int64_t prepared_size(const ConvShape& s, const Kernels& k) { return 36 * filter_plane(s.c, s.o, k); }
void prepare(const ConvShape& s, const float* w, float* u, const Kernels& k) {
  parallel_for(s.c, 4, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      k.filter(w + c * s.o, s.c * s.o, false, s.o, u, filter_plane(s.c, s.o, k), s.c, c);
  });
}
void value(const Maps& maps, const float* prepared, const float* b, bool relu, const Kernels& k) {
  Tiling tiling{{}, 0, maps[0].s.c, maps[0].s.o};
  for (auto& [s, x, y, dx, dy] : maps) tiling.append({x, y, nullptr, s.n, s.h, s.w, s.oh, s.ow, s.pad.h, s.pad.w, 0});
  convolve(tiling, prepared, b, relu, k);
}

// dx is the convolution of dy with the flipped weights, channels exchanged, padding 2 - pad.
void input_gradient(const Maps& maps, const float* w, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  Workspace flipped(static_cast<size_t>(36 * filter_plane(s0.o, s0.c, k)) * 4);
  transform_flipped(w, s0, flipped.as<float>(), k);
  Tiling tiling{{}, 0, s0.o, s0.c};
  for (auto& [s, x, y, dx, dy] : maps)
    tiling.append({dy, dx, nullptr, s.n, s.oh, s.ow, s.h, s.w, 2 - s.pad.h, 2 - s.pad.w, 0});
  convolve(tiling, flipped.as<float>(), nullptr, false, k);
}

// dw = G' dU G, dU[p] = sum over tiles of (B' x B)[p]' (A dy A')[p]. The tiles come in blocks that fit the cache. With
// few tiles dU is the largest of the matrices: then each part of it is made and used up at once, in L2.
void weight_gradient(const Maps& maps, float* dw, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  Tiling tiling{{}, 0, s0.c, s0.o};
  for (auto& [s, x, y, dx, dy] : maps) tiling.append({x, nullptr, dy, s.n, s.h, s.w, s.oh, s.ow, s.pad.h, s.pad.w, 0});
  if (tiling.count == 0) return std::fill(dw, dw + 9 * s0.c * s0.o, 0.f);
  const int64_t c = s0.c, o = s0.o, lv = round_up(c, 16) + 16, wide = round_up(o, k.vector), lu = wide + 16;
  const int64_t most = std::max<int64_t>((int64_t{24} << 20) / (36 * 4 * (lv + wide)), 48);
  const int64_t size = ceil_div(tiling.count, ceil_div(tiling.count, most));
  const int64_t v_plane = size * lv + 16, d_plane = size * wide + 16;
  const bool few = tiling.count < 128;
  const int64_t part = few ? 24 : 96, parts = ceil_div(c, part), u_plane = part * lu + 16;
  Workspace memory(static_cast<size_t>(36 * (v_plane + d_plane + (few ? 0 : parts * u_plane))) * 4);
  float *v = memory.as<float>(), *d = v + 36 * v_plane, *du = d + 36 * d_plane;  // du [parts, 36, part, lu]
  const auto rows = [&](int64_t i) { return std::min(part, c - i * part); };
  const auto multiply = [&](int64_t i, int64_t p, float* u, int64_t count, bool add) {
    k.product({rows(i), o, count, v + p * v_plane + i * part, lv, true, d + p * d_plane, count, 0, u + p * u_plane, lu,
               nullptr, add, nullptr, false});
  };
  const auto finish = [&](int64_t i, int64_t r, const float* u) {
    k.filter_gradient(u + r * lu, u_plane, o, dw + (i * part + r) * o, c * o);
  };
  for (int64_t first = 0; first < tiling.count; first += size) {
    const int64_t count = std::min(size, tiling.count - first);
    parallel_for(count, 4, [&](int64_t b, int64_t e) {
      for (int64_t t = b; t < e; ++t) {
        k.tile_input(tiling.input(first + t), c, v + t * lv, v_plane);
        k.tile_gradient(tiling.gradient(first + t), o, d, d_plane, count, t);
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

}  // namespace fovea::cpu::winograd
