// The three sums of a convolution as products of implicit matrices: which operands, and where the results go. `launch`
// takes such a product and runs it for all of its blocks.
#pragma once
#include "core/allocator.h"
#include "ops/columns.h"
#include "ops/cuda/product.h"

namespace fovea::cuda {

// What pixels see: rows of A are pixels, the depth are places ...
template <class T> struct Seen {
  static constexpr bool kDown = true;
  const T* x;
  View view;
  HD const T* at(int group, int pixel, int place) const {
    if (pixel >= view.grid.size() || place >= view.places()) return nullptr;
    const int64_t i = view.source(pixel, place);
    return i < 0 ? nullptr : x + i + int64_t{group} * view.c;
  }
};
// ... or the other way round, where dw sums over pixels.
template <class T> struct SeenFrom {
  static constexpr bool kDown = false;
  Seen<T> seen;
  HD const T* at(int group, int place, int pixel) const { return seen.at(group, pixel, place); }
};
// A matrix [depth, groups * cols] as it lies: weights [places, o] and dy [pixels, o].
template <class T> struct Rows {
  static constexpr bool kDown = false;
  const T* x;
  int depth, cols, ld;
  HD const T* at(int group, int col, int row) const {
    return row < depth && col < cols ? x + int64_t{row} * ld + group * cols + col : nullptr;
  }
};
// Weights for dx: column c, depth (u,v,o) of those taps that the pixels of `view` see.
template <class T> struct Flipped {
  static constexpr bool kDown = true;
  const T* w;  // [kh,kw,cols,ld]
  View view;
  int kw, cols, ld;
  HD const T* at(int group, int c, int place) const {
    if (c >= cols || place >= view.places()) return nullptr;
    const View::Place q = view.place(place);
    const int u = view.vertical.tap + q.u * view.vertical.tap_step;
    const int v = view.horizontal.tap + q.v * view.horizontal.tap_step;
    return w + (int64_t{u * kw + v} * cols + c) * ld + group * view.c + q.c;
  }
};

template <class T> struct ToImages {  // y at the pixel, with what follows the sum
  T* y;
  Grid grid;
  int cols;
  ConvEnd<compute_t<T>> end;
  const T* residual;
  HD void store(const Schedule::Part& part, int pixel, int col, compute_t<T> v) const {
    const int o = part.group * cols + col;
    const int64_t i = grid.offset(pixel) + o;
    y[i] = T(end(v, o, residual ? compute_t<T>(residual[i]) : compute_t<T>(0)));
  }
};
template <class C> struct ToWeights {  // one of the shares of dw
  C* dw;
  int64_t size;
  int cols, ld;
  HD void store(const Schedule::Part& part, int place, int col, C v) const {
    dw[part.split * size + int64_t{place} * ld + part.group * cols + col] = v;
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
  if constexpr (sizeof(typename P::Stored) < 8)
    if (whole) return launch(Product<P, A, B, Out, true>{a, b, out, schedule});
  launch(Product<P, A, B, Out, false>{a, b, out, schedule});
}

template <class P, class T, class Launch>
void value(const ConvMap<T>& m, const T* w, const ConvEnd<compute_t<T>>& end, Launch launch) {
  const View view = view_of_input(m.s);
  const int o = int(m.s.group_o());
  multiply<P>(whole<P>(m.s, {m.x, w}), Seen<T>{m.x, view}, Rows<T>{w, view.places(), o, int(m.s.o)},
              ToImages<T>{m.y, view.grid, o, end, m.residual},
              Schedule{view.grid.size(), o, view.places(), m.s.groups, 1}, launch);
}

template <class P, class T, class Launch> void input_gradient(const ConvMap<T>& m, const T* w, Launch launch) {
  const int c = int(m.s.group_c());
  for (int a = 0; a < m.s.stride.h && a < m.s.h; ++a)
    for (int b = 0; b < m.s.stride.w && b < m.s.w; ++b) {
      const View view = view_of_output(m.s, a, b);
      multiply<P>(whole<P>(m.s, {m.dy, w}), Seen<T>{m.dy, view}, Flipped<T>{w, view, m.s.kernel.w, c, int(m.s.o)},
                  ToImages<T>{m.dx, view.grid, c, {}, nullptr},
                  Schedule{view.grid.size(), c, view.places(), m.s.groups, 1}, launch);
    }
}

template <class C> struct Share {
  const C* dw;
  int64_t size;
  HD C operator()(int64_t r, int64_t i) const { return dw[r * size + i]; }
};
// The shares of all maps are added in order.
template <class P, class T, class Launch>
void weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, compute_t<T>* dw, Launch launch) {
  using C = compute_t<T>;
  const ConvShape& first = maps[0].s;
  const int64_t size = first.taps() * first.group_c() * first.o;
  std::vector<Schedule> schedules;
  int64_t shares = 0;
  for (const ConvMap<T>& m : maps) {
    Schedule s{int(size / first.o), int(first.group_o()), int(m.s.n * m.s.oh * m.s.ow), first.groups, 1};
    s.splits = splits_of(s.blocks(P::kTile), Schedule::tiles(s.depth, 16 * P::kNumbers));
    schedules.push_back(s), shares += s.splits;
  }
  Workspace memory(shares > 1 ? size_t(shares * size) * sizeof(C) : 0, device);
  C* to = shares > 1 ? memory.as<C>() : dw;
  for (size_t i = 0; i < maps.size(); ++i) {
    const ConvMap<T>& m = maps[i];
    const View view = view_of_input(m.s);
    const int o = int(m.s.group_o());
    multiply<P>(whole<P>(m.s, {m.x, m.dy}), SeenFrom<T>{{m.x, view}}, Rows<T>{m.dy, view.grid.size(), o, int(m.s.o)},
                ToWeights<C>{to, size, o, int(m.s.o)}, schedules[i], launch);
    to += schedules[i].splits * size;
  }
  if (shares > 1) sum_columns(device, shares, size, Share<C>{memory.as<C>(), size}, dw);
}

}  // namespace fovea::cuda
