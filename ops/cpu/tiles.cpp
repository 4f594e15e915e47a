// Convolutions of bf16 by tile registers. With a border of zeros around the image, 16 neighbouring pixels are a tile as
// they lie, and another place of the kernel is the same tile further on: pixel q of the result reads q + offset, across
// the ends of rows too; what falls into the border is thrown away. Other strides than 1 are gathered first.
#include <algorithm>

#include "core/threads.h"
#include "ops/cpu/conv.h"

namespace fovea::cpu::tiles {
namespace {

constexpr int64_t kStrip = 32;    // rows of two tiles
constexpr int64_t kAtOnce = 128;  // pixels that are turned while they are in L1

// How the pixels of a grid become rows of A: in bands of whole rows of the grid.
struct Bands {
  bool bordered, lying;          // with a border of zeros, or as they are in memory; neither: gathered
  int64_t top, left;             // where a band of the image begins, from its first pixel of the grid
  int64_t tall, wide;            // rows and columns that it has beyond those of the grid
  int64_t rows, count;           // of a band (the last one may have fewer), bands of an image
  int64_t pitch, furthest = 0;   // pixels from a row to the next; the largest of the offsets
  std::vector<int64_t> offsets;  // of the kernel's places, in pixels
  int64_t height(int64_t band, int64_t all) const { return std::min(rows, all - band * rows); }
};

bool can_be_bordered(const Patches<bf16>& p) { return p.step_h == 1 && p.step_w == 1 && p.kh * p.kw > 0; }

// Bands of about `pixels`.
Bands bands_of(const Patches<bf16>& p, bool bordered, int64_t pixels) {
  const auto low = [](int64_t base, int64_t n, int64_t delta) { return base + std::min<int64_t>(0, (n - 1) * delta); };
  Bands b{};
  b.bordered = bordered;
  b.pitch = p.cols;
  if (b.bordered) {
    b.top = low(p.base_h, p.kh, p.delta_h), b.left = low(p.base_w, p.kw, p.delta_w);
    b.tall = (p.kh - 1) * std::abs(p.delta_h), b.wide = (p.kw - 1) * std::abs(p.delta_w);
    b.lying = b.top == 0 && b.left == 0 && b.tall == 0 && b.wide == 0 && p.rows == p.h && p.cols == p.w;
    if (b.wide > 0 || b.tall > 0) b.pitch = round_up(p.cols + b.wide, 2);  // rows begin with a pair
    for (int64_t u = 0; u < p.kh; ++u)
      for (int64_t v = 0; v < p.kw; ++v)
        b.offsets.push_back((p.base_h + u * p.delta_h - b.top) * b.pitch + p.base_w + v * p.delta_w - b.left);
    b.furthest = *std::max_element(b.offsets.begin(), b.offsets.end());
  }
  const int64_t high = std::clamp<int64_t>(pixels / std::max<int64_t>(b.pitch, 1), 1, std::max<int64_t>(p.rows, 1));
  b.rows = ceil_div(p.rows, std::max<int64_t>(ceil_div(p.rows, high), 1));  // evenly
  b.count = p.rows > 0 ? ceil_div(p.rows, b.rows) : 0;
  return b;
}

// Rows [row, row + rows) of image n with their border, `pitch` pixels a row, `stride` numbers a pixel: the channels,
// then zeros.
void copy_bordered(const Patches<bf16>& p, const Bands& b, int64_t n, int64_t row, int64_t rows, int64_t stride,
                   bf16* y) {
  const int64_t low = std::clamp<int64_t>(-b.left, 0, b.pitch), high = std::clamp<int64_t>(p.w - b.left, low, b.pitch);
  for (int64_t i = row + b.top; i < row + b.top + rows; ++i, y += b.pitch * stride) {
    if (i < 0 || i >= p.h) {
      std::fill_n(y, b.pitch * stride, bf16());
      continue;
    }
    const bf16* x = p.x + ((n * p.h + i) * p.w + low + b.left) * p.ldx;
    std::fill_n(y, low * stride, bf16());
    if (p.ldx == stride && p.c == stride) std::copy_n(x, (high - low) * stride, y + low * stride);
    else
      for (int64_t j = low; j < high; ++j, x += p.ldx) {
        std::copy_n(x, p.c, y + j * stride);
        std::fill_n(y + j * stride + p.c, stride - p.c, bf16());
      }
    std::fill_n(y + high * stride, (b.pitch - high) * stride, bf16());
  }
}

// An odd number of cache lines: rows a power of two apart would share few sets of the cache.
int64_t spread(int64_t numbers) { return round_up(numbers, kTileDepth) | kTileDepth; }

}  // namespace

template <class R>
void convolve(const Patches<bf16>& p, const Grid<R>& grid, const Packed<bf16>& b, const Epilogue<R>& end,
              const Kernels& k) {
  constexpr int64_t kPixels = 256;
  Bands bands = bands_of(p, can_be_bordered(p) && apart<bf16>(p.c, k), kPixels);
  const int64_t units = grid.n * bands.count;
  if (units == 0 || bands.pitch == 0) return;
  const int64_t groups = std::min(ceil_div(std::max(8, 4 * num_threads()), units), ceil_div(b.n, k.panel));
  const int64_t width = round_up(ceil_div(b.n, groups), k.panel), parts = ceil_div(b.n, width);
  bands.lying = bands.lying && p.c == b.stride;
  const int64_t pixel = bands.lying ? p.ldx : bands.bordered ? b.stride : spread(b.depth);
  std::vector<Run> runs;
  for (int64_t offset : bands.offsets) runs.push_back({offset * pixel, int64_t(runs.size()) * b.stride, b.stride});
  if (!bands.bordered) runs.push_back({0, 0, b.depth});
  const size_t room = bands.lying ? 0 : size_t((bands.rows + bands.tall) * bands.pitch);
  parallel_for(units * parts, 1, [&](int64_t first, int64_t last) {
    Workspace memory = scratch(room * size_t(pixel) * sizeof(bf16));
    Workspace targets = scratch(size_t(bands.rows * bands.pitch) * sizeof(R*));
    bf16* a = memory.as<bf16>();
    R** rows = targets.as<R*>();
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t n = unit / parts / bands.count, band = unit / parts % bands.count, j = unit % parts * width;
      const int64_t from = band * bands.rows, height = bands.height(band, grid.rows);
      const int64_t m = (height - 1) * bands.pitch + grid.cols;
      for (int64_t q = 0; q < m; ++q) {
        const int64_t col = q % bands.pitch, r = from + q / bands.pitch;
        rows[q] = col < grid.cols ? grid.y + n * grid.image + r * grid.row + col * grid.pixel + j : nullptr;
      }
      const bf16* pixels = a;
      if (bands.lying) {
        pixels = p.x + (n * p.h + from) * p.w * p.ldx;
      } else if (bands.bordered) {
        copy_bordered(p, bands, n, from, height + bands.tall, b.stride, a);
      } else if (b.depth > 0) {
        k.half->gather(p, (n * grid.rows + from) * grid.cols, m, 0, b.run, a, pixel);
        for (int64_t q = 0; q < m; ++q) std::fill(a + q * pixel + b.run, a + q * pixel + b.depth, bf16());
      }
      k.tiles->multiply(TileProduct<R>{m, std::min(width, b.n - j), runs.data(), int64_t(runs.size()), pixels, pixel,
                                       b.data + j * b.depth, b.depth, nullptr, 0, false, rows, end.from(j)});
    }
  });
}
template void convolve(const Patches<bf16>&, const Grid<bf16>&, const Packed<bf16>&, const Epilogue<bf16>&,
                       const Kernels&);
template void convolve(const Patches<bf16>&, const Grid<float>&, const Packed<bf16>&, const Epilogue<float>&,
                       const Kernels&);

namespace {

// Here the pixels are the depth, those of several bands, images and maps in a row. At odd offsets pairs of pixels are
// others than at even ones: there the image, with its border, is B, packed twice, and dy, transposed, is A. Else the
// image is A, and the sums lie as dw.
struct WeightGradient {
  struct Map {
    Patches<bf16> p;
    const bf16* dy;
    int64_t images;
    Bands bands;
  };
  struct Band {
    const Map* map;
    int64_t image, from, height;
    int64_t dy, dy_depth, x, x_depth;  // where it lies among the depths, and how many those are
  };
  std::vector<Map> maps;
  int64_t channels, n, o;  // of the image (of all places, where it is gathered); of dy, those that count and all
  float *dw, *sums;        // [places, channels, o], and [places, n, channels] for odd offsets
  const Kernels& k;
  bool odd = false;

  // Set for each group of bands.
  std::vector<Band> bands = {};
  int64_t row = 0, x_depth = 0, dy_depth = 0;
  bf16 *turned = nullptr, *packed = nullptr;

  int64_t width(int64_t all, int64_t first) const { return std::min<int64_t>(k.panel, all - first); }
  int64_t image_size() const { return x_depth * round_up(channels, k.vector); }

  // Packs pixels [first, count) of `width` channels as depths [at, at + depth), of which the last ones are zeros.
  void pack(const bf16* x, int64_t ld, int64_t first, int64_t count, int64_t width, bf16* panel, int64_t depths,
            int64_t at, int64_t depth) const {
    const int64_t wide = round_up(width, k.vector), even = round_up(count - first, 2);
    k.half->pack(x + first * ld, ld, count - first, width, panel, depths, at);
    std::fill(panel + (at + even) * wide, panel + (at + depth) * wide, bf16());
  }
  void turn(bf16* pairs, int64_t depth, int64_t width, bf16* rows) const {  // to rows of A
    k.transpose(reinterpret_cast<float*>(pairs), round_up(width, k.vector), depth / 2, width,
                reinterpret_cast<float*>(rows), row / 2);
  }
  void prepare_image(const Band& b, int64_t c, bf16* pixels, bf16* pairs) const {  // a panel of its channels
    const auto& [p, dy, images, m] = *b.map;
    const int64_t wide = width(channels, c);
    int64_t count = b.height * p.cols, ld = k.panel;
    const bf16* x = pixels;
    if (m.lying) {
      x = p.x + (b.image * p.h + b.from) * p.w * p.ldx + c, ld = p.ldx;
    } else if (m.bordered) {
      Patches<bf16> part = p;
      part.x += c, part.c = ld = wide, count = (b.height + m.tall) * m.pitch;
      copy_bordered(part, m, b.image, b.from, b.height + m.tall, wide, pixels);
    } else {
      k.half->gather(p, (b.image * p.rows + b.from) * p.cols, count, c, wide, pixels, ld);
    }
    if (odd)
      for (int64_t first : {0, 1})
        pack(x, ld, first, count, wide, packed + first * image_size() + c * x_depth, x_depth, b.x, b.x_depth);
    else
      for (int64_t q = 0; q < b.x_depth; q += kAtOnce) {
        const int64_t depth = std::min(kAtOnce, b.x_depth - q);
        pack(x + q * ld, ld, 0, std::clamp<int64_t>(count - q, 0, depth), wide, pairs, 0, 0, depth);
        turn(pairs, depth, wide, turned + c * row + b.x + q);
      }
  }
  void prepare_gradient(const Band& b, int64_t j, bf16* pairs) const {  // a panel of its channels; zeros in the border
    const auto& [p, dy, images, m] = *b.map;
    const int64_t wide = width(n, j), padded = round_up(wide, k.vector);
    const bool flat = m.pitch == p.cols;  // no border at the ends of rows
    const bf16* y = dy + (b.image * p.rows + b.from) * p.cols * o + j;
    bf16* panel = odd ? pairs : packed + j * dy_depth + b.dy * padded;
    std::fill_n(panel, b.dy_depth * padded, bf16());
    for (int64_t i = 0; i < (flat ? 1 : b.height); ++i)
      k.half->pack(y + i * p.cols * o, o, flat ? b.height * p.cols : p.cols, wide, panel, 0, i * m.pitch);
    if (odd) turn(pairs, b.dy_depth, wide, turned + j * row + b.dy);
  }
  // A strip of rows of A. The sums for odd offsets are turned to where they belong by the last group of bands.
  void multiply(int64_t place, int64_t first, bool add, bool last) const {
    int64_t parity = 0;
    std::vector<Run> runs;
    for (const Band& b : bands) {
      const int64_t offset = b.map->bands.bordered ? b.map->bands.offsets[size_t(place)] : 0;
      parity = odd ? offset % 2 : 0;
      runs.push_back(odd ? Run{b.dy, b.x + offset - parity, b.dy_depth} : Run{b.x + offset, b.dy, b.dy_depth});
    }
    const int64_t rows = odd ? n : channels, columns = odd ? channels : n, strip = std::min(kStrip, rows - first);
    const bool alone = odd && last && !add;
    Workspace own = scratch(size_t(alone ? strip * columns : 0) * sizeof(float));
    float* c = alone ? own.as<float>() : odd ? sums + (place * n + first) * columns : dw + (place * rows + first) * o;
    const int64_t ld = odd ? columns : o;
    k.tiles->multiply(TileProduct<float>{strip,
                                         columns,
                                         runs.data(),
                                         int64_t(runs.size()),
                                         turned + first * row,
                                         row,
                                         packed + parity * image_size(),
                                         odd ? x_depth : dy_depth,
                                         c,
                                         ld,
                                         add,
                                         nullptr,
                                         {}});
    if (odd && last) k.transpose(c, ld, strip, columns, dw + place * channels * o + first, o);
  }
  void add_group(int64_t places, bool add, bool last) {
    row = spread(odd ? dy_depth : x_depth);
    const int64_t size = (odd ? n : channels) * row, x_parts = ceil_div(channels, k.panel);
    const int64_t y_parts = ceil_div(n, k.panel), parts = x_parts + y_parts;
    Workspace memory(size_t(size + (odd ? 2 * image_size() : dy_depth * round_up(n, k.vector))) * sizeof(bf16));
    turned = memory.as<bf16>(), packed = turned + size;
    parallel_for(int64_t(bands.size()) * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Band& b = bands[size_t(i / parts)];
        const int64_t part = i % parts;
        Workspace own = scratch(size_t(2 * b.x_depth * k.panel) * sizeof(bf16));
        bf16* pairs = own.as<bf16>();
        part < x_parts ? prepare_image(b, part * k.panel, pairs + b.x_depth * k.panel, pairs)
                       : prepare_gradient(b, (part - x_parts) * k.panel, pairs);
      }
    });
    const int64_t strips = ceil_div(odd ? n : channels, kStrip);
    parallel_for(places * strips, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) multiply(i / strips, i % strips * kStrip, add, last);
    });
    bands.clear(), x_depth = dy_depth = 0;
  }
  bool run(int64_t places, int64_t pixels) {  // in groups of about `pixels`; whether there were any
    bool some = false;
    for (const Map& map : maps)
      for (int64_t unit = 0; unit < map.images * map.bands.count; ++unit) {
        const Bands& m = map.bands;
        const int64_t band = unit % m.count, height = m.height(band, map.p.rows);
        const int64_t depth = round_up(height * m.pitch, kTileDepth);
        // all that is copied, and what the furthest place reads
        const int64_t deep = round_up(std::max(m.furthest + depth, (height + m.tall) * m.pitch), 2);
        if (!bands.empty() && dy_depth + depth > pixels) add_group(places, some, false), some = true;
        bands.push_back({&map, unit / m.count, band * m.rows, height, dy_depth, depth, x_depth, deep});
        dy_depth += depth, x_depth += deep;
      }
    if (!bands.empty()) add_group(places, some, true), some = true;
    return some;
  }
};

}  // namespace

template <class R> void weight_gradient(const Maps<bf16, R>& maps, float* dw, const Kernels& k) {
  const ConvShape& s0 = maps[0].s;
  const int64_t taps = s0.taps(), c = s0.group_c(), n = s0.group_o();
  const bool bordered = can_be_bordered(patches(s0, maps[0].x, 0));
  const int64_t places = bordered ? taps : 1, channels = taps * c / places;
  const int64_t pixels = std::clamp<int64_t>((2 << 20) / channels, 2 * kTileDepth, 2048);
  for (int64_t g = 0; g < s0.groups; ++g) {
    WeightGradient gradient{{}, channels, n, s0.o, dw + g * n, nullptr, k};
    for (const auto& map : maps) {
      const auto p = patches(map.s, map.x, g);
      gradient.maps.push_back({p, map.dy + g * n, map.s.n, bands_of(p, bordered, pixels)});
      for (int64_t offset : gradient.maps.back().bands.offsets) gradient.odd |= offset % 2 != 0;
    }
    Workspace memory(size_t(gradient.odd ? taps * c * n : 0) * sizeof(float));
    gradient.sums = memory.as<float>();
    if (!gradient.run(places, pixels))
      for (int64_t i = 0; i < taps * c; ++i) std::fill_n(dw + i * s0.o + g * n, n, 0.f);
  }
}
template void weight_gradient(const Maps<bf16, bf16>&, float*, const Kernels&);
template void weight_gradient(const Maps<bf16, float>&, float*, const Kernels&);

}  // namespace fovea::cpu::tiles
