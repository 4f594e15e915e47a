// The formulas of the pointwise ops, each next to its derivative. Everything else about them is in ops/map.h.
#include "ops/pointwise.h"

#include <cmath>

#include "ops/map.h"

namespace fovea {

namespace {

// --- one operand: y = f(x), df = dy/dx ---

struct Exp {  // dy/dx = y
  static constexpr auto name = "exp";
  static constexpr Keep keep = Keep::y;
  HD static auto f(auto x) { return math::exp(x); }
  HD static auto df(auto, auto y) { return y; }
};
struct Log {  // dy/dx = 1 / x
  static constexpr auto name = "log";
  static constexpr Keep keep = Keep::x;
  HD static auto f(auto x) { return math::log(x); }
  HD static auto df(auto x, auto) { return 1 / x; }
};
struct Sqrt {  // dy/dx = 1 / (2 y)
  static constexpr auto name = "sqrt";
  static constexpr Keep keep = Keep::y;
  HD static auto f(auto x) { return std::sqrt(x); }
  HD static auto df(auto, auto y) { return 1 / (2 * y); }
};
struct Abs {  // dy/dx = sign(x); kink at 0
  static constexpr auto name = "abs";
  static constexpr Keep keep = Keep::x;
  HD static auto f(auto x) { return x < 0 ? -x : x; }
  HD static auto df(auto x, auto) { return x > 0 ? 1.f : x < 0 ? -1.f : 0.f; }
};
struct Neg {
  static constexpr auto name = "neg";
  static constexpr Keep keep = Keep::none;
  HD static auto f(auto x) { return -x; }
  HD static auto df(auto, auto) { return -1.f; }
};
struct Sigmoid {  // y = 1 / (1 + e^-x); dy/dx = y (1 - y)
  static constexpr auto name = "sigmoid";
  static constexpr Keep keep = Keep::y;
  HD static auto f(auto x) { return math::sigmoid(x); }
  HD static auto df(auto, auto y) { return y * (1 - y); }
};
struct Tanh {  // dy/dx = 1 - y^2
  static constexpr auto name = "tanh";
  static constexpr Keep keep = Keep::y;
  HD static auto f(auto x) { return math::tanh(x); }
  HD static auto df(auto, auto y) { return 1 - y * y; }
};
struct Relu {  // max(x, 0), NaN stays NaN; kink at 0
  static constexpr auto name = "relu";
  static constexpr Keep keep = Keep::y;
  using StoresBf16 = void;
  HD static auto f(auto x) { return x < 0 ? 0 : x; }
  HD static auto df(auto, auto y) { return y > 0 ? 1.f : 0.f; }
};
struct LeakyRelu {  // x or slope x; slope >= 0, so y has x's sign; kink at 0
  static constexpr auto name = "leaky_relu";
  static constexpr Keep keep = Keep::y;
  double slope;
  template <class T> HD T f(T x) const { return x > 0 ? x : x * T(slope); }
  template <class T> HD T df(T, T y) const { return y > 0 ? T(1) : T(slope); }
};
struct Silu {  // y = x s(x); dy/dx = s (1 + x (1 - s))
  static constexpr auto name = "silu";
  static constexpr Keep keep = Keep::x;
  HD static auto f(auto x) { return x * math::sigmoid(x); }
  HD static auto df(auto x, auto) {
    const auto s = math::sigmoid(x);
    return s * (1 + x * (1 - s));
  }
};
struct Gelu {  // y = x Phi(x); dy/dx = Phi(x) + x phi(x), the normal distribution and its density
  static constexpr auto name = "gelu";
  static constexpr Keep keep = Keep::x;
  template <class T> HD static T bell(T x) { return math::exp_negative(T(-0.5) * x * x); }  // sqrt(2 pi) phi
  template <class T> HD static T distribution(T x, T bell) {
    const T tail = T(0.5) * math::erfc((x < 0 ? -x : x) * T(0.7071067811865476), bell);
    return x < 0 ? tail : T(1) - tail;
  }
  HD static auto f(auto x) { return x * distribution(x, bell(x)); }
  template <class T> HD static T df(T x, T) {
    const T b = bell(x);
    return distribution(x, b) + x * (T(0.3989422804014327) * b);
  }
};
struct Softplus {  // y = log(1 + e^x); dy/dx = s(x)
  static constexpr auto name = "softplus";
  static constexpr Keep keep = Keep::x;
  HD static auto f(auto x) { return math::softplus(x); }
  HD static auto df(auto x, auto) { return math::sigmoid(x); }
};
struct LogSigmoid {  // y = -log(1 + e^-x); dy/dx = s(-x)
  static constexpr auto name = "log_sigmoid";
  static constexpr Keep keep = Keep::x;
  HD static auto f(auto x) { return -math::softplus(-x); }
  HD static auto df(auto x, auto) { return math::sigmoid(-x); }
};
struct Pow {  // y = x^e; dy/dx = e x^(e - 1)
  static constexpr auto name = "pow";
  static constexpr Keep keep = Keep::x;
  double exponent;
  template <class T> HD T f(T x) const { return math::pow(x, T(exponent)); }
  template <class T> HD T df(T x, T) const {
    return exponent == 0 ? T(0) : T(exponent) * math::pow(x, T(exponent - 1));
  }
};
struct Square {
  static constexpr auto name = "pow";
  static constexpr Keep keep = Keep::x;
  HD static auto f(auto x) { return x * x; }
  HD static auto df(auto x, auto) { return 2 * x; }
};
struct Reciprocal {  // dy/dx = -y^2
  static constexpr auto name = "pow";
  static constexpr Keep keep = Keep::y;
  HD static auto f(auto x) { return 1 / x; }
  HD static auto df(auto, auto y) { return -y * y; }
};
struct Clamp {  // kinks at both ends, where the gradient is 1
  static constexpr auto name = "clamp";
  static constexpr Keep keep = Keep::x;
  double low, high;
  template <class T> HD T f(T x) const { return x < T(low) ? T(low) : x > T(high) ? T(high) : x; }
  template <class T> HD T df(T x, T) const { return x < T(low) || x > T(high) ? T(0) : T(1); }
};
struct Scale {
  static constexpr auto name = "scale";
  static constexpr Keep keep = Keep::none;
  double factor;
  template <class T> HD T f(T x) const { return x * T(factor); }
  template <class T> HD T df(T, T) const { return T(factor); }
};
struct Shift {
  static constexpr auto name = "shift";
  static constexpr Keep keep = Keep::none;
  double term;
  template <class T> HD T f(T x) const { return x + T(term); }
  HD static auto df(auto, auto) { return 1.f; }
};

// --- two operands: y = f(a, b), da = dy/da, db = dy/db ---

struct Add : Formula2 {
  static constexpr auto name = "add";
  static constexpr bool a_passes = true, b_passes = true;
  using StoresBf16 = void;
  HD static auto f(auto a, auto b) { return a + b; }
};
struct Sub : Formula2 {
  static constexpr auto name = "sub";
  static constexpr bool a_passes = true;
  HD static auto f(auto a, auto b) { return a - b; }
  HD static auto db(auto, auto, auto) { return -1.f; }
};
struct Mul : Formula2 {
  static constexpr auto name = "mul";
  static constexpr bool keeps_a = true, keeps_b = true;
  HD static auto f(auto a, auto b) { return a * b; }
  HD static auto da(auto, auto b, auto) { return b; }
  HD static auto db(auto a, auto, auto) { return a; }
};
struct Div : Formula2 {
  static constexpr auto name = "div";
  static constexpr bool keeps_b = true, keeps_y = true;
  HD static auto f(auto a, auto b) { return a / b; }
  HD static auto da(auto, auto b, auto) { return 1 / b; }
  HD static auto db(auto, auto b, auto y) { return -y / b; }
};
struct Minimum : Formula2 {  // a tie goes to a; NaN of either stays
  static constexpr auto name = "minimum";
  static constexpr bool keeps_a = true, keeps_b = true;
  HD static auto f(auto a, auto b) { return a <= b || a != a ? a : b; }
  HD static auto da(auto a, auto b, auto) { return a <= b || a != a ? 1.f : 0.f; }
  HD static auto db(auto a, auto b, auto) { return a <= b || a != a ? 0.f : 1.f; }
};
struct Maximum : Formula2 {
  static constexpr auto name = "maximum";
  static constexpr bool keeps_a = true, keeps_b = true;
  HD static auto f(auto a, auto b) { return a >= b || a != a ? a : b; }
  HD static auto da(auto a, auto b, auto) { return a >= b || a != a ? 1.f : 0.f; }
  HD static auto db(auto a, auto b, auto) { return a >= b || a != a ? 0.f : 1.f; }
};
struct AddRelu : Formula2 {  // kink where a + b = 0
  static constexpr auto name = "add_relu";
  static constexpr bool keeps_y = true, equal = true;
  using StoresBf16 = void;
  HD static auto f(auto a, auto b) { return a + b < 0 ? 0 : a + b; }
  HD static auto da(auto, auto, auto y) { return y > 0 ? 1.f : 0.f; }
  HD static auto db(auto, auto, auto y) { return y > 0 ? 1.f : 0.f; }
};

// --- three ---

template <class T> struct Choose {  // y = c ? a : b
  const uint8_t* c;
  const T* a;
  const T* b;
  T* y;
  HD void operator()(int64_t i) const { y[i] = c[i] ? a[i] : b[i]; }
};
template <class T> struct Mask {  // dx = dy where c is (not) 0
  const uint8_t* c;
  const T* dy;
  T* dx;
  bool side;
  HD void operator()(int64_t i) const {
    const T g = dy[i];
    dx[i] = (c[i] != 0) == side ? g : T(0);
  }
};
struct Where {
  static constexpr auto name = "where";
  Saved condition;
  Shape a_shape, b_shape;

  Tensor forward(const Tensor& c_, const Tensor& a, const Tensor& b) {
    check(c_ && c_.dtype() == DType::u8, name, ": the condition must be a tensor of u8");
    check(a && b && is_float(a.dtype()) && a.dtype() == b.dtype(), name, ": a and b must have one floating-point type");
    a_shape = a.shape(), b_shape = b.shape();
    const Shape shape = broadcast(name, broadcast(name, c_.shape(), a_shape), b_shape);
    const Tensor c = expand_to(c_, shape), u = expand_to(a, shape), v = expand_to(b, shape);
    condition = c;
    Tensor y(shape, a.dtype(), a.device());
    dispatch_storage(y.dtype(), [&]<class T>() {
      for_each(y.device(), y.size(), Choose<T>{c.data<uint8_t>(), u.data<T>(), v.data<T>(), y.data<T>()});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    for (int side = 1; side <= 2; ++side) {
      if (!g.wants(side)) continue;
      Tensor dx = empty_like(dy);
      dispatch_storage(dy.dtype(), [&]<class T>() {
        for_each(dy.device(), dy.size(), Mask<T>{condition->data<uint8_t>(), dy.data<T>(), dx.data<T>(), side == 1});
      });
      g[side] = sum_to(dx, side == 1 ? a_shape : b_shape);
    }
  }
};

struct Cast {
  static constexpr auto name = "cast";
  DType to, from = to;
  Tensor forward(const Tensor& x) {
    check(x && is_float(x.dtype()) && is_float(to), name, ": from ", x ? name_of(x.dtype()) : "none", " to ",
          name_of(to), ": expected floating-point types", x ? type_hint(x.dtype(), to) : "");
    return from = x.dtype(), from == to ? x : x.to(to);
  }
  void backward(const Tensor& dy, Grads& g) const { g[0] = from == to ? dy : dy.to(from); }
};

}  // namespace

Tensor add(const Tensor& a, const Tensor& b) { return apply(Binary<Add>{}, a, b); }
Tensor sub(const Tensor& a, const Tensor& b) { return apply(Binary<Sub>{}, a, b); }
Tensor mul(const Tensor& a, const Tensor& b) { return apply(Binary<Mul>{}, a, b); }
Tensor div(const Tensor& a, const Tensor& b) { return apply(Binary<Div>{}, a, b); }
Tensor minimum(const Tensor& a, const Tensor& b) { return apply(Binary<Minimum>{}, a, b); }
Tensor maximum(const Tensor& a, const Tensor& b) { return apply(Binary<Maximum>{}, a, b); }
Tensor add_relu(const Tensor& a, const Tensor& b) { return apply(Binary<AddRelu>{}, a, b); }
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) { return apply(Where{}, condition, a, b); }

Tensor exp(const Tensor& x) { return apply(Unary<Exp>{}, x); }
Tensor log(const Tensor& x) { return apply(Unary<Log>{}, x); }
Tensor sqrt(const Tensor& x) { return apply(Unary<Sqrt>{}, x); }
Tensor abs(const Tensor& x) { return apply(Unary<Abs>{}, x); }
Tensor neg(const Tensor& x) { return apply(Unary<Neg>{}, x); }
Tensor sigmoid(const Tensor& x) { return apply(Unary<Sigmoid>{}, x); }
Tensor tanh(const Tensor& x) { return apply(Unary<Tanh>{}, x); }
Tensor relu(const Tensor& x) { return apply(Unary<Relu>{}, x); }
Tensor leaky_relu(const Tensor& x, double slope) {
  check(slope >= 0, "leaky_relu: the slope must not be negative, got ", slope);
  return apply(Unary<LeakyRelu>{{slope}}, x);
}
Tensor silu(const Tensor& x) { return apply(Unary<Silu>{}, x); }
Tensor gelu(const Tensor& x) { return apply(Unary<Gelu>{}, x); }
Tensor softplus(const Tensor& x) { return apply(Unary<Softplus>{}, x); }
Tensor log_sigmoid(const Tensor& x) { return apply(Unary<LogSigmoid>{}, x); }
Tensor pow(const Tensor& x, double exponent) {
  if (exponent == 2) return apply(Unary<Square>{}, x);
  if (exponent == -1) return apply(Unary<Reciprocal>{}, x);
  return exponent == 0.5 ? sqrt(x) : apply(Unary<Pow>{{exponent}}, x);
}
Tensor clamp(const Tensor& x, double low, double high) {
  check(low <= high, "clamp: the lower bound ", low, " exceeds the upper bound ", high);
  return apply(Unary<Clamp>{{low, high}}, x);
}
Tensor scale(const Tensor& x, double factor) { return apply(Unary<Scale>{{factor}}, x); }
Tensor shift(const Tensor& x, double term) { return apply(Unary<Shift>{{term}}, x); }
Tensor cast(const Tensor& x, DType type) { return apply(Cast{type}, x); }

}  // namespace fovea
