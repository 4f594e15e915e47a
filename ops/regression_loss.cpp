// Row sums of a penalty of d = a - b; the gradient to b is minus that to a.
#include "ops/regression_loss.h"

#include "core/autograd.h"
#include "core/loops.h"

namespace fovea {
namespace {

struct SmoothL1 {  // f = d^2 / (2 beta), df = d / beta; beyond beta f = |d| - beta / 2, df = sign d
  static constexpr auto name = "smooth_l1";
  double beta = 1;
  template <class T> HD T f(T d) const {
    const T a = d < 0 ? -d : d, b = T(beta);
    return a < b ? d * d / (2 * b) : a - b / 2;
  }
  template <class T> HD T df(T d) const {
    const T a = d < 0 ? -d : d, b = T(beta);
    return a < b ? d / b : d > 0 ? T(1) : d < 0 ? T(-1) : d;  // NaN stays
  }
};
struct L1 : SmoothL1 {  // beta 0
  static constexpr auto name = "l1_loss";
};
struct L2 {
  static constexpr auto name = "l2_loss";
  template <class T> HD T f(T d) const { return d * d; }
  template <class T> HD T df(T d) const { return 2 * d; }
};

template <class T, class Penalty> struct RowSum {
  const T *a, *b;
  T* y;
  int64_t cols;
  Penalty penalty;
  HD void operator()(int64_t r) const {
    T sum = 0;
    for (int64_t i = r * cols; i < (r + 1) * cols; ++i) sum += penalty.f(a[i] - b[i]);
    y[r] = sum;
  }
};
template <class T, class Penalty> struct RowSlope {
  const T *a, *b, *dy;
  T *da, *db;  // either may be null
  int64_t cols;
  Penalty penalty;
  HD void operator()(int64_t i) const {
    const T d = dy[i / cols] * penalty.df(a[i] - b[i]);
    if (da) da[i] = d;
    if (db) db[i] = -d;
  }
};

template <class Penalty> struct RowLoss {
  static constexpr auto name = Penalty::name;
  Penalty penalty;
  Saved a, b;
  explicit RowLoss(Penalty p) : penalty(p) {}
  Tensor forward(const Tensor& a_, const Tensor& b_) {
    a = a_, b = b_;
    Tensor y({a->dim(0)}, a->dtype(), a->device());
    dispatch_float(y.dtype(), [&]<class T>() {
      for_each(y.device(), y.size(), RowSum<T, Penalty>{a->data<T>(), b->data<T>(), y.data<T>(), a->dim(1), penalty});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    for (const size_t i : {0, 1})
      if (g.wants(i)) g[i] = empty_like(a);
    dispatch_float(dy.dtype(), [&]<class T>() {
      T *da = g.wants(0) ? g[0].data<T>() : nullptr, *db = g.wants(1) ? g[1].data<T>() : nullptr;
      for_each(dy.device(), a->size(),
               RowSlope<T, Penalty>{a->data<T>(), b->data<T>(), dy.data<T>(), da, db, a->dim(1), penalty});
    });
  }
};

template <class Penalty> Tensor run(const Penalty& penalty, const Tensor& a, const Tensor& b) {
  check(a.rank() == 2 && a.shape() == b.shape() && a.dtype() == b.dtype(), Penalty::name,
        ": needs two tensors [R,D] of one type\n  a ", name_of(a.dtype()), " ", a.shape(), "\n  b ", name_of(b.dtype()),
        " ", b.shape());
  return apply(RowLoss<Penalty>(penalty), a, b);
}

}  // namespace

Tensor smooth_l1(const Tensor& a, const Tensor& b, double beta) {
  check(beta >= 0, "smooth_l1: beta ", beta, " must be at least 0");
  return run(SmoothL1{beta}, a, b);
}
Tensor l1_loss(const Tensor& a, const Tensor& b) { return run(L1{{0}}, a, b); }
Tensor l2_loss(const Tensor& a, const Tensor& b) { return run(L2{}, a, b); }

}  // namespace fovea
