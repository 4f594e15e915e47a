// Copies of rows and strided walks: slices, concatenation, permutation, padding and gathers, with their reverses.
#include "ops/shape.h"

#include <algorithm>
#include <tuple>

#include "core/loops.h"
#include "ops/index.h"

namespace fovea {

namespace {

template <class T> struct CopyRow {  // to[r, 0..n) = from[r, 0..n), each with its own row stride
  const T* from;
  T* to;
  int64_t n, from_stride, to_stride;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T* x = from + r * from_stride;
    T* y = to + r * to_stride;
    team.each(n, [=](int64_t i) { y[i] = x[i]; });
  }
};
// Copies `rows` rows of n elements; from and to point at the first.
template <class T>
void copy_rows(Device device, int64_t rows, int64_t n, const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  if (n == 0) return;
  if (rows == 1) {  // one long row: in pieces, so that threads share it
    constexpr int64_t kRun = 4096;
    const int64_t whole = n / kRun;
    for_rows(device, whole, kRun, CopyRow<T>{from, to, kRun, kRun, kRun});
    return for_rows(device, n % kRun ? 1 : 0, n, CopyRow<T>{from + whole * kRun, to + whole * kRun, n % kRun, 0, 0});
  }
  for_rows(device, rows, n, CopyRow<T>{from, to, n, from_stride, to_stride});
}

struct Reshape {
  static constexpr auto name = "reshape";
  Shape to, from;
  Tensor forward(const Tensor& x) { return from = x.shape(), x.view(to); }
  void backward(const Tensor& dy, Grads& g) const { g[0] = dy.view(from); }
};

// Around `axis`: x is [outer, size, inner].
struct Slice {
  static constexpr auto name = "slice";
  int axis;
  int64_t begin, end;
  Shape shape;

  Tensor forward(const Tensor& x) {
    shape = x.shape();
    const int64_t outer = shape.span(0, axis), inner = shape.span(axis + 1, x.rank()), size = shape[axis];
    if (outer == 1) return x.view({size, inner}).rows(begin, end).view(shape.with(axis, end - begin));
    Tensor y(shape.with(axis, end - begin), x.dtype(), x.device());
    dispatch_any(x.dtype(), [&]<class T>() {
      copy_rows<T>(x.device(), outer, (end - begin) * inner, x.data<T>() + begin * inner, size * inner, y.data<T>(),
                   (end - begin) * inner);
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    const int64_t outer = shape.span(0, axis), inner = shape.span(axis + 1, shape.rank()), size = shape[axis];
    g[0] = Tensor::zeros(shape, dy.dtype(), dy.device());
    dispatch_storage(dy.dtype(), [&]<class T>() {
      copy_rows<T>(dy.device(), outer, (end - begin) * inner, dy.data<T>(), (end - begin) * inner,
                   g[0].data<T>() + begin * inner, size * inner);
    });
  }
};

struct Concat {
  static constexpr auto name = "concat";
  int axis;
  std::vector<Shape> shapes;

  Tensor forward(const std::vector<Tensor>& parts) {
    int64_t size = 0;
    for (auto& p : parts) shapes.push_back(p.shape()), size += p.dim(axis);
    Tensor y(shapes[0].with(axis, size), parts[0].dtype(), parts[0].device());
    const int64_t outer = y.shape().span(0, axis), inner = y.shape().span(axis + 1, y.rank());
    int64_t at = 0;
    for (auto& p : parts) {
      dispatch_any(y.dtype(), [&]<class T>() {
        copy_rows<T>(y.device(), outer, p.dim(axis) * inner, p.data<T>(), p.dim(axis) * inner, y.data<T>() + at * inner,
                     size * inner);
      });
      at += p.dim(axis);
    }
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    int64_t at = 0;
    for (size_t i = 0; i < shapes.size(); ++i) {
      const int64_t size = shapes[i][axis];
      if (g.wants(i)) g[i] = Slice{axis, at, at + size, {}}.forward(dy);
      at += size;
    }
  }
};

// A walk over y in row-major order; y's axis d steps `stride[d]` elements of x.
struct Walk {
  int rank = 0;  // of the outer axes
  int64_t dims[Shape::kMaxRank] = {}, stride[Shape::kMaxRank] = {};
  int64_t inner = 1, inner_stride = 1;
};
template <class T> struct Strided {  // y[r, i] = x[walk(r) + i * stride]
  const T* x;
  T* y;
  Walk walk;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    int64_t at = 0;
    T* row = y + r * walk.inner;
    for (int d = walk.rank; d-- > 0;) {
      at += r % walk.dims[d] * walk.stride[d];
      r /= walk.dims[d];
    }
    const T* from = x + at;
    const int64_t step = walk.inner_stride;
    if (step == 1) return team.each(walk.inner, [=](int64_t i) { row[i] = from[i]; });
    team.each(walk.inner, [=](int64_t i) { row[i] = from[i * step]; });
  }
};

struct Permute {
  static constexpr auto name = "permute";
  std::vector<int> order;

  Tensor forward(const Tensor& x) const {
    const int rank = x.rank();
    std::vector<int64_t> stride(rank, 1), dims;
    for (int d = rank - 1; d-- > 0;) stride[d] = stride[d + 1] * x.shape()[d + 1];
    for (int d : order) dims.push_back(x.shape()[d]);
    Tensor y(Shape(dims), x.dtype(), x.device());
    if (y.size() == 0) return y;
    std::vector<std::pair<int64_t, int64_t>>
        axes;  // {dim, stride}, innermost first, neighbours merged where they walk on
    for (int i = rank; i-- > 0;) {
      const int64_t n = dims[i], s = stride[order[i]];
      if (n == 1) continue;
      if (!axes.empty() && s == axes.back().first * axes.back().second) axes.back().first *= n;
      else axes.push_back({n, s});
    }
    Walk walk;
    if (!axes.empty()) walk.inner = axes[0].first, walk.inner_stride = axes[0].second;
    walk.rank = axes.empty() ? 0 : static_cast<int>(axes.size()) - 1;
    for (int d = 0; d < walk.rank; ++d) std::tie(walk.dims[d], walk.stride[d]) = axes[axes.size() - 1 - d];
    dispatch_any(x.dtype(), [&]<class T>() {
      for_rows(x.device(), y.size() / walk.inner, walk.inner, Strided<T>{x.data<T>(), y.data<T>(), walk});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    std::vector<int> back(order.size());
    for (size_t i = 0; i < order.size(); ++i) back[order[i]] = static_cast<int>(i);
    g[0] = Permute{back}.forward(dy);
  }
};

// Rows of the smaller and of the larger tensor, which has borders of `before` around it.
struct Frame {
  int rank = 0;
  int64_t small[Shape::kMaxRank] = {}, large[Shape::kMaxRank] = {}, before[Shape::kMaxRank] = {};
};
template <class T> struct PadRow {  // y row r: the row of x under it, or the value
  const T* x;
  T* y;
  Frame f;
  T value;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const int last = f.rank - 1;
    const int64_t n = f.small[last], first = f.before[last];
    T* row = y + r * f.large[last];
    int64_t at = 0, stride = n;
    bool inside = true;
    for (int d = last; d-- > 0;) {
      const int64_t i = r % f.large[d] - f.before[d];
      r /= f.large[d];
      inside = inside && i >= 0 && i < f.small[d];
      at += i * stride, stride *= f.small[d];
    }
    const T* from = x + (inside ? at : 0);
    const T v = value;
    team.each(f.large[last], [=](int64_t i) { row[i] = inside && i >= first && i < first + n ? from[i - first] : v; });
  }
};
template <class T> struct CropRow {  // x row r, from inside y
  const T* y;
  T* x;
  Frame f;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const int last = f.rank - 1;
    const int64_t n = f.small[last];
    T* row = x + r * n;
    int64_t at = f.before[last], stride = f.large[last];
    for (int d = last; d-- > 0;) {
      at += (r % f.small[d] + f.before[d]) * stride;
      r /= f.small[d], stride *= f.large[d];
    }
    const T* from = y + at;
    team.each(n, [=](int64_t i) { row[i] = from[i]; });
  }
};

struct Pad {
  static constexpr auto name = "pad";
  std::vector<std::pair<int64_t, int64_t>> width;
  double value;
  Shape small, large;

  Frame frame() const {
    Frame f;
    f.rank = small.rank();
    for (int d = 0; d < f.rank; ++d) f.small[d] = small[d], f.large[d] = large[d], f.before[d] = width[d].first;
    return f;
  }
  Tensor forward(const Tensor& x) {
    small = large = x.shape();
    for (int d = 0; d < x.rank(); ++d) large = large.with(d, small[d] + width[d].first + width[d].second);
    Tensor y(large, x.dtype(), x.device());
    dispatch_any(x.dtype(), [&]<class T>() {
      for_rows(x.device(), y.size() ? large.rows() : 0, large[-1],
               PadRow<T>{x.data<T>(), y.data<T>(), frame(), static_cast<T>(static_cast<compute_t<T>>(value))});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = Tensor(small, dy.dtype(), dy.device());
    dispatch_storage(dy.dtype(), [&]<class T>() {
      for_rows(dy.device(), small.numel() ? small.rows() : 0, small[-1],
               CropRow<T>{dy.data<T>(), g[0].data<T>(), frame()});
    });
  }
};

struct Gather {
  static constexpr auto name = "gather";
  int axis;
  Tensor index;
  Shape shape;

  Tensor forward(const Tensor& x, const Tensor& index_) {
    index = index_, shape = x.shape();
    return gather_rows(x, index, axis);
  }
  void backward(const Tensor& dy, Grads& g) const { g[0] = sum_rows(dy, index, axis, shape[axis]); }
};

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  check(x && shape.numel() == x.size(), "reshape: ", x.shape(), " has ", x.size(), " elements, ", shape, " has ",
        shape.numel());
  return apply(Reshape{shape, {}}, x);
}

Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end) {
  check(bool(x), "slice: the input is undefined");
  const int a = x.shape().axis(axis);
  check(begin >= 0 && begin <= end && end <= x.dim(a), "slice: [", begin, ", ", end, ") does not fit axis ", axis,
        " of ", x.shape());
  return apply(Slice{a, begin, end, {}}, x);
}

Tensor concat(const std::vector<Tensor>& parts, int axis) {
  check(!parts.empty() && parts[0], "concat: needs at least one tensor");
  const int a = parts[0].shape().axis(axis);
  for (auto& p : parts)
    check(p && p.dtype() == parts[0].dtype() && p.rank() == parts[0].rank() &&
              p.shape().with(a, 0) == parts[0].shape().with(a, 0),
          "concat: parts must have one type and agree in all axes but ", axis, "\n  first ", name_of(parts[0].dtype()),
          " ", parts[0].shape(), "\n  other ", name_of(p.dtype()), " ", p.shape());
  return fovea::apply(Concat{a, {}}, parts);  // not std::apply, which the vector would find
}

Tensor permute(const Tensor& x, const std::vector<int>& order) {
  std::vector<int> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  bool ok = x && static_cast<int>(order.size()) == x.rank();
  for (size_t i = 0; i < sorted.size(); ++i) ok = ok && sorted[i] == static_cast<int>(i);
  check(ok, "permute: the order must name each axis of ", x.shape(), " once, from 0");
  return apply(Permute{order}, x);
}

Tensor pad(const Tensor& x, const std::vector<std::pair<int64_t, int64_t>>& width, double value) {
  check(x && static_cast<int>(width.size()) == x.rank(), "pad: needs one {before, after} for each axis of ", x.shape(),
        ", got ", width.size());
  for (auto [before, after] : width)
    check(before >= 0 && after >= 0, "pad: negative width {", before, ", ", after, "}");
  if (x.rank() == 0) return x;
  return apply(Pad{width, value, {}, {}}, x);
}

Tensor gather(const Tensor& x, const Tensor& index, int axis) {
  check(bool(x), "gather: the input is undefined");
  const int a = x.shape().axis(axis);
  check_index("gather", index, x.dim(a));
  check(index.rank() == 1, "gather: the index must have shape [M], got ", index.shape());
  return apply(Gather{a, {}, {}}, x, index);
}

}  // namespace fovea
