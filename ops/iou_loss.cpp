// IoU losses. Each is written once, as its formula over a number type: on plain numbers it gives the value, on dual
// numbers (a value and its derivatives by the 8 coordinates) it gives the gradient as well. No derivation, nothing to
// drift apart.
#include "ops/iou_loss.h"

#include <cmath>

#include "core/math.h"
#include "ops/pair_loss.h"

namespace fovea {
namespace {

constexpr int kCoordinates = 8;

template <class T> struct Dual {  // a + sum_i d[i] eps_i, with eps_i eps_j = 0
  T v;
  T d[kCoordinates];
  HD Dual(T value = 0) : v(value), d{} {}  // implicit: constants
  HD static Dual variable(T value, int i) {
    Dual x(value);
    x.d[i] = 1;
    return x;
  }
  HD friend Dual combine(T v, const Dual& a, T da, const Dual& b, T db) {  // f(a, b) with its partial derivatives
    Dual y(v);
    for (int i = 0; i < kCoordinates; ++i) y.d[i] = da * a.d[i] + db * b.d[i];
    return y;
  }
  HD friend Dual operator+(const Dual& a, const Dual& b) { return combine(a.v + b.v, a, T(1), b, T(1)); }
  HD friend Dual operator-(const Dual& a, const Dual& b) { return combine(a.v - b.v, a, T(1), b, T(-1)); }
  HD friend Dual operator*(const Dual& a, const Dual& b) { return combine(a.v * b.v, a, b.v, b, a.v); }
  HD friend Dual operator/(const Dual& a, const Dual& b) {
    return combine(a.v / b.v, a, 1 / b.v, b, -a.v / (b.v * b.v));
  }
};
template <class T> HD T value(T x) { return x; }
template <class T> HD T value(const Dual<T>& x) { return x.v; }
template <class T> HD T pick(bool first, T a, T b) { return first ? a : b; }
template <class T> HD Dual<T> pick(bool first, const Dual<T>& a, const Dual<T>& b) {  // number by number: it vectorises
  Dual<T> y(first ? a.v : b.v);
  for (int i = 0; i < kCoordinates; ++i) y.d[i] = first ? a.d[i] : b.d[i];
  return y;
}
template <class T> HD T scaled(T x, double) { return x; }
template <class T> HD Dual<T> scaled(Dual<T> x, double factor) {  // the derivatives alone
  for (int i = 0; i < kCoordinates; ++i) x.d[i] = T(factor) * x.d[i];
  return x;
}
template <class S> HD S smaller(const S& a, const S& b) { return pick(value(a) < value(b), a, b); }
template <class S> HD S larger(const S& a, const S& b) { return pick(value(a) < value(b), b, a); }
// The angle of a side ratio, atan(w / h), also for h = 0.
template <class T> HD T angle(T w, T h) { return math::atan2(w, h); }
template <class T> HD Dual<T> angle(const Dual<T>& w, const Dual<T>& h) {
  const T n = w.v * w.v + h.v * h.v, inverse = n > 0 ? 1 / n : T(0);
  return combine(math::atan2(w.v, h.v), w, h.v * inverse, h, -w.v * inverse);
}

template <class S> struct Pair {  // a box and its target
  S x1, y1, x2, y2, u1, v1, u2, v2;
  HD S width() const { return x2 - x1; }
  HD S height() const { return y2 - y1; }
  HD S target_width() const { return u2 - u1; }
  HD S target_height() const { return v2 - v1; }
  HD S intersection() const {
    const S w = smaller(x2, u2) - larger(x1, u1), h = smaller(y2, v2) - larger(y1, v1);
    return pick((value(w) > 0) & (value(h) > 0), w * h, S(0));
  }
  HD S united() const { return width() * height() + target_width() * target_height() - intersection(); }
  HD S iou(const S& eps) const { return intersection() / (united() + eps); }
  HD S around_width() const { return larger(x2, u2) - smaller(x1, u1); }
  HD S around_height() const { return larger(y2, v2) - smaller(y1, v1); }
};

struct Iou {
  static constexpr auto name = "iou_loss";
  template <class S> HD static S loss(const Pair<S>& p, const S& eps, double) { return S(1) - p.iou(eps); }
};
struct Giou {
  static constexpr auto name = "giou_loss";
  template <class S> HD static S loss(const Pair<S>& p, const S& eps, double) {
    const S around = p.around_width() * p.around_height();
    return S(1) - p.iou(eps) + (around - p.united()) / (around + eps);
  }
};
struct Diou {
  static constexpr auto name = "diou_loss";
  template <class S> HD static S loss(const Pair<S>& p, const S& eps, double) {
    const S w = p.around_width(), h = p.around_height(), half(0.5);
    const S dx = half * (p.x1 + p.x2 - p.u1 - p.u2), dy = half * (p.y1 + p.y2 - p.v1 - p.v2);
    return S(1) - p.iou(eps) + (dx * dx + dy * dy) / (w * w + h * h + eps);
  }
};
struct Ciou {
  static constexpr auto name = "ciou_loss";
  template <class S> HD static S loss(const Pair<S>& p, const S& eps, double vary) {
    const S turn(0.63661977236758134);  // 2 / pi
    const S d = turn * (angle(p.target_width(), p.target_height()) - angle(p.width(), p.height())), v = d * d;
    const S alpha = v / (S(1) - p.iou(eps) + v + eps);
    return Diou::loss(p, eps, vary) + scaled(alpha, vary) * v;
  }
};

template <class Formula> struct BoxLoss {
  static constexpr auto name = Formula::name;
  double eps, vary;  // vary: 0 where CIoU's alpha counts as a constant, otherwise 1
  template <class T> HD T value(const T* a, const T* b) const {
    return Formula::template loss<T>({a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]}, T(eps), vary);
  }
  template <class T> HD void slope(const T* a, const T* b, T dy, T* da, T* db) const {
    using D = Dual<T>;
    const Pair<D> pair{D::variable(a[0], 0), D::variable(a[1], 1), D::variable(a[2], 2), D::variable(a[3], 3),
                       D::variable(b[0], 4), D::variable(b[1], 5), D::variable(b[2], 6), D::variable(b[3], 7)};
    const D loss = Formula::template loss<D>(pair, D(T(eps)), vary);
    for (int i = 0; i < 4; ++i) da[i] = dy * loss.d[i], db[i] = dy * loss.d[4 + i];
  }
};

template <class Kind> Tensor run(const Tensor& boxes, const Tensor& targets, const IouLossOptions& o) {
  check(boxes.rank() == 2 && boxes.dim(1) == 4 && targets.shape() == boxes.shape() && targets.dtype() == boxes.dtype(),
        Kind::name, ": needs boxes and targets [R,4] of one type\n  boxes ", name_of(boxes.dtype()), " ", boxes.shape(),
        "\n  targets ", name_of(targets.dtype()), " ", targets.shape());
  return apply(PairLoss<BoxLoss<Kind>>{{o.eps, o.constant_alpha ? 0.0 : 1.0}}, boxes, targets);
}

}  // namespace

Tensor iou_loss(const Tensor& a, const Tensor& b, IouLossOptions o) { return run<Iou>(a, b, o); }
Tensor giou_loss(const Tensor& a, const Tensor& b, IouLossOptions o) { return run<Giou>(a, b, o); }
Tensor diou_loss(const Tensor& a, const Tensor& b, IouLossOptions o) { return run<Diou>(a, b, o); }
Tensor ciou_loss(const Tensor& a, const Tensor& b, IouLossOptions o) { return run<Ciou>(a, b, o); }

}  // namespace fovea
