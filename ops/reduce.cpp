// Reductions: one step folds one run of adjacent axes, as rows (inner = 1), columns (outer = 1) or both.
#include "ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/broadcast.h"
#include "ops/columns.h"
#include "ops/shape.h"

namespace fovea {

namespace {

template <class T> struct SumRow {  // y[r] = factor * sum of x[r, :]
  const T* x;
  T* y;
  int64_t n;
  T factor;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T* row = x + r * n;
    const T sum = team.reduce(n, T(0), [=](int64_t i) { return row[i]; });
    T *out = y + r, value = sum * factor;
    team.each(1, [=](int64_t) { *out = value; });
  }
};
template <class T> struct Element {  // x[r, c]
  const T* x;
  int64_t cols;
  HD T operator()(int64_t r, int64_t c) const { return x[r * cols + c]; }
};
template <class T> struct Times {
  T* x;
  T factor;
  HD void operator()(int64_t i) const { x[i] *= factor; }
};

// x [outer, n, inner] -> y [outer, inner]
template <class T> void fold(Device device, const T* x, T* y, int64_t outer, int64_t n, int64_t inner, double factor) {
  const T f = static_cast<T>(factor);
  if (inner == 1 && n >= 2 * kGrain) {  // long rows: in fixed pieces, then the sums of the pieces
    const int64_t pieces = n / kGrain, body = pieces * kGrain;
    Workspace partial(static_cast<size_t>(outer * (pieces + 1)) * sizeof(T), device);
    T* p = partial.as<T>();
    for (int64_t o = 0; o < outer; ++o) {
      for_rows(device, pieces, kGrain, SumRow<T>{x + o * n, p + o * (pieces + 1), kGrain, T(1)});
      for_rows(device, 1, n - body, SumRow<T>{x + o * n + body, p + o * (pieces + 1) + pieces, n - body, T(1)});
    }
    return for_rows(device, outer, pieces + 1, SumRow<T>{p, y, pieces + 1, f});
  }
  if (inner == 1) return for_rows(device, outer, n, SumRow<T>{x, y, n, f});
  sum_columns<T>(device, n, inner, Element<T>{x, inner}, y, outer);
  if (factor != 1) for_each(device, outer * inner, Times<T>{y, f});
}

// Which axes are reduced; throws on a bad one.
std::vector<bool> marked(const char* op, const Shape& shape, const std::vector<int>& axes) {
  std::vector<bool> mark(shape.rank(), axes.empty());
  for (int a : axes) {
    check(a >= -shape.rank() && a < shape.rank(), op, ": axis ", a, " is out of range for ", shape);
    const int d = shape.axis(a);
    check(!mark[d], op, ": axis ", a, " is given twice for ", shape);
    mark[d] = true;
  }
  return mark;
}
Shape reduced(const Shape& shape, const std::vector<bool>& mark, bool keep) {
  std::vector<int64_t> dims;
  for (int d = 0; d < shape.rank(); ++d)
    if (!mark[d] || keep) dims.push_back(mark[d] ? 1 : shape[d]);
  return Shape(dims);
}

// Folds the marked axes run by run, the last run first.
template <class T> void fold_axes(const Tensor& x, const std::vector<bool>& mark, double factor, Tensor& y) {
  Tensor from = x;
  std::vector<int64_t> dims = x.shape().dims();
  for (int d = x.rank(); d-- > 0;) {
    if (!mark[d]) continue;
    const int end = d + 1;
    while (d > 0 && mark[d - 1]) --d;
    int64_t outer = 1, n = 1, inner = 1;
    for (int i = 0; i < x.rank(); ++i) (i < d ? outer : i < end ? n : inner) *= dims[i];
    for (int i = d; i < end; ++i) dims[i] = 1;
    const bool last = std::none_of(mark.begin(), mark.begin() + d, [](bool m) { return m; });
    Tensor to = last ? y : Tensor(Shape(dims), y.dtype(), y.device());
    fold(x.device(), from.data<T>(), to.data<T>(), outer, n, inner, last ? factor : 1);
    from = to;
  }
}

struct Sum {
  static constexpr auto name = "sum";
  std::vector<bool> mark;
  bool keep = false, average = false;
  Shape shape, kept;  // of x, and of y with its reduced axes as 1
  double factor = 1;

  Tensor forward(const Tensor& x) {
    shape = x.shape(), kept = reduced(shape, mark, true);
    if (average) factor = static_cast<double>(kept.numel()) / static_cast<double>(shape.numel());
    const Shape out = reduced(shape, mark, keep);
    if (average && shape.numel() == 0) return Tensor::full(out, std::numeric_limits<double>::quiet_NaN(), x.dtype());
    if (shape.numel() == 0) return Tensor::zeros(out, x.dtype(), x.device());
    if (kept == shape) return x.clone().view(out);
    const Tensor from = x.dtype() == DType::bf16 ? x.to(DType::f32) : x;  // sums are never held in bf16
    Tensor y(out, from.dtype(), x.device());
    dispatch_float(from.dtype(), [&]<class T>() { fold_axes<T>(from, mark, factor, y); });
    return x.dtype() == DType::bf16 ? y.to(DType::bf16) : y;
  }
  void backward(const Tensor& dy, Grads& g) const { g[0] = expand_to(dy.view(kept), shape, factor); }  // dx = factor dy
};
struct Mean : Sum {
  static constexpr auto name = "mean";
};

// --- the largest, and where ---

struct Larger {  // NaN is larger than every number
  template <class T> HD T operator()(T a, T b) const { return a > b || a != a ? a : b; }
};
struct Lower {
  HD int64_t operator()(int64_t a, int64_t b) const { return a < b ? a : b; }
};
template <class T> struct MaxRow {  // value[r], index[r] of the best of x[r, :], of equals the first: two plain passes
  const T* x;
  T* value;
  int64_t* index;
  int64_t n;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    using C = compute_t<T>;
    const T* row = x + r * n;
    const C best = team.reduce(
        n, C(-INFINITY), [=](int64_t i) { return C(row[i]); }, Larger{});
    const int64_t first = team.reduce(
        n, n,
        [=](int64_t i) { return (C(row[i]) == best) | ((C(row[i]) != C(row[i])) & (best != best)) ? i : INT64_MAX; },
        Lower{});
    T* v = value + r;
    int64_t* k = index + r;
    team.each(1, [=](int64_t) { *v = row[first], *k = first; });
  }
};
template <class T> struct MaxGrad {  // dx[r, i] = dy[r] where i is the index
  const T* dy;
  const int64_t* index;
  T* dx;
  int64_t n;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    T* row = dx + r * n;
    const int64_t best = index[r];
    const T up = dy[r];
    team.each(n, [=](int64_t i) { row[i] = i == best ? up : T(0); });
  }
};

// x with the marked axes moved to the end, in order.
std::vector<int> marked_last(const std::vector<bool>& mark) {
  std::vector<int> order;
  for (bool pass : {false, true})
    for (size_t d = 0; d < mark.size(); ++d)
      if (mark[d] == pass) order.push_back(static_cast<int>(d));
  return order;
}

struct Largest {
  static constexpr auto name = "max";
  std::vector<bool> mark;
  bool keep = false;
  Tensor index{};  // [rows]
  Shape shape{};
  int64_t n = 1;

  Tensor forward(const Tensor& x) {
    shape = x.shape();
    n = 1;
    for (int d = 0; d < x.rank(); ++d) n *= mark[d] ? shape[d] : 1;
    check(n > 0, name, ": nothing to compare along the reduced axes of ", shape);
    Tensor y(reduced(shape, mark, keep), x.dtype(), x.device());
    index = Tensor({y.size()}, DType::i64, x.device());
    const Tensor rows = permute(x, marked_last(mark));
    dispatch_storage(x.dtype(), [&]<class T>() {
      for_rows(x.device(), y.size(), n, MaxRow<T>{rows.data<T>(), y.data<T>(), index.data<int64_t>(), n});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    const auto order = marked_last(mark);
    std::vector<int64_t> dims;
    std::vector<int> back(order.size());
    for (size_t i = 0; i < order.size(); ++i) dims.push_back(shape[order[i]]), back[order[i]] = static_cast<int>(i);
    Tensor dx(Shape(dims), dy.dtype(), dy.device());
    dispatch_storage(dy.dtype(), [&]<class T>() {
      for_rows(dy.device(), index.size(), n, MaxGrad<T>{dy.data<T>(), index.data<int64_t>(), dx.data<T>(), n});
    });
    g[0] = permute(dx, back);
  }
};
struct ArgMax {
  static constexpr auto name = "argmax";
  int axis;
  Tensor forward(const Tensor& x) const {
    Largest max{.mark = marked(name, x.shape(), {axis})};
    const Tensor y = max.forward(x);
    return max.index.view(y.shape());
  }
};

void check_float(const char* op, const Tensor& x) {
  check(x && is_float(x.dtype()), op, ": expected a floating-point tensor, got ", x ? name_of(x.dtype()) : "none");
}

}  // namespace

Tensor sum(const Tensor& x, std::vector<int> axes, bool keep) {
  check_float("sum", x);
  Sum op;
  op.mark = marked("sum", x.shape(), axes), op.keep = keep;
  return apply(std::move(op), x);
}
Tensor mean(const Tensor& x, std::vector<int> axes, bool keep) {
  check_float("mean", x);
  Mean op;
  op.mark = marked("mean", x.shape(), axes), op.keep = keep, op.average = true;
  return apply(std::move(op), x);
}
Tensor max(const Tensor& x, std::vector<int> axes, bool keep) {
  check_float("max", x);
  return apply(Largest{.mark = marked("max", x.shape(), axes), .keep = keep}, x);
}
Tensor argmax(const Tensor& x, int axis) {
  check_float("argmax", x);
  return apply(ArgMax{axis}, x);
}

}  // namespace fovea
