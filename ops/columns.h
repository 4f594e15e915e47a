// Sums of the columns of [rows, cols], and loops over those of [segments, rows, cols] for bodies that make several sums
// at once (norms): in fixed chunks of rows, so that results do not depend on the threads.
#pragma once
#include "core/loops.h"

namespace fovea {

// Chunks never cross a segment. Chunk k of all writes row k of the partial results, [chunks(), cols].
struct Strips {
  int64_t segments, rows, cols, chunk, per;  // `chunk` rows a chunk, `per` chunks a segment
  Strips(int64_t segments, int64_t rows, int64_t cols) : segments(segments), rows(rows), cols(cols) {
    chunk = kGrain / (cols > 0 ? cols : 1) / 4 * 4;
    chunk = chunk < 32 ? 32 : chunk > 512 ? 512 : chunk;
    per = (rows + chunk - 1) / chunk;
  }
  Strips partials() const {  // of the partial results: one chunk a segment
    Strips s(segments, per, cols);
    s.chunk = per > 0 ? per : 1, s.per = per > 0;
    return s;
  }
  HD int64_t chunks() const { return segments * per; }
  HD int64_t begin(int64_t k) const { return k / per * rows + k % per * chunk; }  // its first row, over all segments
  HD int64_t length(int64_t k) const { return rows - k % per * chunk < chunk ? rows - k % per * chunk : chunk; }
};

// f(c) for the columns [c0, c1) of a strip.
template <class F> HD void each_column(int64_t c0, int64_t c1, F f) {
  FOVEA_INDEPENDENT for (int64_t c = c0; c < c1; ++c) f(c);
}

// The sum of several rows of n <= kBlockOf<Team> numbers: held in compute_t<T>, rounded once.
template <class Team, class T> struct SumOfRows {
  using C = compute_t<T>;
  static constexpr bool direct = std::is_same_v<T, C>;
  T* to;
  int64_t n;
  bool begun = false;
  C local[direct ? 1 : kBlockOf<Team>];

  HD SumOfRows(T* to, int64_t n) : to(to), n(n) {}
  HD C* sum() {
    if constexpr (direct) return to;
    else return local;
  }
  // The first row is not added to zeros: those would be stored in smaller pieces than they are loaded in, and a load
  // waits for such.
  template <class F> HD void add(F row) {
    C* s = sum();
    if (begun) each_column(0, n, [=](int64_t k) { s[k] += row(k); });
    else each_column(0, n, [=](int64_t k) { s[k] = row(k); });
    begun = true;
  }
  HD void finish() {
    T* out = to;
    const C* s = sum();
    if (!begun) each_column(0, n, [=](int64_t k) { out[k] = T(0.f); });
    else if constexpr (!direct) each_column(0, n, [=](int64_t k) { out[k] = T(s[k]); });
  }
};

namespace detail {
template <class Body> struct WholeStrip {  // a chunk on the CPU: columns vectorise
  Body body;
  Strips strips;
  HD void operator()(int64_t k) const { body(k, strips.begin(k), strips.length(k), 0, strips.cols); }
};
template <class Body> struct ColumnStrip {  // one column of a chunk: a CUDA thread
  Body body;
  Strips strips;
  HD void operator()(int64_t i) const {
    const int64_t k = i / strips.cols, c = i % strips.cols;
    body(k, strips.begin(k), strips.length(k), c, c + 1);
  }
};
}  // namespace detail

// body(k, row, n, c0, c1): rows [row, row + n) and columns [c0, c1) of chunk k.
template <class Body> void for_strips(Device device, const Strips& strips, const Body& body) {
  const int64_t chunks = strips.chunks();
  if (device == Device::cuda || rehearsal())
    return for_each(device, chunks * strips.cols, detail::ColumnStrip<Body>{body, strips});
  const detail::WholeStrip<Body> whole{body, strips};
  const int64_t work = strips.cols * (strips.rows < strips.chunk ? strips.rows : strips.chunk);
  parallel_for(chunks, work > 0 ? kGrain / work : 1, [&](int64_t b, int64_t e) { detail::run_each(whole, b, e); });
}

template <class Out> struct Zero {
  Out* out;
  HD void operator()(int64_t i) const { out[i] = 0; }
};
// Adds up the chunks of each segment in order: out [segments, cols].
template <class T, class Out> struct StripTotal {
  const T* partial;
  Out* out;
  int64_t cols;
  HD void operator()(int64_t segment, int64_t row, int64_t n, int64_t c0, int64_t c1) const {
    Out* sum = out + segment * cols;
    each_column(c0, c1, [=](int64_t c) { sum[c] = 0; });
    for (const T *p = partial + row * cols, *end = p + n * cols; p < end; p += cols)
      each_column(c0, c1, [=](int64_t c) { sum[c] += p[c]; });
  }
};
template <class T, class Out> void strip_total(Device device, const Strips& strips, const T* partial, Out* out) {
  if (strips.per > 0) return for_strips(device, strips.partials(), StripTotal<T, Out>{partial, out, strips.cols});
  for_each(device, strips.segments * strips.cols, Zero<Out>{out});  // no rows
}

template <class T, class Body> struct ChunkSum {
  Body body;
  T* partial;  // [chunks, cols]
  int64_t cols;
  HD void operator()(int64_t k, int64_t row, int64_t n, int64_t c0, int64_t c1) const {
    T* sum = partial + k * cols;
    const Body value = body;
    each_column(c0, c1, [=](int64_t c) { sum[c] = 0; });
    for (int64_t r = row; r < row + n; ++r) each_column(c0, c1, [=](int64_t c) { sum[c] += value(r, c); });
  }
};
// out[s, c] = sum over r of body(s * rows + r, c), for [segments, rows, cols] in row-major order.
template <class T, class Body>
void sum_columns(Device device, int64_t rows, int64_t cols, const Body& body, T* out, int64_t segments = 1) {
  if (cols <= 0) return;
  Strips s(segments, rows, cols);
  if (s.per == 1) return for_strips(device, s, ChunkSum<T, Body>{body, out, cols});
  if (s.per > 256) s.chunk = (rows + 255) / 256, s.per = (rows + s.chunk - 1) / s.chunk;
  Workspace partial(static_cast<size_t>(s.chunks() * cols) * sizeof(T), device);
  for_strips(device, s, ChunkSum<T, Body>{body, partial.as<T>(), cols});
  strip_total(device, s, partial.as<T>(), out);
}

}  // namespace fovea
