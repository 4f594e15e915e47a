// Layer norm: statistics of each row, two-pass, and their gradient.
#include <cmath>

#include "core/autograd.h"
#include "core/math.h"
#include "ops/columns.h"
#include "ops/norm.h"

namespace fovea {
namespace {

template <class T> struct Forward {
  const T *x, *gamma, *beta;
  T *y, *mean, *inv;
  int64_t cols;
  double eps;
  template <class Team> HD void operator()(const Team& team, int64_t r) const {
    const T *p = x + r * cols, *a = gamma, *b = beta;
    T* __restrict out = y + r * cols;
    const T n = T(cols), m = team.reduce(cols, T(0), [=](int64_t c) { return p[c]; }) / n;
    const T var = team.reduce(cols, T(0), [=](int64_t c) { return (p[c] - m) * (p[c] - m); }) / n;
    const T rate = T(1 / sqrt(double(var) + eps));
    team.each(cols, [=](int64_t c) { out[c] = (p[c] - m) * rate * a[c] + b[c]; });
    mean[r] = m, inv[r] = rate;
  }
};

// With g = gamma dy and h = (x - mean) inv: dx = inv (g - avg(g) - h avg(g h)).
template <class T> struct Backward {
  const T *x, *gamma, *dy, *mean, *inv;
  T* dx;
  int64_t cols;
  template <class Team> HD void operator()(const Team& team, int64_t r) const {
    const T *p = x + r * cols, *d = dy + r * cols, *a = gamma;
    T* __restrict out = dx + r * cols;
    const T n = T(cols), m = mean[r], rate = inv[r];
    const T ga = team.reduce(cols, T(0), [=](int64_t c) { return math::product(a[c], d[c]); }) / n;
    const T gh = team.reduce(cols, T(0), [=](int64_t c) { return a[c] * d[c] * ((p[c] - m) * rate); }) / n;
    team.each(cols, [=](int64_t c) { out[c] = rate * (math::product(a[c], d[c]) - ga - (p[c] - m) * rate * gh); });
  }
};

// dgamma = sum dy h, dbeta = sum dy: a chunk's columns.
template <class T> struct Sums {
  static constexpr int kWidth = kLaneWidth<T>;
  const T *x, *dy, *mean, *inv;
  T *dgamma, *dbeta;  // [chunks, cols]
  int64_t cols;
  bool aligned() const { return all_aligned(x, dy, dgamma, dbeta); }
  template <class Columns> HD void operator()(const Columns& at, int64_t k, int64_t row, int64_t n) const {
    auto a = at.fresh(dgamma + k * cols), b = at.fresh(dbeta + k * cols);
    at.each([&](int64_t c) { a[c] = b[c] = 0; });
    FOVEA_UNROLL_BY(4) for (int64_t r = row; r < row + n; ++r) {
      const auto p = at.load(x + r * cols), d = at.load(dy + r * cols);
      const T m = mean[r], rate = inv[r];
      at.each([&](int64_t c) { a[c] += d[c] * ((p[c] - m) * rate), b[c] += d[c]; });
    }
    at.store(dgamma + k * cols, a), at.store(dbeta + k * cols, b);
  }
};
struct LayerNorm {
  static constexpr auto name = "layer_norm";
  double eps = 0;
  Saved x, gamma, mean, inv;
  Tensor forward(const Tensor& x_, const Tensor& gamma_, const Tensor& beta) {
    x = x_, gamma = gamma_;
    const int64_t cols = x_.dim(-1), rows = x_.shape().rows();
    Tensor y = empty_like(x_), m({rows}, x_.dtype(), x_.device()), rate = empty_like(m);
    dispatch_float(x_.dtype(), [&]<class T>() {
      for_rows(y.device(), rows, cols,
               Forward<T>{x_.data<T>(), gamma_.data<T>(), beta.data<T>(), y.data<T>(), m.data<T>(), rate.data<T>(),
                          cols, eps});
    });
    mean = m, inv = rate;
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    dispatch_float(dy.dtype(), [&]<class T>() { run<T>(dy, g); });
  }
  template <class T> void run(const Tensor& dy, Grads& g) const {
    const int64_t cols = dy.dim(-1), rows = dy.shape().rows();
    const T *px = x->data<T>(), *pd = dy.data<T>(), *pm = mean->data<T>(), *pi = inv->data<T>();
    if (g.wants(0)) {
      g[0] = empty_like(dy);
      for_rows(dy.device(), rows, cols, Backward<T>{px, gamma->data<T>(), pd, pm, pi, g[0].data<T>(), cols});
    }
    if (!g.wants(1) && !g.wants(2)) return;
    const Strips s(dy.device(), 1, rows, cols);
    const size_t part = static_cast<size_t>(s.chunks() * cols);
    Workspace partial(2 * part * sizeof(T), dy.device());
    T* p = partial.as<T>();
    for_strips(dy.device(), s, Sums<T>{px, pd, pm, pi, p, p + part, cols});
    g[1] = empty_like(gamma), g[2] = empty_like(gamma);
    strip_total(dy.device(), s, p, g[1].data<T>());
    strip_total(dy.device(), s, p + part, g[2].data<T>());
  }
};

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  check(x.rank() >= 1, "layer_norm: x needs at least one axis");
  for (const Tensor* p : {&gamma, &beta}) {
    check(*p && p->rank() == 1 && p->dim(0) == x.dim(-1),
          "layer_norm: gamma and beta must have one element a channel\n  x ", x.shape(), "\n  gamma ", gamma.shape(),
          "\n  beta ", beta.shape());
    check(p->dtype() == x.dtype(), "layer_norm: x is ", name_of(x.dtype()), ", a parameter is ", name_of(p->dtype()));
  }
  LayerNorm op;
  op.eps = eps;
  return apply(std::move(op), x, gamma, beta);
}

}  // namespace fovea
