// Loops over the rows of [segments, rows, cols] that sum columns (norms) or keep something of each (scales), in fixed
// chunks of rows, so that results do not depend on the threads. A body is written once; what it takes of a row is all
// columns on the CPU, where they vectorise, and a few of them in the registers of a lane on a device.
#pragma once
#include "core/loops.h"

namespace fovea {

// Chunks never cross a segment. Chunk k of all writes row k of the partial results, [chunks(), cols].
struct Strips {
  int64_t segments, rows, cols, chunk, per;  // `chunk` rows a chunk, `per` chunks a segment
  Strips(Device device, int64_t segments, int64_t rows, int64_t cols) : segments(segments), rows(rows), cols(cols) {
    const int64_t one = cols > 0 ? cols : 1;
    // On a device so many lanes that they have some megabytes on the way from memory, and few partial results.
    const int64_t size = plays_device(device) ? segments * rows / ((1 << 19) / one + 1) / 4 * 4 : kGrain / one / 4 * 4;
    set_chunk(size < 32 ? 32 : size > 512 && !plays_device(device) ? 512 : size);
  }
  void set_chunk(int64_t size) { chunk = size, per = (rows + size - 1) / size; }
  // For a body that makes a row of each row: short chunks on a device.
  static Strips of_map(Device device, int64_t segments, int64_t rows, int64_t cols) {
    Strips s(device, segments, rows, cols);
    if (plays_device(device)) s.set_chunk(8);
    return s;
  }
  Strips partials() const {  // of the partial results: one chunk a segment
    Strips s = *this;
    s.rows = per, s.chunk = per > 0 ? per : 1, s.per = per > 0;
    return s;
  }
  HD int64_t chunks() const { return segments * per; }
  HD int64_t begin(int64_t k) const { return k / per * rows + k % per * chunk; }  // its first row, over all segments
  HD int64_t length(int64_t k) const { return rows - k % per * chunk < chunk ? rows - k % per * chunk : chunk; }
};

// f(c) for the columns [c0, c1).
template <class F> HD void each_column(int64_t c0, int64_t c1, F f) {
  FOVEA_INDEPENDENT for (int64_t c = c0; c < c1; ++c) f(c);
}

// The columns that a body takes of a row: on a device a `Few`, of row p as load(p) has them; on the CPU all, or a block
// of them, and what is loaded, made or summed lies where it lies.
struct InPlace {
  int64_t first;
  static constexpr bool all = true;
  template <class T> HD T* load(T* p) const { return p + first; }
  template <class T> HD T* fresh(T* p) const { return p + first; }
  template <class T> HD void store(T*, const T*) const {}
};
struct Many : InPlace {
  int64_t count;
  template <class F> HD void each(F f) const { each_column(0, count, f); }
  template <class T, class F> HD void add(T* sum, int64_t n, F f) const {
    for (int64_t k = 0; k < n; ++k) each_column(0, count, [=](int64_t c) { sum[c] += f(k, c); });
  }
};
// A fixed number of columns, so that a number of each stays in registers: 64, 32 or 16. Span<15> is for maps that have
// fewer than 16: `count` of them.
template <int kWidth> struct Span : InPlace {
  int count = kWidth;
  template <class F> HD void each(F f) const {
    if constexpr (kWidth == 16) {
      FOVEA_AS_VECTOR for (int c = 0; c < kWidth; ++c) f(c);
    } else {
      FOVEA_INDEPENDENT for (int c = 0; c < (kWidth < 16 ? count : kWidth); ++c) f(c);
    }
  }
};
// f(columns) for columns that are few enough to keep a number of each. Some may come twice.
template <class F> HD void each_block(const Many& at, F f) {
  int64_t c = at.first;
  const int64_t end = c + at.count;
  for (; c + 64 <= end; c += 64) f(Span<64>{{c}});
  for (; c + 32 <= end; c += 32) f(Span<32>{{c}});
  if (at.count < 16) return f(Span<15>{{c}, int(at.count)});
  for (; c < end; c += 16) f(Span<16>{{c + 16 <= end ? c : end - 16}});
}
template <int kWidth, class F> HD void each_block(const Few<kWidth>& at, F f) { f(at); }
// A number of each.
template <class Columns, class T> struct OfColumns;
template <int kWidth, class T> struct OfColumns<Few<kWidth>, T> : Pack<T, kWidth> {};
template <int kWidth, class T> struct alignas(kLine) OfColumns<Span<kWidth>, T> : Pack<T, kWidth> {};

// The sum of several rows, as many columns as each_block gives: held in compute_t<T>, rounded once.
template <class Columns, class T> struct SumOfRows {
  Columns at;
  T* to;
  OfColumns<Columns, compute_t<T>> sum{};
  HD SumOfRows(const Columns& at, T* to) : at(at), to(to) {}
  template <class F> HD void add(F row) {
    at.each([&](int64_t c) { sum[c] += row(c); });
  }
  HD void finish() {
    auto out = at.fresh(to);
    at.each([&](int64_t c) { out[c] = T(sum[c]); });
    at.store(to, out);
  }
};

template <class Team> struct TeamColumn : Few<1> {  // one column, whose rows a team shares
  const Team& team;
  HD TeamColumn(const Team& team, int64_t first) : Few<1>{first}, team(team) {}
  template <class T> HD void store(T* p, const Pack<T, 1>& v) const {
    T *to = p + first, value = v[0];
    team.each(1, [=](int64_t) { *to = value; });
  }
  template <class T, class F> HD void add(Pack<T, 1>& sum, int64_t n, F f) const {
    sum[0] += team.reduce(n, T(0), [=](int64_t k) { return T(f(k, 0)); });
  }
};

namespace detail {
template <class Body> struct WholeStrip {
  static constexpr bool rare = says_rare<Body>();
  Body body;
  Strips strips;
  HD void operator()(int64_t k) const { body(Many{{0}, strips.cols}, k, strips.begin(k), strips.length(k)); }
};
template <class Body> struct StreamedStrip {
  static constexpr bool streamed = true;
  static constexpr int64_t kWidest = 8192;  // bytes of a row
  Body body;
  Strips strips;
  void operator()(int64_t k) const {
    alignas(kLine) char block[kWidest];
    body(Streamed{0, strips.cols, block}, k, strips.begin(k), strips.length(k));
  }
};
// A body that has result() makes a row of it of each row.
template <class Body> bool stream_strips(const Strips& strips, const Body& body) {
  if constexpr (takes_streamed<Body>()) {
    const int64_t row = strips.cols * bytes_of_one<Body>(), bytes = strips.segments * strips.rows * row;
    if (row > StreamedStrip<Body>::kWidest || !streams<Body>(bytes, row, body.result())) return false;
    const StreamedStrip<Body> streamed{body, strips};
    parallel_loop(strips.chunks(), 1, stream_of<Body, StreamedStrip<Body>>(), &streamed);
    return true;
  }
  return false;
}
template <class Body> void whole_strips(const Strips& strips, const Body& body) {
  if (stream_strips(strips, body)) return;
  const WholeStrip<Body> whole{body, strips};
  const int64_t work = strips.cols * (strips.rows < strips.chunk ? strips.rows : strips.chunk);
  parallel_loop(strips.chunks(), work > 0 ? kGrain / work : 1, loop_of<WholeStrip<Body>>(), &whole);
}
template <int kWidth, class Body> struct LaneStrip {
  static constexpr bool rare = true;  // on the CPU
  Body body;
  Strips strips;
  HD void operator()(int64_t i) const {
    const int64_t lanes = strips.cols / kWidth, k = i / lanes;
    body(Few<kWidth>{(i - k * lanes) * kWidth}, k, strips.begin(k), strips.length(k));
  }
};
template <class Body> struct TeamStrip {
  static constexpr bool rare = true;  // on the CPU: whole_strips() goes through partial results there
  Body body;
  Strips strips;
  template <class Team> HD void operator()(const Team& team, int64_t i) const {
    const int64_t segment = i / strips.cols;
    body(TeamColumn<Team>(team, i - segment * strips.cols), segment, segment * strips.per, strips.per);
  }
};
}  // namespace detail

// body(columns, k, row, n): rows [row, row + n), which are chunk k.
template <class Body> void for_strips(Device device, const Strips& strips, const Body& body) {
  const int64_t chunks = strips.chunks();
  if (plays_device(device)) {
    constexpr int kWidth = detail::width_of<Body>();
    if constexpr (kWidth > 1)
      if (strips.cols % kWidth == 0 && body.aligned())
        return for_each(device, chunks * strips.cols / kWidth, detail::LaneStrip<kWidth, Body>{body, strips});
    return for_each(device, chunks * strips.cols, detail::LaneStrip<1, Body>{body, strips});
  }
  detail::whole_strips(strips, body);
}
// body(columns, segment, k, n): the partial results [k, k + n) of a segment, which has some.
template <class Body> void for_partials(Device device, const Strips& strips, const Body& body) {
  if (!plays_device(device)) return detail::whole_strips(strips.partials(), body);
  for_rows(device, strips.segments * strips.cols, strips.per, detail::TeamStrip<Body>{body, strips});
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
  template <class Columns> HD void operator()(const Columns& at, int64_t segment, int64_t k, int64_t n) const {
    Out* to = out + segment * cols;
    auto sum = at.fresh(to);
    at.each([&](int64_t c) { sum[c] = 0; });
    const T* p = partial + k * cols + at.first;
    const int64_t w = cols;
    at.add(sum, n, [=](int64_t r, int64_t c) { return p[r * w + c]; });
    at.store(to, sum);
  }
};
template <class T, class Out> void strip_total(Device device, const Strips& strips, const T* partial, Out* out) {
  if (strips.per > 0) return for_partials(device, strips, StripTotal<T, Out>{partial, out, strips.cols});
  for_each(device, strips.segments * strips.cols, Zero<Out>{out});  // no rows
}

template <class T> struct Element {  // x[r, c], to be summed
  const T* x;
  int64_t cols;
  HD compute_t<T> operator()(int64_t r, int64_t c) const { return x[r * cols + c]; }
};
template <class T, class Body> struct ChunkSum {
  Body body;
  T* partial;  // [chunks, cols]
  int64_t cols;
  template <class Columns> HD void operator()(const Columns& at, int64_t k, int64_t row, int64_t n) const {
    T* to = partial + k * cols;
    auto sum = at.fresh(to);
    const Body value = body;
    const int64_t first = at.first;
    at.each([&](int64_t c) { sum[c] = 0; });
    at.add(sum, n, [=](int64_t r, int64_t c) { return value(row + r, first + c); });
    at.store(to, sum);
  }
};
template <class T, class From> struct ChunkSum<T, Element<From>> {  // of numbers as they lie
  static constexpr int kWidth = kLaneWidth<From>;
  Element<From> from;
  T* partial;
  int64_t cols;
  bool aligned() const { return all_aligned(from.x, partial); }
  template <class Columns> HD void operator()(const Columns& at, int64_t k, int64_t row, int64_t n) const {
    T* to = partial + k * cols;
    auto sum = at.fresh(to);
    at.each([&](int64_t c) { sum[c] = 0; });
    int64_t r = row;
    if constexpr (Columns::all)
      if (cols >= kLong)
        for (; r + 8 <= row + n; r += 8) add_eight(at, sum, from.x + r * cols);
    FOVEA_UNROLL_BY(4) for (; r < row + n; ++r) {
      const auto x = at.load(from.x + r * cols);
      at.each([&](int64_t c) { sum[c] += compute_t<From>(x[c]); });
    }
    at.store(to, sum);
  }

 private:
  static constexpr int64_t kLong = 1024;  // columns: their sums would go to memory and back, again and again
  template <class Columns> HD void add_eight(const Columns& at, T* sum, const From* row) const {
    using C = compute_t<From>;
    const int64_t n = cols;
    const From* x = at.load(row);
    at.each([=](int64_t c) {
      T all = sum[c];
      FOVEA_UNROLL_BY(8) for (int i = 0; i < 8; ++i) all += C(x[i * n + c]);
      sum[c] = all;
    });
  }
};
// out[s, c] = sum over r of body(s * rows + r, c), for [segments, rows, cols] in row-major order.
template <class T, class Body>
void sum_columns(Device device, int64_t rows, int64_t cols, const Body& body, T* out, int64_t segments = 1) {
  if (cols <= 0) return;
  Strips s(device, segments, rows, cols);
  if (s.per == 1) return for_strips(device, s, ChunkSum<T, Body>{body, out, cols});
  const bool many = s.per > 256 && !plays_device(device), longest = std::is_same_v<T, float> && rows > 1 << 19;
  if (many && !longest) s.set_chunk((rows + 255) / 256);
  Workspace partial(static_cast<size_t>(s.chunks() * cols) * sizeof(T), device);
  for_strips(device, s, ChunkSum<T, Body>{body, partial.as<T>(), cols});
  if (many && longest)  // longer chunks would lose digits
    return sum_columns(device, s.per, cols, Element<T>{partial.as<T>(), cols}, out, segments);
  strip_total(device, s, partial.as<T>(), out);
}

}  // namespace fovea
