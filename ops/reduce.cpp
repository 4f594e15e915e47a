// Reductions: one step folds one run of adjacent axes, as rows (inner = 1), columns (outer = 1) or both.
#include "ops/reduce.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/broadcast.h"
#include "ops/columns.h"
#include "ops/index.h"
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
    const double of_none = average ? std::numeric_limits<double>::quiet_NaN() : 0;
    if (shape.numel() == 0) return Tensor::full(out, of_none, x.dtype(), x.device());
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
  template <class T> HD T operator()(T a, T b) const { return ((a > b) | (a != a)) ? a : b; }
};
struct Lower {
  HD int32_t operator()(int32_t a, int32_t b) const { return a < b ? a : b; }
};
// Piece r % per of row r / per: its best value, and where in the row the first such one is (`from`: as told there).
template <class T> struct MaxRow {
  const T* x;  // [rows, n]
  const int64_t* from;
  T* value;
  int64_t* index;
  int64_t n, piece, per;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    using C = compute_t<T>;
    const int64_t first = r / per * n, begin = r % per * piece, count = n - begin < piece ? n - begin : piece;
    const T* row = x + first + begin;
    const C best = team.reduce(
        count, C(-INFINITY), [=](int64_t i) { return C(row[i]); }, Larger{});
    constexpr int32_t kBlock = 4096;  // of a second pass, which ends early
    int64_t at = 0;
    for (int32_t found = kBlock; found == kBlock; at += found < kBlock ? found : kBlock) {
      const T* block = row + at;
      found = team.reduce(
          count - at < kBlock ? count - at : kBlock, kBlock,
          [=](int64_t i) {
            const C v = C(block[i]);
            return (v == best) | ((v != v) & (best != best)) ? int32_t(i) : kBlock;
          },
          Lower{});
    }
    T *to = value + r, top = row[at];
    int64_t *k = index + r, place = from ? from[first + begin + at] : begin + at;
    team.each(1, [=](int64_t) { *to = top, *k = place; });
  }
};

// The same down the columns of [outer, n, inner]; a team takes a block of columns, or a row of dx.
constexpr int64_t kColumns = 128;
template <class T> struct MaxColumns {
  const T* x;
  T* value;
  int64_t* index;
  int64_t n, inner, blocks;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    using C = compute_t<T>;
    const int64_t o = r / blocks, from = r % blocks * kColumns, left = inner - from, rows = n, cols = inner;
    const T* top = x + o * n * inner + from;
    T* v = value + o * inner + from;
    int64_t* k = index + o * inner + from;
    each_block(team, left < kColumns ? left : kColumns, [=](int64_t c0, int64_t count) {
      C best[kBlockOf<Team>];
      int32_t where[kBlockOf<Team>] = {};
      for (int64_t c = 0; c < count; ++c) best[c] = C(top[c0 + c]);
      for (int32_t i = 1; i < rows; ++i) {
        const T* row = top + i * cols + c0;
        for (int64_t c = 0; c < count; ++c) {
          const C a = C(row[c]), b = best[c];
          const int32_t before = where[c];
          const bool take = (a > b) | ((a != a) & (b == b));
          best[c] = take ? a : b, where[c] = take ? i : before;
        }
      }
      for (int64_t c = 0; c < count; ++c) v[c0 + c] = T(best[c]), k[c0 + c] = where[c];
    });
  }
};
template <class T> struct MaxColumnsGrad {  // row r is (o, i)
  const T* dy;
  const int64_t* index;
  T* dx;
  int64_t n, inner;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    T* row = dx + r * inner;
    const T* up = dy + r / n * inner;
    const int64_t *best = index + r / n * inner, i = r % n;
    team.each(inner, [=](int64_t c) {
      const T d = up[c];
      row[c] = best[c] == i ? d : T(0);
    });
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
  const char* asked = name;  // what errors call it
  Tensor index{};            // of the results
  Shape shape{};
  int64_t n = 1, inner = 1;  // a column has n elements where inner > 1, otherwise a row

  Tensor forward(const Tensor& x) {
    shape = x.shape();
    int first = x.rank(), last = 0, count = 0;
    for (int d = 0; d < x.rank(); ++d)
      if (mark[d]) n *= shape[d], first = std::min(first, d), last = d + 1, ++count;
    check(n > 0, asked, ": nothing to compare along the reduced axes of ", shape);
    Tensor y(reduced(shape, mark, keep), x.dtype(), x.device());
    index = Tensor({y.size()}, DType::i64, x.device());
    if (count == last - first && n < INT32_MAX) inner = shape.span(last, x.rank());  // adjacent axes
    dispatch_storage(x.dtype(), [&]<class T>() {
      if (inner == 1) return rows(permute(x, marked_last(mark)).data<T>(), y);
      const int64_t blocks = (inner + kColumns - 1) / kColumns, outer = inner > 0 ? y.size() / inner : 0;
      for_rows(x.device(), outer * blocks, n * kColumns,
               MaxColumns<T>{x.data<T>(), y.data<T>(), index.data<int64_t>(), n, inner, blocks});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    if (inner == 1) {
      const auto order = marked_last(mark);
      std::vector<int64_t> dims;
      std::vector<int> back(order.size());
      for (size_t i = 0; i < order.size(); ++i) dims.push_back(shape[order[i]]), back[order[i]] = static_cast<int>(i);
      return void(g[0] = permute(one_a_row(dy, index, n).view(Shape(dims)), back));
    }
    g[0] = Tensor(shape, dy.dtype(), dy.device());
    dispatch_storage(dy.dtype(), [&]<class T>() {
      for_rows(dy.device(), inner > 0 ? shape.numel() / inner : 0, inner,
               MaxColumnsGrad<T>{dy.data<T>(), index.data<int64_t>(), g[0].data<T>(), n, inner});
    });
  }

 private:
  template <class T> void rows(const T* x, Tensor& y) const {
    const int64_t count = y.size(), per = n < 2 * kGrain ? 1 : (n + kGrain - 1) / kGrain, piece = per == 1 ? n : kGrain;
    int64_t* best = index.data<int64_t>();
    if (per == 1) return for_rows(y.device(), count, n, MaxRow<T>{x, nullptr, y.data<T>(), best, n, piece, 1});
    Workspace values(static_cast<size_t>(count * per) * sizeof(T), y.device());  // long rows: in pieces
    Workspace places(static_cast<size_t>(count * per) * sizeof(int64_t), y.device());
    T* v = values.as<T>();
    int64_t* k = places.as<int64_t>();
    for_rows(y.device(), count * per, piece, MaxRow<T>{x, nullptr, v, k, n, piece, per});
    for_rows(y.device(), count, per, MaxRow<T>{v, k, y.data<T>(), best, per, per, 1});
  }
};
struct ArgMax {
  static constexpr auto name = "argmax";
  int axis;
  Tensor forward(const Tensor& x) const {
    Largest max{.mark = marked(name, x.shape(), {axis}), .asked = name};
    const Tensor y = max.forward(x);
    return max.index.view(y.shape());
  }
};

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
