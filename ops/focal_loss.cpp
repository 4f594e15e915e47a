// Focal loss, FL* and hinge. All depend on z = -x_t (x for a negative, -x for the positive) and its weight w alone, so
// one branch-free term serves all elements of a row; it never takes the log of a probability that has underflowed.
// Where the logits want a gradient, the pass that sums the loss leaves its slopes behind: they share what is costly.
#include "ops/focal_loss.h"

#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/math.h"
#include "ops/columns.h"

namespace fovea {
namespace {

// Powers of q = sigmoid(z) = 1 - pt, given log q.
template <class T> struct PowerZero {
  HD T operator()(T, T) const { return 1; }
};
template <class T> struct PowerTwo {
  HD T operator()(T q, T) const { return q * q; }
};
template <class T> struct PowerAny {
  T gamma;
  HD T operator()(T, T log_q) const { return math::exp(gamma * log_q); }
};

template <class T> struct Point { T value, slope; };

// FL = q^g softplus(z): with pt = 1 - q, -log(pt) = softplus(z).
// dFL/dz = q^g (g (1 - q) softplus(z) + q)      (Appendix B with dz = -y dx; g q^g (1 - q) is d(q^g)/dz)
template <class T, class Power> struct FocalTerm {
  Power power;
  T gamma;
  HD Point<T> operator()(T z) const {
    const T e = math::exp_negative(-math::abs(z)), share = T(1) / (T(1) + e), l = math::log1p_unit(e);
    const T q = z < 0 ? e * share : share, up = (z > 0 ? z : T(0)) + l, factor = power(q, (z < 0 ? z : T(0)) - l);
    return {factor * up, factor * (gamma * (1 - q) * up + q)};
  }
};

// FL* = softplus(g z - b) / g, dFL*/dz = sigmoid(g z - b).
template <class T> struct StarTerm {
  T gamma, beta;
  HD Point<T> operator()(T z) const {
    const T v = gamma * z - beta, e = math::exp_negative(-math::abs(v));
    return {((v > 0 ? v : T(0)) + math::log1p_unit(e)) / gamma, (v < 0 ? e : T(1)) / (T(1) + e)};
  }
};

// max(0, q - slack) with slack = 1 - margin, d/dz = q (1 - q) where there is a loss.
template <class T> struct HingeTerm {
  T slack;
  HD Point<T> operator()(T z) const {
    const T q = math::sigmoid(z), over = q - slack;
    return {over > 0 ? over : T(0), over > 0 ? q * (1 - q) : T(0)};
  }
};

// Sum over a chunk of anchors of one image; slope [N,R,K] is dloss/dlogits, or, where `graded` is false, a line of K
// for each chunk that nobody reads.
template <class T, class Term> struct LossChunk {
  const T* logits;
  const int64_t* labels;
  double* partial;
  T* slope;
  bool graded;
  int64_t anchors, classes, chunk, per;
  Term term;
  T positive, negative;  // weights
  template <class Team> HD void operator()(const Team& team, int64_t i) const {
    const int64_t n = i / per, begin = i % per * chunk, end = begin + chunk < anchors ? begin + chunk : anchors;
    double sum = 0;
    if constexpr (std::is_same_v<Team, Solo>)
      for (int64_t r = n * anchors + begin; r < n * anchors + end; ++r)
        sum += row(team, r, slope + (graded ? r : i) * classes);
    else sum = rows(team, n * anchors + begin, end - begin, slope + (graded ? n * anchors + begin : i) * classes);
    partial[i] = sum;
  }
  HD static T one(const Term& f, T x, bool own, T up, T down, T* out) {
    const Point<T> p = f(own ? -x : x);
    *out = (own ? -up : down) * p.slope;
    return (own ? up : down) * p.value;
  }
  // All of a chunk at once, so that a team adds up once; without `graded` a slope lands in its line.
  template <class Team> HD double rows(const Team& team, int64_t first, int64_t count, T* out) const {
    const uint32_t k = uint32_t(classes);
    const bool keep = graded;
    const T *x = logits + first * classes, up = positive, down = negative;
    const int64_t* own = labels + first;
    const Term f = term;
    return team.reduce(count * classes, 0.0, [=](int64_t i) {
      const uint32_t r = uint32_t(i) / k, c = uint32_t(i) - r * k;
      const int label = int(own[r]);
      T unread, *to = keep ? out + i : &unread;
      if (label != -2) return double(one(f, x[i], int(c) == label, up, down, to));
      *to = 0;
      return 0.0;
    });
  }
  template <class Team> HD T row(const Team& team, int64_t r, T* out) const {
    const T *x = logits + r * classes, up = positive, down = negative;
    const int label = int(labels[r]);
    const Term f = term;
    if (label == -2) {
      team.each(classes, [=](int64_t k) { out[k] = 0; });
      return 0;
    }
    if (label < 0)  // nearly all: without a choice for each class
      return team.reduce(classes, T(0), [=](int64_t k) { return one(f, x[k], false, up, down, out + k); });
    return team.reduce(classes, T(0), [=](int64_t k) { return one(f, x[k], int(k) == label, up, down, out + k); });
  }
};
template <class T> struct ImageTotal {
  const double* partial;
  T* out;
  int64_t per;
  HD void operator()(int64_t n) const {
    double sum = 0;
    for (int64_t i = n * per; i < (n + 1) * per; ++i) sum += partial[i];
    out[n] = T(sum);
  }
};
template <class T> struct ScaleImages {  // dx = dy[n] slope, of some anchors of an image; dx may be slope
  static constexpr int kWidth = kLaneWidth<T>;
  const T *slope, *dy;
  T* dx;
  int64_t anchors, classes;
  bool aligned() const { return all_aligned(slope, dx); }
  template <class Columns> HD void operator()(const Columns& at, int64_t, int64_t row, int64_t n) const {
    const T factor = dy[row / anchors];
    for (int64_t r = row; r < row + n; ++r) {
      const auto from = at.load(slope + r * classes);
      auto to = at.fresh(dx + r * classes);
      at.each([&](int64_t k) { to[k] = factor * from[k]; });
      at.store(dx + r * classes, to);
    }
  }
};

struct LossState {
  std::optional<double> alpha;
  double gamma = 2, beta = 1, slack = 0;
  bool graded = false;  // the logits want a gradient
  Tensor slope;

  // self.term(f): calls f with the term for elements of type T.
  template <class Self> Tensor total(const Self& self, const Tensor& logits, const Tensor& labels) {
    const int64_t images = logits.dim(0), anchors = logits.dim(1), classes = logits.dim(2);
    const int64_t chunk = kGrain / (classes > 0 ? classes : 1) + 1, per = (anchors + chunk - 1) / chunk;
    Tensor out({images}, logits.dtype(), logits.device());
    slope = Tensor(graded ? logits.shape() : Shape{images * per, classes}, logits.dtype(), logits.device());
    Workspace partial(static_cast<size_t>(images * per) * sizeof(double), out.device());
    dispatch_float(out.dtype(), [&]<class T>() {
      self.template term<T>([&](auto term) {
        for_rows(out.device(), images * per, kGrain,
                 LossChunk<T, decltype(term)>{logits.data<T>(), labels.data<int64_t>(), partial.as<double>(),
                                              slope.data<T>(), graded, anchors, classes, chunk, per, term,
                                              T(alpha.value_or(1)), T(alpha ? 1 - *alpha : 1)});
      });
      for_each(out.device(), images, ImageTotal<T>{partial.as<double>(), out.data<T>(), per});
    });
    return out;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = g.last ? slope : empty_like(slope);
    dispatch_float(dy.dtype(), [&]<class T>() {
      for_strips(dy.device(), Strips::of_map(dy.device(), slope.dim(0), slope.dim(1), slope.dim(2)),
                 ScaleImages<T>{slope.data<T>(), dy.data<T>(), g[0].data<T>(), slope.dim(1), slope.dim(2)});
    });
  }
};

struct FocalLoss : LossState {
  static constexpr auto name = "sigmoid_focal_loss";
  template <class T, class F> void term(F f) const {
    if (gamma == 0) return f(FocalTerm<T, PowerZero<T>>{{}, 0});
    if (gamma == 2) return f(FocalTerm<T, PowerTwo<T>>{{}, 2});
    f(FocalTerm<T, PowerAny<T>>{{T(gamma)}, T(gamma)});
  }
  Tensor forward(const Tensor& x, const Tensor& y) { return total(*this, x, y); }
};
struct FocalLossStar : LossState {
  static constexpr auto name = "focal_loss_star";
  template <class T, class F> void term(F f) const { f(StarTerm<T>{T(gamma), T(beta)}); }
  Tensor forward(const Tensor& x, const Tensor& y) { return total(*this, x, y); }
};
struct HingeLoss : LossState {
  static constexpr auto name = "sigmoid_hinge_loss";
  template <class T, class F> void term(F f) const { f(HingeTerm<T>{T(slack)}); }
  Tensor forward(const Tensor& x, const Tensor& y) { return total(*this, x, y); }
};

bool graded(const Tensor& x) { return x.requires_grad() && !NoGrad::active(); }

void check_inputs(const char* op, const Tensor& x, const Tensor& y, std::optional<double> alpha) {
  check(x.rank() == 3 && y.shape() == x.shape().without(2), op, ": needs logits [N,R,K] and labels [N,R]\n  logits ",
        x.shape(), "\n  labels ", y.shape());
  check(y.dtype() == DType::i64, op, ": labels must be i64, got ", name_of(y.dtype()));
  check(!alpha || (*alpha >= 0 && *alpha <= 1), op, ": alpha ", alpha.value_or(0), " must be in [0, 1]");
  if (y.device() != Device::cpu) return;  // reading them would wait: there the caller vouches for them
  const int64_t *begin = y.data<int64_t>(), *end = begin + y.size(), classes = x.dim(2);
  const int64_t* bad = std::find_if(begin, end, [=](int64_t label) { return label < -2 || label >= classes; });
  if (bad == end) return;
  fail(Code::failure,
       text(op, ": label ", *bad, " of anchor ", (bad - begin) % y.dim(1), " in image ", (bad - begin) / y.dim(1),
            ", expected 0..", classes - 1, ", -1 (background) or -2 (ignored)"));
}

}  // namespace

Tensor sigmoid_focal_loss(const Tensor& logits, const Tensor& labels, FocalOptions o) {
  check_inputs(FocalLoss::name, logits, labels, o.alpha);
  check(o.gamma >= 0 && std::isfinite(o.gamma), "sigmoid_focal_loss: gamma ", o.gamma,
        " must be at least 0, and finite");
  FocalLoss op;
  op.alpha = o.alpha, op.gamma = o.gamma, op.graded = graded(logits);
  return apply(std::move(op), logits, labels.to(logits.device()));
}
Tensor focal_loss_star(const Tensor& logits, const Tensor& labels, FocalStarOptions o) {
  check_inputs(FocalLossStar::name, logits, labels, o.alpha);
  check(o.gamma > 0 && std::isfinite(o.gamma), "focal_loss_star: gamma ", o.gamma, " must be above 0, and finite");
  FocalLossStar op;
  op.alpha = o.alpha, op.gamma = o.gamma, op.beta = o.beta, op.graded = graded(logits);
  return apply(std::move(op), logits, labels.to(logits.device()));
}
Tensor sigmoid_hinge_loss(const Tensor& logits, const Tensor& labels, HingeOptions o) {
  check_inputs(HingeLoss::name, logits, labels, o.alpha);
  check(o.margin > 0 && o.margin <= 1, "sigmoid_hinge_loss: margin ", o.margin, " must be in (0, 1]");
  HingeLoss op;
  op.alpha = o.alpha, op.slack = 1 - o.margin, op.graded = graded(logits);
  return apply(std::move(op), logits, labels.to(logits.device()));
}

}  // namespace fovea
