// Direct convolution as an implicit product, never the whole im2col matrix: patches are read where they lie or, at the
// border, gathered in blocks small enough for the cache. One loop serves every kernel size, stride, dilation and group,
// and the gradients as well.
#include <algorithm>
#include <array>
#include <span>

#include "core/threads.h"
#include "ops/cpu/conv.h"
#include "ops/pixels.h"

namespace fovea::cpu::direct {
namespace {

constexpr int64_t kPixels = 96, kDepth = 512;  // a block of A: 96 x 512 floats and a panel of B stay in L2
constexpr int64_t kApart = 2048;               // bytes from pixel to pixel that a cache's sets bear
constexpr int64_t kUnits = 16;                 // parts to aim at, at least, where the pixels alone give too few

// Which results i < all read only what exists: i * step + base + u * delta in [0, n) for all u < count.
Range within(int64_t all, int64_t step, int64_t base, int64_t count, int64_t delta, int64_t n) {
  const int64_t reach = (count - 1) * delta, low = base + std::min<int64_t>(0, reach), high = low + std::abs(reach);
  const int64_t begin = std::min(all, ceil_div(std::max<int64_t>(0, -low), step));
  return {begin, std::clamp(high < n ? (n - 1 - high) / step + 1 : 0, begin, all)};
}

// A rectangle of each grid. Inside, all that its pixels read exists: rows of A are read as they lie in the image.
template <class T> struct Region {
  Patches<T> p;
  Grid<T> grid;
  bool inside;
  int64_t first = 0;  // of its blocks, among those of all regions
  // A line: pixels whose patches lie at equal distances, or are gathered. A block is `wide` pixels of one, or `high`
  // lines.
  int64_t line, wide, high;
  Region(const Patches<T>& patches, const Grid<T>& all, Range rows, Range cols, bool whole)
      : p(patches), grid(all), inside(whole) {
    p.base_h += rows.begin * p.step_h, p.base_w += cols.begin * p.step_w;
    grid.y += rows.begin * grid.row + cols.begin * grid.pixel;
    p.rows = grid.rows = rows.size(), p.cols = grid.cols = cols.size();
    line = std::max<int64_t>(inside ? grid.cols : grid.size(), 1);
    wide = std::min(line, round_up(ceil_div(line, ceil_div(line, kPixels)), 6));
    high = wide < line ? 1 : kPixels / line;
  }
  int64_t lines() const { return grid.size() / line; }
  int64_t pieces() const { return ceil_div(line, wide); }
  int64_t blocks() const { return ceil_div(lines(), high) * pieces(); }
  Range block(int64_t i) const {  // its pixels
    const int64_t from = i / pieces() * high, piece = i % pieces() * wide, begin = from * line + piece;
    return {begin, begin + (wide < line ? std::min(wide, line - piece) : std::min(high, lines() - from) * line)};
  }
  std::array<int64_t, 3> at(int64_t pixel) const {  // image, row, column
    return {pixel / grid.cols / grid.rows, pixel / grid.cols % grid.rows, pixel % grid.cols};
  }
  const T* patch(int64_t pixel) const {
    const auto [n, i, j] = at(pixel);
    return p.x + ((n * p.h + i * p.step_h + p.base_h) * p.w + j * p.step_w + p.base_w) * p.ldx;
  }
  T* result(int64_t pixel) const {
    const auto [n, i, j] = at(pixel);
    return grid.y + n * grid.image + i * grid.row + j * grid.pixel;
  }
};

// Whether rows of A may be read as they lie: bf16 in pairs, pixels not so far apart that they share sets of the cache.
template <class T> bool can_lie(const Patches<T>& p) {
  const bool pairs = sizeof(T) == 4 || (p.ldx % 2 == 0 && p.run() % 2 == 0);
  return pairs && p.run() > 0 && p.step_w * p.ldx * int64_t{sizeof(T)} <= kApart;
}

// Whether each pixel of the grid reads the one at its own place, and those are all.
template <class T> bool is_image(const Patches<T>& p) {
  return p.kh * p.kw == 1 && p.step_h == 1 && p.step_w == 1 && p.base_h == 0 && p.base_w == 0 && p.rows == p.h &&
         p.cols == p.w;
}

// Then all images are one line, if the results are.
template <class T> void flatten(Patches<T>& p, Grid<T>& g) {
  if (!is_image(p) || g.row != g.cols * g.pixel || g.image != g.rows * g.row) return;
  p.w = p.cols = g.cols = g.size();
  p.h = p.rows = g.rows = g.n = 1;
}

template <class T> std::vector<Region<T>> regions_of(Patches<T> p, Grid<T> g) {
  flatten(p, g);
  const Range all{0, g.rows}, across{0, g.cols};
  const Range rows = within(g.rows, p.step_h, p.base_h, p.kh, p.delta_h, p.h);
  const Range cols = within(g.cols, p.step_w, p.base_w, p.kw, p.delta_w, p.w);
  std::vector<Region<T>> regions;
  if (!can_lie(p) || 2 * rows.size() * cols.size() < g.rows * g.cols) regions = {{p, g, all, across, false}};
  else
    regions = {{p, g, rows, cols, true},
               {p, g, {0, rows.begin}, across, false},
               {p, g, {rows.end, g.rows}, across, false},
               {p, g, rows, {0, cols.begin}, false},
               {p, g, rows, {cols.end, g.cols}, false}};
  for (size_t i = 1; i < regions.size(); ++i) regions[i].first = regions[i - 1].first + regions[i - 1].blocks();
  return regions;
}

// The depths [first, first + depth) of patches inside the image, from where a patch begins.
template <class T> std::vector<Run> runs_of(const Patches<T>& p, int64_t first, int64_t depth) {
  std::vector<Run> runs;
  for (int64_t d = first, n; d < first + depth; d += n) {
    const int64_t run = d / p.run(), at = d % p.run();
    n = std::min(first + depth - d, p.run() - at);
    runs.push_back({(p.row_of(run) * p.delta_h * p.w + p.col_of(run) * p.delta_w) * p.ldx + at, d, n});
  }
  return runs;
}

// y[pixel, 0..n) = patches[pixel] B, then the epilogue, for all pixels of the grid
template <class T>
void convolve_rows(const Patches<T>& patches, const Grid<T>& grid, const Packed<T>& b, const Epilogue<T>& epilogue,
                   const Kernels& k) {
  const std::vector<Region<T>> regions = regions_of(patches, grid);
  const int64_t blocks = regions.back().first + regions.back().blocks();
  const int64_t units = std::max<int64_t>(kUnits, 4 * num_threads());
  const int64_t groups = std::min(ceil_div(units, std::max<int64_t>(blocks, 1)), ceil_div(b.n, 2 * k.panel));
  const int64_t width = round_up(ceil_div(b.n, groups), k.panel), parts = ceil_div(b.n, width);
  const int64_t all = std::max<int64_t>(b.run, 1), step = round_up(ceil_div(all, ceil_div(all, kDepth)), 16);
  std::vector<std::vector<Run>> lying;  // of the depths that a product takes
  for (int64_t d = 0; d < all && regions[0].inside; d += step)
    lying.push_back(runs_of(regions[0].p, d, std::min(step, b.run - d)));
  const int64_t sums = step < all ? kPixels * width : 0, lda = step + 16;
  parallel_for(blocks * parts, 1, [&](int64_t begin, int64_t end) {
    Workspace memory = scratch(static_cast<size_t>(4 * sums + int64_t{sizeof(T)} * kPixels * lda));
    float* sum = memory.as<float>();
    T *a = reinterpret_cast<T*>(sum + sums), *rows[kPixels];
    for (int64_t unit = begin; unit < end; ++unit) {
      size_t at = 0;
      while (at + 1 < regions.size() && regions[at + 1].first <= unit % blocks) ++at;
      const Region<T>& region = regions[at];
      const Range pixels = region.block(unit % blocks - region.first);
      const int64_t j = unit / blocks * width;
      for (int64_t r = 0; r < pixels.size(); ++r) rows[r] = region.result(pixels.begin + r) + j;
      for (int64_t d = 0; d < all; d += step) {
        const Run gathered{0, d, std::min(step, b.run - d)};
        const std::span<const Run> runs = region.inside ? std::span(lying[size_t(d / step)]) : std::span(&gathered, 1);
        if (!region.inside && gathered.length > 0)
          k.of<T>().gather(region.p, pixels.begin, pixels.size(), d, gathered.length, a, lda);
        for (int64_t r = 0; r < pixels.size(); r += region.line)
          k.of<T>().product({.m = std::min(region.line, pixels.size() - r),
                             .n = std::min(width, b.n - j),
                             .runs = runs.data(),
                             .count = int64_t(runs.size()),
                             .a = region.inside ? region.patch(pixels.begin + r) : a,
                             .lda = region.inside ? region.p.step_w * region.p.ldx : lda,
                             .b = b.data + j * b.depth,
                             .depth = b.depth,
                             .c = sum + r * width,
                             .ldc = width,
                             .add = d > 0,
                             .rows = d + step >= all ? rows + r : nullptr,
                             .end = epilogue.from(j)});
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
    packed.fill([&](int64_t row, int64_t rows, int64_t depth, int64_t column, int64_t columns) {
      const W* from = w + g * s0.group_o() + row * s0.o + column;
      T* to = packed.data + column * packed.depth;
      if constexpr (std::is_same_v<W, T>) k.of<T>().pack(from, s0.o, rows, columns, to, packed.depth, depth);
      else k.of<T>().pack_weights(from, s0.o, rows, columns, to, packed.depth, depth);
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
      // row i * og + o: of place i, output channel o
      packed.fill([&](int64_t row, int64_t rows, int64_t depth, int64_t column, int64_t columns) {
        for (int64_t r = row, n; r < row + rows; r += n, depth += n) {
          n = std::min(row + rows, (r / og + 1) * og) - r;
          k.of<T>().pack_turned(w + (part.tap(r / og) * cg + column) * s0.o + g * og + r % og, s0.o, n, columns,
                                packed.data + column * packed.depth, packed.depth, depth);
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
  k.of<T>().pack(p.a, p.lda, p.runs[0].length, p.m, pairs, p.depth, 0);
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
  constexpr int64_t kRows = 192, kColumns = 512, kNear = 256;  // channels of pixels that stay in L1 as they lie
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
    Workspace memory = scratch(static_cast<size_t>(2 * kPixels * (2 * rows + 16 + k.panel + columns)) * sizeof(T));
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
        const Patches<T> p = patches(map.s, map.x, g);
        const bool whole = sizeof(T) == 4 && p.ldx <= kNear && is_image(p);
        if (!whole) images.gather(p, begin, count, i, m, a, rows + 16);
        images.pack(map.dy + begin * s.o + g * og + j, s.o, count, n, b, even, 0);
        const Run all{0, 0, count};
        multiply_pixels({.m = m,
                         .n = n,
                         .runs = &all,
                         .a = whole ? p.x + begin * p.ldx + i : a,
                         .lda = whole ? p.ldx : rows + 16,
                         .transposed = true,
                         .b = b,
                         .depth = even,
                         .c = c,
                         .ldc = s.o,
                         .add = q > from},
                        pairs, k);
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
