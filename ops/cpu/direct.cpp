// Direct convolution as an implicit product: blocks of pixels are gathered into rows small enough for the cache, never
// the whole im2col matrix. One loop serves every kernel size, stride, dilation and group, and the gradients as well.
#include <algorithm>

#include "core/threads.h"
#include "ops/cpu/conv.h"

namespace fovea::cpu::direct {
namespace {

constexpr int64_t kPixels = 96, kDepth = 512;  // a block of A: 96 x 512 floats and a panel of B stay in L2
constexpr int64_t kUnits = 16;                 // parts to aim at where the pixels alone give too few

// Pixel rows that can be used as they lie: a 1x1 kernel without stride, not so deep that neighbouring rows share cache
// sets.
template <class T> bool in_place(const Patches<T>& p, int64_t depth) {
  const bool whole = sizeof(T) == 4 || (depth % 2 == 0 && p.ldx % 2 == 0);  // pairs
  return whole && p.kh == 1 && p.kw == 1 && p.step_h == 1 && p.step_w == 1 && p.base_h == 0 && p.base_w == 0 &&
         p.rows == p.h && p.cols == p.w && depth <= kDepth;
}

// y[pixel, 0..n) = patches[pixel] B, then the epilogue, for all pixels of the grid
template <class T>
void convolve_rows(const Patches<T>& p, const Grid<T>& grid, const Packed<T>& b, const Epilogue<T>& epilogue,
                   const Kernels& k) {
  const int64_t pixels = grid.size(), chunks = ceil_div(pixels, kPixels);
  const int64_t groups = std::min(ceil_div(kUnits, std::max<int64_t>(chunks, 1)), ceil_div(b.n, 2 * k.panel));
  const int64_t width = round_up(ceil_div(b.n, groups), k.panel), parts = ceil_div(b.n, width);
  const int64_t blocks = std::max<int64_t>(ceil_div(b.run, kDepth), 1), step = round_up(ceil_div(b.run, blocks), 16);
  const bool gathered = !in_place(p, b.run);
  const int64_t gathers = gathered ? kPixels * (step + 16) : 0, sums = blocks > 1 ? kPixels * width : 0;
  parallel_for(chunks * parts, 1, [&](int64_t first, int64_t last) {
    Workspace memory(static_cast<size_t>(4 * sums + int64_t{sizeof(T)} * gathers));
    float* sum = memory.as<float>();
    T *a = reinterpret_cast<T*>(sum + sums), *rows[kPixels];
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t begin = unit / parts * kPixels, count = std::min(kPixels, pixels - begin), j = unit % parts * width;
      for (int64_t r = 0; r < count; ++r) {
        const int64_t q = begin + r, col = q % grid.cols, row = q / grid.cols % grid.rows,
                      n = q / grid.cols / grid.rows;
        rows[r] = grid.y + n * grid.image + row * grid.row + col * grid.pixel + j;
      }
      for (int64_t d = 0; d < std::max<int64_t>(b.run, 1); d += step) {
        const int64_t depth = std::min(step, b.run - d);
        const bool end = d + step >= b.run;
        if (gathered && depth > 0) k.of<T>().gather(p, begin, count, d, depth, a, step + 16);
        k.of<T>().product({count, std::min(width, b.n - j), depth, gathered ? a : p.x + begin * p.ldx,
                           gathered ? step + 16 : p.ldx, false, b.data + j * b.depth, b.depth, d, sums ? sum : nullptr,
                           width, d > 0, end ? rows : nullptr, epilogue.from(j)});
        if (depth <= 0) break;
      }
    }
  });
}

template <class T, class R>
void convolve(const Patches<T>& p, const Grid<R>& grid, const Packed<T>& b, const Epilogue<R>& end, const Kernels& k) {
  if constexpr (std::is_same_v<T, bf16>)
    if (k.tiles) return tiles::convolve(p, grid, b, end, k);
  if constexpr (std::is_same_v<T, R>) convolve_rows(p, grid, b, end, k);
}

}  // namespace

template <class T, class R, class W>
void value(const Maps<T, R>& maps, const W* w, const ConvEnd& end, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  for (int64_t g = 0; g < s0.groups; ++g) {
    const bool apart = s0.stride.h == 1 && s0.stride.w == 1 && tiles::apart<T>(s0.group_c(), k);
    const Packed<T> packed(s0.taps(), s0.group_c(), s0.group_o(), apart, k);
    packed.fill([&](int64_t row, int64_t rows, int64_t depth) {
      const W* from = w + g * s0.group_o() + row * s0.o;
      if constexpr (std::is_same_v<W, T>) k.of<T>().pack(from, s0.o, rows, packed.n, packed.data, packed.depth, depth);
      else k.of<T>().pack_weights(from, s0.o, rows, packed.n, packed.data, packed.depth, depth);
    });
    for (const auto& map : maps) {
      const ConvShape& s = map.s;
      convolve(patches(s, map.x, g), results(s, map.y, g), packed,
               epilogue(end, map.residual, map.y).from(g * s.group_o()), k);
    }
  }
}

template <class T, class R> void input_gradient(const Maps<T, R>& maps, const float* w, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  const int64_t cg = s0.group_c(), og = s0.group_o();
  const std::vector<Residue> parts = residues(maps);
  for (int64_t g = 0; g < s0.groups; ++g)
    for (const Residue& part : parts) {
      const Packed<T> packed(part.places(), og, cg, tiles::apart<T>(og, k), k);
      packed.fill([&](int64_t row, int64_t rows, int64_t depth) {  // row i * og + o: of place i, output channel o
        for (int64_t r = row, n; r < row + rows; r += n, depth += n) {
          n = std::min(row + rows, (r / og + 1) * og) - r;
          k.of<T>().pack_turned(w + part.tap(r / og) * cg * s0.o + g * og + r % og, s0.o, n, cg, packed.data,
                                packed.depth, depth);
        }
      });
      for (const auto& map : maps) {
        if (!part.in(map.s)) continue;
        const Grid<R> grid = part.pixels(map.s, map.dx, g);
        convolve(part.seen(map.s, map.dy, g, grid), grid, packed, Epilogue<R>{}, k);
      }
    }
}

// The product p with its A [pixels,m] as it was gathered. bf16 wants two pixels side by side: A is packed as B is, into
// `pairs`, and used panel by panel.
template <class T> void multiply_pixels(Product<T> p, T* pairs, const Kernels& k) {
  if constexpr (std::is_same_v<T, float>) return k.f32.product(p);
  k.of<T>().pack(p.a, p.lda, p.k, p.m, pairs, p.depth, 0);
  for (int64_t left = p.m; left > 0; left -= k.panel, p.c += k.panel * p.ldc, pairs += k.panel * p.depth) {
    p.m = std::min<int64_t>(k.panel, left), p.a = pairs, p.lda = 2 * round_up(p.m, k.vector);
    k.of<T>().product(p);
  }
}

// dw [depth,o] = sum over pixels of patches' dy, in parts of rows x columns; where those are few, over fixed shares of
// the pixels too, which are added up in order.
template <class T, class R> void weight_gradient(const Maps<T, R>& maps, float* dw, const Kernels& k) {
  if constexpr (std::is_same_v<T, bf16>)
    if (k.tiles) return tiles::weight_gradient(maps, dw, k);
  constexpr int64_t kRows = 192, kColumns = 512;
  struct Block {
    size_t map;
    int64_t begin, count;
  };
  std::vector<Block> blocks;
  for (size_t i = 0; i < maps.size(); ++i)
    for (int64_t p = 0, n = maps[i].s.n * maps[i].s.oh * maps[i].s.ow; p < n; p += 2 * kPixels)
      blocks.push_back({i, p, std::min(2 * kPixels, n - p)});
  const ConvShape& s = maps[0].s;
  const Typed<T>& images = k.of<T>();
  const int64_t depth = s.taps() * s.group_c(), og = s.group_o(), size = s.taps() * s.group_c() * s.o;
  if (blocks.empty()) return std::fill(dw, dw + size, 0.f);
  const int64_t across = ceil_div(depth, kRows), along = ceil_div(og, kColumns), parts = across * along * s.groups;
  const int64_t rows = round_up(ceil_div(depth, across), 6), columns = round_up(ceil_div(og, along), k.panel);
  const int64_t shares = std::min(ceil_div(kUnits, parts), ceil_div(int64_t(blocks.size()), 4));
  Workspace sums(static_cast<size_t>((shares - 1) * size) * 4);
  parallel_for(parts * shares, 1, [&](int64_t first, int64_t last) {
    Workspace memory(static_cast<size_t>(2 * kPixels * (2 * rows + 16 + k.panel + columns)) * sizeof(T));
    T *a = memory.as<T>(), *pairs = a + 2 * kPixels * (rows + 16), *b = pairs + 2 * kPixels * (rows + k.panel);
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t part = unit / shares, share = unit % shares, g = part / along / across;
      const int64_t i = part / along % across * rows, j = part % along * columns;
      const int64_t m = std::min(rows, depth - i), n = std::min(columns, og - j);
      float* c = (share == 0 ? dw : sums.as<float>() + (share - 1) * size) + i * s.o + g * og + j;
      const size_t from = share * blocks.size() / shares, to = (share + 1) * blocks.size() / shares;
      if (m <= 0 || n <= 0) continue;
      for (size_t q = from; q < to; ++q) {
        const auto& map = maps[blocks[q].map];
        const int64_t begin = blocks[q].begin, count = blocks[q].count, even = round_up(count, 2);
        images.gather(patches(map.s, map.x, g), begin, count, i, m, a, rows + 16);
        images.pack(map.dy + begin * s.o + g * og + j, s.o, count, n, b, even, 0);
        multiply_pixels({m, n, count, a, rows + 16, true, b, even, 0, c, s.o, q > from, nullptr, {}}, pairs, k);
      }
    }
  });
  for (int64_t share = 1; share < shares; ++share)
    parallel_for(size, 1 << 14, [&](int64_t first, int64_t last) {
      k.add(sums.as<float>() + (share - 1) * size + first, last - first, dw + first);
    });
}

#define FOVEA_DIRECT(T, R)                                                                    \
  template void value<T, R>(const Maps<T, R>&, const float*, const ConvEnd&, const Kernels&); \
  template void input_gradient<T, R>(const Maps<T, R>&, const float*, const Kernels&);        \
  template void weight_gradient<T, R>(const Maps<T, R>&, float*, const Kernels&);
FOVEA_DIRECT(float, float)
FOVEA_DIRECT(bf16, bf16)
FOVEA_DIRECT(bf16, float)
template void value(const Maps<bf16>&, const bf16*, const ConvEnd&, const Kernels&);

}  // namespace fovea::cpu::direct
