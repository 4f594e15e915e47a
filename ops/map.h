// Pointwise ops made from a formula: a struct with f and df gives a value, a gradient, all types and broadcasting.
#pragma once
#include "core/autograd.h"
#include "core/math.h"
#include "ops/broadcast.h"

namespace fovea {

// What df() reads, and so what the tape keeps: the input, the output, or neither.
enum class Keep { none, x, y };

// Loops of their own for bf16, and for several numbers a lane, have formulas that say `using StoresBf16 = void`: those
// on the way through a network. The others compute f32 copies, which gives the same bits.
template <class F, class T> constexpr int width_of_formula() {
  if constexpr (requires { typename F::StoresBf16; }) return kLaneWidth<T>;
  else return 1;
}
template <class F, class T> struct MapUnary {  // y = f(x)
  static constexpr int kWidth = width_of_formula<F, T>();
  F f;
  const T* x;
  T* y;
  bool aligned() const { return all_aligned(x, y); }
  const void* result() const { return y; }
  template <class At> HD void operator()(const At& at) const {
    const auto in = at.load(x);
    auto out = at.fresh(y);
    at.each([&](int64_t i) { out[i] = T(f.f(static_cast<compute_t<T>>(in[i]))); });
    at.store(y, out);
  }
};
template <class F, class T> struct GradUnary {  // dx = dy f'(x)
  static constexpr int kWidth = width_of_formula<F, T>();
  F f;
  const T* x;
  const T* y;
  const T* dy;
  T* dx;
  bool aligned() const { return all_aligned(x, y, dy, dx); }
  const void* result() const { return dx; }
  template <class At> HD void operator()(const At& at) const {
    using C = compute_t<T>;
    const auto u = at.load(x), v = at.load(y), d = at.load(dy);
    auto out = at.fresh(dx);
    at.each([&](int64_t i) { out[i] = T(C(d[i]) * f.df(C(u[i]), C(v[i]))); });
    at.store(dx, out);
  }
};

template <class F> Tensor loop_copy(const Tensor& t) {
  if constexpr (requires { typename F::StoresBf16; }) return t;
  else return t.dtype() == DType::bf16 ? t.to(DType::f32) : t;
}
template <class F, class Body> void dispatch_loops(DType type, Body body) {
  if constexpr (requires { typename F::StoresBf16; }) dispatch_storage(type, body);
  else dispatch_float(type, body);
}
inline Tensor stored_as(DType type, const Tensor& t) { return t.dtype() == type ? t : t.to(type); }

// F: static constexpr auto name, keep; f(x), df(x, y) for float and double, static or const.
template <class F> struct Unary {
  static constexpr auto name = F::name;
  F f;
  Saved kept{};

  Tensor forward(const Tensor& x) {
    check_float(name, x);
    const Tensor u = loop_copy<F>(x), out = empty_like(u);
    dispatch_loops<F>(u.dtype(), [&]<class T>() {
      for_each(u.device(), u.size(), MapUnary<F, T>{f, u.data<T>(), out.data<T>()});
    });
    const Tensor y = stored_as(x.dtype(), out);
    if (F::keep == Keep::x) kept = x;
    if (F::keep == Keep::y) kept = y;
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    const Tensor d = loop_copy<F>(dy), dx = empty_like(d);
    const Tensor k =
        F::keep == Keep::none ? d : loop_copy<F>(*kept);  // the one that df() does not read may be anything
    dispatch_loops<F>(d.dtype(), [&]<class T>() {
      for_each(d.device(), d.size(), GradUnary<F, T>{f, k.data<T>(), k.data<T>(), d.data<T>(), dx.data<T>()});
    });
    g[0] = stored_as(dy.dtype(), dx);
  }
};

// One loop for each way in which the operands step, so that each vectorises.
template <class Team, class T, class Loop>
HD void step_loop(Team team, const Stretch& at, int64_t n, const T* a, const T* b, Loop loop) {
  using C = compute_t<T>;
  if (at.step[0] && at.step[1]) return team.each(n, [=](int64_t i) { loop(i, C(a[i]), C(b[i])); });
  if (at.step[0]) {
    const C s = C(b[0]);
    return team.each(n, [=](int64_t i) { loop(i, C(a[i]), s); });
  }
  const C s = C(a[0]);
  team.each(n, [=](int64_t i) { loop(i, s, C(b[i])); });
}

// For operands of one shape a lane of a device takes several numbers, as above.
template <class F, class T> struct MapBinary {  // y = f(a, b)
  static constexpr int kWidth = width_of_formula<F, T>();
  F f;
  Stretch at;
  const T* a;
  const T* b;
  T* y;
  template <class Team> HD void operator()(Team team, int64_t piece) const {
    const auto p = at[piece];
    T* out = y + p.out;
    const F formula = f;
    step_loop(team, at, p.count, a + p.at[0], b + p.at[1],
              [=](int64_t i, auto u, auto v) { out[i] = T(formula.f(u, v)); });
  }
  bool aligned() const { return all_aligned(a, b, y); }
  const void* result() const { return y; }
  template <class At> HD void operator()(const At& few) const {
    using C = compute_t<T>;
    const auto u = few.load(a), v = few.load(b);
    auto out = few.fresh(y);
    few.each([&](int64_t i) { out[i] = T(f.f(C(u[i]), C(v[i]))); });
    few.store(y, out);
  }
};
template <int Side, class F, class T> struct GradBinary {  // da = dy df/da, or db = dy df/db
  static constexpr int kWidth = width_of_formula<F, T>();
  F f;
  Stretch at;
  const T* a;
  const T* b;
  const T* y;
  const T* dy;
  T* dx;
  template <class Team> HD void operator()(Team team, int64_t piece) const {
    using C = compute_t<T>;
    const auto p = at[piece];
    T* out = dx + p.out;
    const T *upper = dy + p.out, *value = y + p.out;
    const F formula = f;
    step_loop(team, at, p.count, a + p.at[0], b + p.at[1],
              [=](int64_t i, C u, C v) { out[i] = slope(formula, u, v, C(value[i]), C(upper[i])); });
  }
  HD static T slope(const F& f, compute_t<T> u, compute_t<T> v, compute_t<T> value, compute_t<T> upper) {
    if constexpr (Side == 0) return T(upper * f.da(u, v, value));
    else return T(upper * f.db(u, v, value));
  }
  bool aligned() const { return all_aligned(a, b, y, dy, dx); }
  const void* result() const { return dx; }
  template <class At> HD void operator()(const At& few) const {
    using C = compute_t<T>;
    const auto u = few.load(a), v = few.load(b), value = few.load(y), upper = few.load(dy);
    auto out = few.fresh(dx);
    few.each([&](int64_t i) { out[i] = slope(f, C(u[i]), C(v[i]), C(value[i]), C(upper[i])); });
    few.store(dx, out);
  }
};
// Several numbers a lane where a device can, otherwise piece by piece.
template <class Body> void for_pairs(Device device, int64_t n, const Stretch& at, const Body& body) {
  if constexpr (Body::kWidth > 1) {
    if (device == Device::cuda && at.flat()) return detail::device_each(n, body);
    if constexpr (!detail::kNarrow<Body>)
      if (rehearsal() && at.flat()) return for_each(device, n, body);
  }
  if (device == Device::cpu && at.flat() && detail::stream_each(n, body)) return;
  for_pieces(device, at, body);
}

// F: static constexpr auto name; f(a, b), da(a, b, y), db(a, b, y) for float and double; keeps_a, keeps_b, keeps_y say
// what da and db read; a_passes, b_passes: that derivative is 1; equal: da is db.
template <class F> struct Binary {
  static constexpr auto name = F::name;
  F f;
  Saved a, b, y;
  Shape a_shape, b_shape;

  Tensor forward(const Tensor& a_, const Tensor& b_) {
    check(a_ && b_ && is_float(a_.dtype()) && a_.dtype() == b_.dtype(), name,
          ": expected two floating-point tensors of one type, got ", a_ ? name_of(a_.dtype()) : "none", " and ",
          b_ ? name_of(b_.dtype()) : "none", type_hint(a_, b_));
    a_shape = a_.shape(), b_shape = b_.shape();
    const Tensor u = loop_copy<F>(a_), v = loop_copy<F>(b_);
    const Tensor full(broadcast(name, a_shape, b_shape), u.dtype(), u.device());
    if (full.size() > 0) {
      const Stretch at = stretch(full.shape(), a_shape, b_shape);
      dispatch_loops<F>(full.dtype(), [&]<class T>() {
        for_pairs(full.device(), full.size(), at, MapBinary<F, T>{f, at, u.data<T>(), v.data<T>(), full.data<T>()});
      });
    }
    const Tensor out = stored_as(a_.dtype(), full);
    if (F::keeps_a) a = a_;
    if (F::keeps_b) b = b_;
    if (F::keeps_y) y = out;
    return out;
  }
  void backward(const Tensor& dy, Grads& g) const {
    constexpr int kOther = F::equal ? 0 : 1;
    const bool shared = F::equal && g.wants(0) && g.wants(1);
    const Tensor full = shared ? side<0>(dy) : Tensor();
    if (g.wants(0)) g[0] = sum_to(F::a_passes ? dy : shared ? full : side<0>(dy), a_shape);
    if (g.wants(1)) g[1] = sum_to(F::b_passes ? dy : shared ? full : side<kOther>(dy), b_shape);
  }

 private:
  template <int Side> Tensor side(const Tensor& dy) const {
    if (dy.size() == 0) return empty_like(dy);
    const Tensor d = loop_copy<F>(dy), dx = empty_like(d);
    // an operand that is not read counts as full-sized, and dy stands in for it
    const Tensor u = F::keeps_a ? loop_copy<F>(*a) : d, v = F::keeps_b ? loop_copy<F>(*b) : d,
                 w = F::keeps_y ? loop_copy<F>(*y) : d;
    const Stretch at = stretch(d.shape(), u.shape(), v.shape());
    dispatch_loops<F>(d.dtype(), [&]<class T>() {
      for_pairs(d.device(), d.size(), at,
                GradBinary<Side, F, T>{f, at, u.data<T>(), v.data<T>(), w.data<T>(), d.data<T>(), dx.data<T>()});
    });
    return stored_as(dy.dtype(), dx);
  }
};

// The defaults of a two-operand formula, to inherit from.
struct Formula2 {
  HD static auto da(auto, auto, auto) { return 1.f; }
  HD static auto db(auto, auto, auto) { return 1.f; }
  static constexpr bool keeps_a = false, keeps_b = false, keeps_y = false, a_passes = false, b_passes = false,
                        equal = false;
};

}  // namespace fovea
