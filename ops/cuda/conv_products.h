// The three sums of a convolution as products of implicit matrices: which operands, and where the results go. `launch`
// takes such a product and runs it for all of its blocks.
#pragma once
#include "core/allocator.h"
#include "ops/columns.h"
#include "ops/cuda/pipeline.h"
#include "ops/cuda/product.h"

namespace fovea::cuda {

// What pixels see: rows of A are pixels, the depth are places ...
template <class T> struct Seen {
  static constexpr bool kDown = true;
  const T* x;
  View view;
  struct From {
    int y, x;
    const T* data;
  };
  HD From row(int group, int pixel) const {
    const View::Origin from = view.origin(pixel);
    return {from.y, from.x, x + (from.at + group * view.c)};
  }
  HD View::Move depth(int place) const { return view.move(place); }
  HD Entry<T> at(const From& from, const View::Move& to) const {
    return {from.data + to.by, view.inside(from.y + to.y, from.x + to.x)};
  }
};
// ... or the other way round, where dw sums over pixels.
template <class T> struct SeenFrom {
  static constexpr bool kDown = false;
  Seen<T> seen;
  HD View::Move row(int group, int place) const {
    View::Move to = seen.depth(place);
    to.by += group * seen.view.c;
    return to;
  }
  HD typename Seen<T>::From depth(int pixel) const { return seen.row(0, pixel); }
  HD Entry<T> at(const View::Move& to, const typename Seen<T>::From& from) const { return seen.at(from, to); }
};
// A matrix [depth, ld] as it lies, of which `cols` columns belong to a group: weights [places, o] and dy [pixels, o].
template <class T> struct Rows {
  static constexpr bool kDown = false;
  const T* x;
  int rows, cols, ld;
  HD Entry<T> row(int group, int col) const { return {x + (group * cols + col), col < cols}; }
  HD int depth(int r) const { return r; }
  HD Entry<T> at(const Entry<T>& first, int r) const { return {first.p + int64_t{r} * ld, first.there && r < rows}; }
};
// Weights for dx: column c, depth (u,v,o) of those taps that the pixels of `view` see.
template <class T> struct Flipped {
  static constexpr bool kDown = true;
  const T* w;  // [kh,kw,cols,ld]
  View view;
  int kw, cols, ld;
  HD Entry<T> row(int group, int c) const { return {w + (c * ld + group * view.c), c < cols}; }
  HD int depth(int place) const {  // -1: beyond
    const View::Place q = view.place(place);
    const int u = view.vertical.tap + q.u * view.vertical.tap_step;
    const int v = view.horizontal.tap + q.v * view.horizontal.tap_step;
    return place < view.places() ? (u * kw + v) * cols * ld + q.c : -1;
  }
  HD Entry<T> at(const Entry<T>& first, int on) const { return {first.p + on, first.there && on >= 0}; }
};

template <class T> struct ToImages {  // y at the pixel, with what follows the sum
  using C = compute_t<T>;
  T* y;
  Grid grid;
  int cols;
  ConvEnd<C> end;
  const T* residual;
  struct Line {
    T* y;
    const T* residual;
    int o;
  };
  HD Line line(const Schedule::Part& part, int pixel) const {
    const int o = part.group * cols;
    const int64_t at = grid.offset(pixel) + o;
    return {y + at, residual ? residual + at : nullptr, o};
  }
  HD T result(const Line& l, int col, C v, T r) const { return T(end(v, l.o + col, C(r))); }
  HD void store(const Line& l, int col, C v) const {
    l.y[col] = result(l, col, v, l.residual ? l.residual[col] : T(0.f));
  }
  HD bool pairs() const { return cols % 2 == 0 && (uintptr_t(y) | uintptr_t(residual)) % sizeof(Pack<T, 2>) == 0; }
  HD void store(const Line& l, int col, C v, C w) const {
    Pack<T, 2> r{{T(0.f), T(0.f)}};
    if (l.residual) r = *reinterpret_cast<const Pack<T, 2>*>(l.residual + col);
    *reinterpret_cast<Pack<T, 2>*>(l.y + col) = {{result(l, col, v, r[0]), result(l, col + 1, w, r[1])}};
  }
};

// The same of several maps that one kernel sees, as those of a pyramid: their pixels are numbered on, so that the small
// ones fill what the large one leaves.
constexpr int kMaps = 8;
struct Starts {  // the first pixel of each
  int first[kMaps];
  HD int map_of(int pixel) const {
    int k = 0;
    FOVEA_UNROLL for (int i = 1; i < kMaps; ++i) k += pixel >= first[i];
    return k;
  }
};
template <class T> struct SeenOfSeveral {
  static constexpr bool kDown = true;
  Starts starts;
  Seen<T> maps[kMaps];
  struct From {
    int y, x, h, w;
    const T* data;
  };
  HD From row(int group, int pixel) const {
    const int k = starts.map_of(pixel);
    const auto from = maps[k].row(group, pixel - starts.first[k]);
    return {from.y, from.x, maps[k].view.h, maps[k].view.w, from.data};
  }
  HD View::Move depth(int place) const {  // with the channel for the way, which the width of a map decides
    View::Move to = maps[0].view.move(place);
    to.by = maps[0].view.place(place).c;
    return to;
  }
  HD Entry<T> at(const From& from, const View::Move& to) const {
    const unsigned moved = unsigned(to.y) * unsigned(from.w) + unsigned(to.x);  // wraps where it is beyond all places
    return {from.data + int(moved * unsigned(maps[0].view.ld) + unsigned(to.by)),
            unsigned(from.y + to.y) < unsigned(from.h) && unsigned(from.x + to.x) < unsigned(from.w)};
  }
};
template <class T> struct ToSeveral {
  using C = compute_t<T>;
  Starts starts;
  ToImages<T> maps[kMaps];
  using Line = typename ToImages<T>::Line;
  HD Line line(const Schedule::Part& part, int pixel) const {
    const int k = starts.map_of(pixel);
    return maps[k].line(part, pixel - starts.first[k]);
  }
  HD void store(const Line& l, int col, C v) const { maps[0].store(l, col, v); }
  HD void store(const Line& l, int col, C v, C w) const { maps[0].store(l, col, v, w); }
  HD bool pairs() const {
    bool all = true;
    FOVEA_UNROLL for (int k = 0; k < kMaps; ++k) all = all && maps[k].pairs();
    return all;
  }
};

// One of the shares of dw [taps, c, o]; images may have more channels (zeros) a pixel, which have no weight.
template <class C> struct ToWeights {
  C* dw;
  int64_t size;
  int cols, ld, c;
  Divisor by_channels;
  HD C* line(const Schedule::Part& part, int place) const {
    const int tap = by_channels(place), channel = place - tap * by_channels.d;
    return channel < c ? dw + part.split * size + int64_t{tap * c + channel} * ld + part.group * cols : nullptr;
  }
  HD void store(C* line, int col, C v) const {
    if (line) line[col] = v;
  }
  HD bool pairs() const { return cols % 2 == 0 && ld % 2 == 0 && size % 2 == 0; }
  HD void store(C* line, int col, C v, C w) const {
    if (line) *reinterpret_cast<Pack<C, 2>*>(line + col) = {{v, w}};
  }
};

// Whether all vectors that the operands are read in are whole.
template <class P> bool whole(const ConvShape& s, std::initializer_list<const void*> data) {
  constexpr int n = 4 * P::kNumbers;
  for (const void* p : data)
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) return false;
  return sizeof(typename P::Stored) < 8 && s.group_c() % n == 0 && s.group_o() % n == 0;
}
template <class P, class A, class B, class Out, class Launch>
void multiply(bool whole, const A& a, const B& b, const Out& out, const Schedule& schedule, Launch launch) {
  if constexpr (P::kPipelined) return launch(PipelinedProduct<P, A, B, Out>{a, b, out, schedule});
  else {
    if constexpr (sizeof(typename P::Stored) < 8 && !P::kTensor)
      if (whole) return launch(Product<P, A, B, Out, true>{a, b, out, schedule});
    launch(Product<P, A, B, Out, false>{a, b, out, schedule});
  }
}

// Where a product has few tiles, shares of its depth are computed side by side, [splits, rows, width], and the images
// get their sums.
template <class C, class Out> struct InShares {
  Out out;
  C* shares;  // or null: there is one, which the images get at once
  int64_t rows;
  int cols, width;
  struct Line {
    typename Out::Line to;
    C* share;
  };
  HD Line line(const Schedule::Part& part, int row) const {
    return {out.line(part, row), shares ? shares + (part.split * rows + row) * width + part.group * cols : nullptr};
  }
  HD void store(const Line& l, int col, C v) const {
    if (l.share) l.share[col] = v;
    else out.store(l.to, col, v);
  }
  HD bool pairs() const { return out.pairs(); }
  HD void store(const Line& l, int col, C v, C w) const {
    if (l.share) *reinterpret_cast<Pack<C, 2>*>(l.share + col) = {{v, w}};
    else out.store(l.to, col, v, w);
  }
};
template <class C, class Out> struct AddShares {  // in order
  InShares<C, Out> all;
  int splits;
  HD void operator()(int64_t i) const {
    C sum = 0;
    for (int k = 0; k < splits; ++k) sum += all.shares[k * all.rows * all.width + i];
    const int row = int(i) / all.width, col = int(i) - row * all.width, group = col / all.cols;
    Schedule::Part part{};
    part.group = group;
    all.out.store(all.out.line(part, row), col - group * all.cols, sum);
  }
};
template <class P, class A, class B, class Out, class Launch>
void multiply_to_images(Device device, bool whole, const A& a, const B& b, const Out& out, Schedule schedule,
                        Launch launch) {
  using C = typename P::Sum;
  schedule.splits =
      splits_of(schedule.blocks(P::kHigh, P::kWide), Schedule::tiles(schedule.depth, P::kDepth * P::kNumbers));
  const int width = schedule.cols * schedule.groups;
  const int64_t size = schedule.splits > 1 ? int64_t{schedule.rows} * width : 0;
  Workspace memory(size_t(schedule.splits * size) * sizeof(C), device);
  const InShares<C, Out> to{out, size > 0 ? memory.as<C>() : nullptr, schedule.rows, schedule.cols, width};
  multiply<P>(whole, a, b, to, schedule, launch);
  for_each(device, size, AddShares<C, Out>{to, schedule.splits});
}

// Operands as they are stored: images [n,h,w,c] and the weights [taps, c, o] of a group. Where c or o is more than the
// convolution has, both have zeros there.
template <class S> struct Images {
  const S* x;
  int64_t c;
};
template <class S> struct StoredWeights {
  const S* w;
  int c, o;
};

template <class P, class T, class S, class Launch>
void value(Device device, const ConvMap<T>& m, const Images<S>& x, const StoredWeights<S>& w,
           const ConvEnd<compute_t<T>>& end, Launch launch) {
  ConvShape s = m.s;
  s.c = x.c;
  const View view = view_of_input(s);
  const int o = int(s.group_o());
  multiply_to_images<P>(device, whole<P>(s, {x.x, w.w}), Seen<S>{x.x, view}, Rows<S>{w.w, view.places(), o, w.o},
                        ToImages<T>{m.y, view.grid, o, end, m.residual},
                        Schedule{view.grid.size(), o, view.places(), s.groups, 1}, launch);
}

template <class P, class T, class S, class Launch>
void input_gradient(Device device, const ConvMap<T>& m, const Images<S>& dy, const StoredWeights<S>& w, Launch launch) {
  ConvShape s = m.s;
  s.o = dy.c;
  const int c = int(s.group_c());
  for (int a = 0; a < s.stride.h && a < s.h; ++a)
    for (int b = 0; b < s.stride.w && b < s.w; ++b) {
      const View view = view_of_output(s, a, b);
      multiply_to_images<P>(device, whole<P>(s, {dy.x, w.w}), Seen<S>{dy.x, view},
                            Flipped<S>{w.w, view, s.kernel.w, w.c, w.o}, ToImages<T>{m.dx, view.grid, c, {}, nullptr},
                            Schedule{view.grid.size(), c, view.places(), s.groups, 1}, launch);
    }
}

// The same of several maps in one launch, for kernels that keep what a row sees.
template <class T, class S> struct Several {
  SeenOfSeveral<S> seen;
  ToSeveral<T> out;
  int pixels = 0, count = 0;
  void add(const S* x, const View& view, const ToImages<T>& to) {
    for (int k = count; k < kMaps; ++k)  // all places behind the last have its map, and begin after all pixels
      seen.starts.first[k] = k == count ? pixels : INT32_MAX, seen.maps[k] = {x, view}, out.maps[k] = to;
    out.starts = seen.starts;
    pixels += view.grid.size(), ++count;
  }
};
template <class P, class T, class S, class Launch>
void values(Device device, const std::vector<ConvMap<T>>& maps, const std::vector<Images<S>>& x,
            const StoredWeights<S>& w, const ConvEnd<compute_t<T>>& end, Launch launch) {
  Several<T, S> all;
  const int o = int(maps[0].s.group_o());
  for (size_t i = 0; i < maps.size(); ++i) {
    ConvShape s = maps[i].s;
    s.c = x[i].c;
    const View view = view_of_input(s);
    all.add(x[i].x, view, ToImages<T>{maps[i].y, view.grid, o, end, maps[i].residual});
  }
  const int places = all.seen.maps[0].view.places();
  multiply_to_images<P>(device, true, all.seen, Rows<S>{w.w, places, o, w.o}, all.out,
                        Schedule{all.pixels, o, places, maps[0].s.groups, 1}, launch);
}
template <class P, class T, class S, class Launch>
void input_gradients(Device device, const std::vector<ConvMap<T>>& maps, const std::vector<Images<S>>& dy,
                     const StoredWeights<S>& w, Launch launch) {
  const ConvShape& first = maps[0].s;
  const int c = int(first.group_c());
  int64_t height = 0, width = 0;
  for (const auto& map : maps) height = std::max(height, map.s.h), width = std::max(width, map.s.w);
  for (int a = 0; a < std::min<int64_t>(first.stride.h, height); ++a)
    for (int b = 0; b < std::min<int64_t>(first.stride.w, width); ++b) {
      Several<T, S> all;
      for (size_t i = 0; i < maps.size(); ++i) {
        ConvShape s = maps[i].s;
        s.o = dy[i].c;
        const View view = view_of_output(s, a, b);
        all.add(dy[i].x, view, ToImages<T>{maps[i].dx, view.grid, c, {}, nullptr});
      }
      const View& view = all.seen.maps[0].view;
      multiply_to_images<P>(device, true, all.seen, Flipped<S>{w.w, view, first.kernel.w, w.c, w.o}, all.out,
                            Schedule{all.pixels, c, view.places(), first.groups, 1}, launch);
    }
}

template <class C> struct Share {
  const C* dw;
  int64_t size;
  HD C operator()(int64_t r, int64_t i) const { return dw[r * size + i]; }
};
template <class S> struct SeenAndGradient {  // of a map
  ConvShape s;
  Images<S> x, dy;
};
// The shares of all maps are added in order.
template <class P, class S, class Launch>
void weight_gradient(Device device, const std::vector<SeenAndGradient<S>>& maps, compute_t<S>* dw, Launch launch) {
  using C = compute_t<S>;
  const ConvShape& first = maps[0].s;
  const int c = int(first.group_c()), o = int(first.group_o());
  const int64_t size = first.taps() * c * first.o;
  std::vector<Schedule> schedules;
  int64_t shares = 0;
  for (const auto& m : maps) {
    Schedule s{int(m.s.taps() * m.x.c / m.s.groups), o, int(m.s.n * m.s.oh * m.s.ow), m.s.groups, 1};
    s.splits = splits_of(s.blocks(P::kHigh, P::kWide), Schedule::tiles(s.depth, P::kDepth * P::kNumbers));
    schedules.push_back(s), shares += s.splits;
  }
  Workspace memory(shares > 1 ? size_t(shares * size) * sizeof(C) : 0, device);
  C* to = shares > 1 ? memory.as<C>() : dw;
  for (size_t i = 0; i < maps.size(); ++i) {
    const auto& m = maps[i];
    ConvShape s = m.s;
    s.c = m.x.c;
    const View view = view_of_input(s);
    const ToWeights<C> out{to, size, o, int(s.o), c, Divisor(int(s.group_c()))};
    multiply<P>(whole<P>(s, {m.x.x, m.dy.x}), SeenFrom<S>{{m.x.x, view}},
                Rows<S>{m.dy.x, view.grid.size(), o, int(m.dy.c)}, out, schedules[i], launch);
    to += schedules[i].splits * size;
  }
  if (shares > 1) sum_columns(device, shares, size, Share<C>{memory.as<C>(), size}, dw);
}

}  // namespace fovea::cuda
