// Losses of two matrices row by row, y[r] = loss(a[r, :], b[r, :]): all of such an op but its formula and its checks.
#pragma once
#include "core/autograd.h"
#include "core/loops.h"

namespace fovea {

// Rows of four, as of boxes: one index a row, so that the rows vectorise.
template <class T, class Kind> struct PairValue {
  Kind kind;
  const T *a, *b;
  T* y;
  HD void operator()(int64_t r) const { y[r] = kind.value(a + 4 * r, b + 4 * r); }
};
template <class T, class Kind> struct PairSlope {
  Kind kind;
  const T *a, *b, *dy;
  T *da, *db;
  HD void operator()(int64_t r) const {
    T u[4], v[4];
    kind.slope(a + 4 * r, b + 4 * r, dy[r], u, v);
    for (int i = 0; i < 4; ++i) da[4 * r + i] = u[i], db[4 * r + i] = v[i];
  }
};
// Rows of any length, for sums of f(a - b): a team a row.
template <class T, class Kind> struct RowValue {
  Kind kind;
  const T *a, *b;
  T* y;
  int64_t cols;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T *u = a + r * cols, *v = b + r * cols;
    const Kind k = kind;
    T *out = y + r, sum = team.reduce(cols, T(0), [=](int64_t i) { return k.f(u[i] - v[i]); });
    team.each(1, [=](int64_t) { *out = sum; });
  }
};
template <class T, class Kind> struct RowSlope {
  Kind kind;
  const T *a, *b, *dy;
  T *da, *db;
  int64_t cols;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T *u = a + r * cols, *v = b + r * cols, up = dy[r];
    T *to_a = da + r * cols, *to_b = db + r * cols;
    const Kind k = kind;
    team.each(cols, [=](int64_t i) {
      const T d = up * k.df(u[i] - v[i]);
      to_a[i] = d, to_b[i] = -d;
    });
  }
};

// Kind: static constexpr auto name; value(a, b) and slope(a, b, dy, da, db) of rows of four; f(d) and df(d) where it is
// a sum of f(a - b).
template <class Kind> struct PairLoss {
  static constexpr auto name = Kind::name;
  static constexpr bool kSum = requires(const Kind& k) { k.f(1.f); };
  Kind kind;
  Saved a{}, b{};

  Tensor forward(const Tensor& a_, const Tensor& b_) {
    a = a_, b = b_;
    const int64_t rows = a->dim(0), cols = a->dim(1);
    Tensor y({rows}, a->dtype(), a->device());
    dispatch_float(y.dtype(), [&]<class T>() {
      const T *u = a->data<T>(), *v = b->data<T>();
      if constexpr (kSum)
        if (cols != 4) return for_rows(y.device(), rows, cols, RowValue<T, Kind>{kind, u, v, y.data<T>(), cols});
      for_each(y.device(), rows, PairValue<T, Kind>{kind, u, v, y.data<T>()});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    const int64_t rows = a->dim(0), cols = a->dim(1);
    for (const size_t i : {0, 1}) g[i] = empty_like(a);  // both: a loop for each case would be more code, little faster
    dispatch_float(dy.dtype(), [&]<class T>() {
      const T *u = a->data<T>(), *v = b->data<T>(), *up = dy.data<T>();
      T *da = g[0].data<T>(), *db = g[1].data<T>();
      if constexpr (kSum)
        if (cols != 4) return for_rows(dy.device(), rows, cols, RowSlope<T, Kind>{kind, u, v, up, da, db, cols});
      for_each(dy.device(), rows, PairSlope<T, Kind>{kind, u, v, up, da, db});
    });
  }
};

}  // namespace fovea
