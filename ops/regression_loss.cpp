// Row sums of a penalty of d = a - b; the gradient to b is minus that to a.
#include "ops/regression_loss.h"

#include "core/math.h"
#include "ops/pair_loss.h"

namespace fovea {
namespace {

struct SmoothL1 {  // f = d^2 / (2 beta), df = d / beta; beyond beta f = |d| - beta / 2, df = sign d
  static constexpr auto name = "smooth_l1";
  double beta = 1;
  template <class T> HD T f(T d) const {
    const T a = math::abs(d), b = T(beta);
    return a < b ? d * d / (2 * b) : a - b / 2;
  }
  template <class T> HD T df(T d) const {
    const T a = math::abs(d), b = T(beta);
    return a < b ? d / b : d > 0 ? T(1) : d < 0 ? T(-1) : d;  // NaN stays
  }
};
struct L1 {  // f = |d|, df = sign d
  static constexpr auto name = "l1_loss";
  template <class T> HD T f(T d) const { return math::abs(d); }
  template <class T> HD T df(T d) const { return d > 0 ? T(1) : d < 0 ? T(-1) : d; }  // NaN stays
};
struct L2 {
  static constexpr auto name = "l2_loss";
  template <class T> HD T f(T d) const { return d * d; }
  template <class T> HD T df(T d) const { return 2 * d; }
};

template <class Penalty> struct RowSum : Penalty {
  template <class T> HD T value(const T* a, const T* b) const {
    T sum = 0;
    for (int i = 0; i < 4; ++i) sum += this->f(a[i] - b[i]);
    return sum;
  }
  template <class T> HD void slope(const T* a, const T* b, T dy, T* da, T* db) const {
    for (int i = 0; i < 4; ++i) da[i] = dy * this->df(a[i] - b[i]), db[i] = -da[i];
  }
};

template <class Penalty> Tensor run(const Penalty& penalty, const Tensor& a, const Tensor& b) {
  check(a.rank() == 2 && a.shape() == b.shape() && a.dtype() == b.dtype(), Penalty::name,
        ": needs two tensors [R,D] of one type\n  a ", name_of(a.dtype()), " ", a.shape(), "\n  b ", name_of(b.dtype()),
        " ", b.shape());
  return apply(PairLoss<RowSum<Penalty>>{{penalty}}, a, b);
}

}  // namespace

Tensor smooth_l1(const Tensor& a, const Tensor& b, double beta) {
  check(beta >= 0, "smooth_l1: beta ", beta, " must be at least 0");
  return run(SmoothL1{beta}, a, b);
}
Tensor l1_loss(const Tensor& a, const Tensor& b) { return run(L1{}, a, b); }
Tensor l2_loss(const Tensor& a, const Tensor& b) { return run(L2{}, a, b); }

}  // namespace fovea
