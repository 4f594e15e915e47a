// Losses of two matrices row by row, y[r] = loss(a[r, :], b[r, :]): all of such an op but its formula and its checks.
#pragma once
#include "core/autograd.h"
#include "core/loops.h"

namespace fovea {

template <class T, class Kind> struct PairValue {
  Kind kind;
  const T *a, *b;
  T* y;
  int64_t cols;
  HD void operator()(int64_t r) const { y[r] = kind.value(a + r * cols, b + r * cols, cols); }
};
template <class T, class Kind> struct PairSlope {
  Kind kind;
  const T *a, *b, *dy;
  T *da, *db;  // either may be null
  int64_t cols;
  HD void operator()(int64_t r) const {
    const int64_t at = r * cols;
    kind.slope(a + at, b + at, dy[r], da ? da + at : da, db ? db + at : db, cols);
  }
};

// Kind: static constexpr auto name; value(a, b, cols); slope(a, b, dy, da, db, cols), which writes where not null.
template <class Kind> struct PairLoss {
  static constexpr auto name = Kind::name;
  Kind kind;
  Saved a{}, b{};

  Tensor forward(const Tensor& a_, const Tensor& b_) {
    a = a_, b = b_;
    Tensor y({a->dim(0)}, a->dtype(), a->device());
    dispatch_float(y.dtype(), [&]<class T>() {
      for_each(y.device(), y.size(), PairValue<T, Kind>{kind, a->data<T>(), b->data<T>(), y.data<T>(), a->dim(1)});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    for (const size_t i : {0, 1})
      if (g.wants(i)) g[i] = empty_like(a);
    dispatch_float(dy.dtype(), [&]<class T>() {
      T *da = g.wants(0) ? g[0].data<T>() : nullptr, *db = g.wants(1) ? g[1].data<T>() : nullptr;
      for_each(dy.device(), dy.size(),
               PairSlope<T, Kind>{kind, a->data<T>(), b->data<T>(), dy.data<T>(), da, db, a->dim(1)});
    });
  }
};

}  // namespace fovea
