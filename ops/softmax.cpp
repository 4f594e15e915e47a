// Softmax over rows: one team a row, shifted by the row's maximum.
#include "ops/softmax.h"

#include <cmath>

#include "core/loops.h"
#include "core/math.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace fovea {

namespace {

// log sum_i e^x_i = top + rest = max + log sum_i e^(x_i - max); x [n]. Their sum would round rest to the digits of a
// large top.
template <class T> struct LogSum {
  T top, rest;
  HD T of(T x) const { return (x - top) - rest; }  // log e^x / sum
};
template <class T, class Team> HD LogSum<T> log_sum_exp(Team team, const T* x, int64_t n) {
  const T top = team.reduce(
      n, T(-INFINITY), [=](int64_t i) { return x[i]; }, Max{});
  return {top, math::log(team.reduce(n, T(0), [=](int64_t i) { return math::exp(x[i] - top); }))};
}

template <class T> struct SoftmaxRow {  // y_i = e^(x_i - max) / sum
  const T* x;
  T* y;
  int64_t n;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T* in = x + r * n;
    T* out = y + r * n;
    const T top = team.reduce(
        n, T(-INFINITY), [=](int64_t i) { return in[i]; }, Max{});
    team.each(n, [=](int64_t i) { out[i] = math::exp(in[i] - top); });
    const T sum = team.reduce(n, T(0), [=](int64_t i) { return out[i]; });
    team.each(n, [=](int64_t i) { out[i] = out[i] / sum; });
  }
};
template <class T> struct SoftmaxGradRow {  // dx_i = y_i (dy_i - sum_j dy_j y_j)
  const T *y, *dy;
  T* dx;
  int64_t n;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T *out = y + r * n, *up = dy + r * n;
    T* to = dx + r * n;
    const T dot = team.reduce(n, T(0), [=](int64_t i) { return up[i] * out[i]; });
    team.each(n, [=](int64_t i) { to[i] = out[i] * (up[i] - dot); });
  }
};
template <class T> struct LogSoftmaxRow {  // y_i = x_i - log sum_j e^x_j
  const T* x;
  T* y;
  int64_t n;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T* in = x + r * n;
    T* out = y + r * n;
    const LogSum<T> whole = log_sum_exp(team, in, n);
    team.each(n, [=](int64_t i) { out[i] = whole.of(in[i]); });
  }
};
template <class T> struct LogSoftmaxGradRow {  // dx_i = dy_i - e^y_i sum_j dy_j
  const T *y, *dy;
  T* dx;
  int64_t n;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T *out = y + r * n, *up = dy + r * n;
    T* to = dx + r * n;
    const T sum = team.reduce(n, T(0), [=](int64_t i) { return up[i]; });
    team.each(n, [=](int64_t i) { to[i] = up[i] - math::exp(out[i]) * sum; });
  }
};
// An op over rows whose gradient needs its result alone: Kind names it, its row and its row's gradient.
template <class Kind> struct OverRows {
  static constexpr auto name = Kind::name;
  Saved y{};
  Tensor forward(const Tensor& x) {
    Tensor out = empty_like(x);
    dispatch_float(x.dtype(), [&]<class T>() {
      using Row = typename Kind::template Row<T>;
      for_rows(x.device(), x.shape().rows(), x.dim(-1), Row{x.data<T>(), out.data<T>(), x.dim(-1)});
    });
    y = out;
    return out;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = empty_like(dy);
    dispatch_float(dy.dtype(), [&]<class T>() {
      using Row = typename Kind::template GradRow<T>;
      for_rows(dy.device(), dy.shape().rows(), dy.dim(-1), Row{y->data<T>(), dy.data<T>(), g[0].data<T>(), dy.dim(-1)});
    });
  }
};
struct Softmax {
  static constexpr auto name = "softmax";
  template <class T> using Row = SoftmaxRow<T>;
  template <class T> using GradRow = SoftmaxGradRow<T>;
};
struct LogSoftmax {
  static constexpr auto name = "log_softmax";
  template <class T> using Row = LogSoftmaxRow<T>;
  template <class T> using GradRow = LogSoftmaxGradRow<T>;
};

template <class T> struct CrossEntropyRow {  // loss[r] = log sum_j e^x_j - x_label; kept[r] = that log
  const T* x;
  const int64_t* label;
  T* loss;
  LogSum<T>* kept;
  int64_t n, ignore;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T* in = x + r * n;
    const int64_t k = label[r];
    const LogSum<T> whole = log_sum_exp(team, in, n);
    T *l = loss + r, value = k == ignore ? T(0) : -whole.of(in[k]);
    LogSum<T>* w = kept + r;
    team.each(1, [=](int64_t) { *l = value, *w = whole; });
  }
};
template <class T> struct CrossEntropyGrad {  // dx[r] = (e^(x - log sum) - [j = label]) dy[r], 0 in ignored rows
  const T *x, *dy;
  const LogSum<T>* kept;
  const int64_t* label;
  T* dx;
  int64_t n, ignore;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T* in = x + r * n;
    T* to = dx + r * n;
    const int64_t k = label[r];
    if (k == ignore) return team.each(n, [=](int64_t i) { to[i] = T(0); });  // also of what is not finite
    const LogSum<T> whole = kept[r];
    const T s = dy[r];
    team.each(n, [=](int64_t i) { to[i] = s * (math::exp(whole.of(in[i])) - (i == k ? T(1) : T(0))); });
  }
};
struct CrossEntropy {
  static constexpr auto name = "cross_entropy";
  CrossEntropyOptions o;
  Saved x{}, labels{};
  Tensor kept{};

  Tensor forward(const Tensor& x_, const Tensor& labels_) {
    x = x_, labels = labels_;
    Tensor loss({x_.dim(0)}, x_.dtype(), x_.device());
    kept = Tensor({x_.dim(0), 2}, x_.dtype(), x_.device());
    dispatch_float(x_.dtype(), [&]<class T>() {
      for_rows(x_.device(), x_.dim(0), x_.dim(1),
               CrossEntropyRow<T>{x_.data<T>(), labels_.data<int64_t>(), loss.data<T>(),
                                  reinterpret_cast<LogSum<T>*>(kept.data<T>()), x_.dim(1), o.ignore});
    });
    return loss;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = empty_like(*x);
    dispatch_float(dy.dtype(), [&]<class T>() {
      for_rows(dy.device(), x->dim(0), x->dim(1),
               CrossEntropyGrad<T>{x->data<T>(), dy.data<T>(), reinterpret_cast<const LogSum<T>*>(kept.data<T>()),
                                   labels->data<int64_t>(), g[0].data<T>(), x->dim(1), o.ignore});
    });
  }
};

// Runs a last-axis op along another axis.
template <class Op> Tensor along(const Tensor& x, int axis, Op op) {
  check(x && x.rank() >= 1, Op::name, ": needs a tensor with at least one axis");
  const int a = x.shape().axis(axis), last = x.rank() - 1;
  if (a == last) return apply(std::move(op), x);
  std::vector<int> swap;
  for (int d = 0; d <= last; ++d) swap.push_back(d == a ? last : d == last ? a : d);
  return permute(apply(std::move(op), permute(x, swap)), swap);
}

}  // namespace

Tensor softmax(const Tensor& x, int axis) { return along(x, axis, OverRows<Softmax>{}); }
Tensor log_softmax(const Tensor& x, int axis) { return along(x, axis, OverRows<LogSoftmax>{}); }

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, CrossEntropyOptions options) {
  check(logits && logits.rank() == 2 && labels && labels.shape() == Shape{logits.dim(0)},
        "cross_entropy: labels need one entry per row\n  logits ", logits.shape(), "   (R,K)\n  labels ",
        labels.shape(), "   (R)");
  check(labels.dtype() == DType::i64, "cross_entropy: labels must be i64, got ", name_of(labels.dtype()));
  int64_t count = 0;
  const Tensor here = labels.to(Device::cpu);
  const int64_t* k = here.data<int64_t>();
  for (int64_t r = 0; r < labels.size(); ++r) {
    if (k[r] == options.ignore) continue;
    check(k[r] >= 0 && k[r] < logits.dim(1), "cross_entropy: label ", k[r], " in row ", r, " is outside 0..",
          logits.dim(1) - 1);
    ++count;
  }
  return scale(sum(apply(CrossEntropy{options}, logits, labels.to(logits.device()))),
               count ? 1.0 / static_cast<double>(count) : 0.0);
}

}  // namespace fovea
