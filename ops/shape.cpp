// Slices, concatenation, permutation and padding are one copy of a box of elements, read and written at steps of its
// own.
#include "ops/shape.h"

#include <algorithm>

#include "ops/broadcast.h"
#include "ops/index.h"

namespace fovea {

namespace {

template <class T> struct CopyPiece {
  Stretch at;
  const T* from;
  T* to;
  template <class Team> HD void operator()(Team team, int64_t piece) const {
    const auto p = at[piece];
    const T* x = from + p.at[0];
    T* y = to + p.at[1];
    const int64_t a = at.step[0], b = at.step[1];
    if (a == 1 && b == 1) team.each(p.count, [=](int64_t i) { y[i] = x[i]; });
    else team.each(p.count, [=](int64_t i) { y[i * b] = x[i * a]; });
  }
};

using Steps = std::vector<int64_t>;  // from an element to the next one, by axis
Steps steps(const Shape& shape) {
  Steps s(size_t(shape.rank()), 1);
  for (int d = shape.rank() - 1; d-- > 0;) s[d] = s[d + 1] * shape[d + 1];
  return s;
}
// Copies a box of elements from x to y, which have steps of their own; `x_first` and `y_first`: its first element.
void copy_box(const Shape& box, const Tensor& x, const Steps& x_steps, int64_t x_first, const Tensor& y,
              const Steps& y_steps, int64_t y_first) {
  if (box.numel() == 0) return;
  Stretch at;
  for (int d = box.rank(); d-- > 0;) at.add(box[d], x_steps[d], y_steps[d]);
  dispatch_any(x.dtype(), [&]<class T>() {
    for_pieces(x.device(), at, CopyPiece<T>{at, x.data<T>() + x_first, y.data<T>() + y_first});
  });
}

struct Reshape {
  static constexpr auto name = "reshape";
  Shape to, from;
  Tensor forward(const Tensor& x) { return from = x.shape(), x.view(to); }
  void backward(const Tensor& dy, Grads& g) const { g[0] = dy.view(from); }
};

struct Slice {
  static constexpr auto name = "slice";
  int axis;
  int64_t begin, end;
  Shape shape;

  Tensor forward(const Tensor& x) {
    shape = x.shape();
    const Shape part = shape.with(axis, end - begin);
    const int64_t inner = shape.span(axis + 1, x.rank());
    if (shape.span(0, axis) == 1) return x.view({shape[axis], inner}).rows(begin, end).view(part);
    Tensor y(part, x.dtype(), x.device());
    copy_box(part, x, steps(shape), begin * inner, y, steps(part), 0);
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = Tensor::zeros(shape, dy.dtype(), dy.device());
    copy_box(dy.shape(), dy, steps(dy.shape()), 0, g[0], steps(shape), begin * shape.span(axis + 1, shape.rank()));
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
    int64_t first = 0;
    for (auto& p : parts) {
      copy_box(p.shape(), p, steps(p.shape()), 0, y, steps(y.shape()), first);
      first += p.shape().span(axis, p.rank());
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

struct Permute {
  static constexpr auto name = "permute";
  std::vector<int> order;

  Tensor forward(const Tensor& x) const {
    if (std::is_sorted(order.begin(), order.end())) return x;
    const Steps all = steps(x.shape());
    Steps walk, dims;
    for (int d : order) walk.push_back(all[d]), dims.push_back(x.shape()[d]);
    Tensor y(Shape(dims), x.dtype(), x.device());
    copy_box(y.shape(), x, walk, 0, y, steps(y.shape()), 0);
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    std::vector<int> back(order.size());
    for (size_t i = 0; i < order.size(); ++i) back[order[i]] = static_cast<int>(i);
    g[0] = Permute{back}.forward(dy);
  }
};

struct Pad {
  static constexpr auto name = "pad";
  std::vector<std::pair<int64_t, int64_t>> width;
  double value;
  Shape small, large;

  int64_t first() const {  // of the elements of y: that of x
    int64_t at = 0;
    for (int d = 0; d < small.rank(); ++d) at += width[d].first * large.span(d + 1, large.rank());
    return at;
  }
  Tensor forward(const Tensor& x) {
    small = large = x.shape();
    for (int d = 0; d < x.rank(); ++d) large = large.with(d, small[d] + width[d].first + width[d].second);
    Tensor y = Tensor::full(large, value, x.dtype(), x.device());
    copy_box(small, x, steps(small), 0, y, steps(large), first());
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = Tensor(small, dy.dtype(), dy.device());
    copy_box(small, dy, steps(large), first(), g[0], steps(small), 0);
  }
};

struct Gather {
  static constexpr auto name = "gather";
  int axis;
  Saved index = {};  // on the processor
  Shape shape = {};

  Tensor forward(const Tensor& x) {
    shape = x.shape();
    return gather_rows(x, *index, axis);
  }
  void backward(const Tensor& dy, Grads& g) const { g[0] = sum_rows(dy, *index, axis, shape[axis]); }
};

template <class T> struct PickOne {
  const T* x;
  const int64_t* index;
  T* y;
  int64_t cols;
  HD void operator()(int64_t r) const { y[r] = x[r * cols + index[r]]; }
};
struct Pick {
  static constexpr auto name = "pick";
  int64_t cols;
  Saved index = {};

  Tensor forward(const Tensor& x, const Tensor& of_rows) {
    index = of_rows;
    Tensor y({of_rows.size()}, x.dtype(), x.device());
    dispatch_storage(x.dtype(), [&]<class T>() {
      for_each(y.device(), y.size(), PickOne<T>{x.data<T>(), of_rows.data<int64_t>(), y.data<T>(), cols});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const { g[0] = one_a_row(dy, *index, cols); }
};

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  check(bool(x), "reshape: the input is undefined");
  check(shape.numel() == x.size(), "reshape: ", x.shape(), " has ", x.size(), " elements, ", shape, " has ",
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
  check(!parts.empty(), "concat: needs at least one tensor");
  check(std::all_of(parts.begin(), parts.end(), [](auto& p) { return bool(p); }), "concat: an input is undefined");
  const int a = parts[0].shape().axis(axis);
  for (auto& p : parts)
    check(p.dtype() == parts[0].dtype() && p.rank() == parts[0].rank() &&
              p.shape().with(a, 0) == parts[0].shape().with(a, 0),
          "concat: parts must have one type and agree in all axes but ", axis, "\n  first ", name_of(parts[0].dtype()),
          " ", parts[0].shape(), "\n  other ", name_of(p.dtype()), " ", p.shape());
  return fovea::apply(Concat{a, {}}, parts);  // not std::apply, which the vector would find
}

Tensor permute(const Tensor& x, const std::vector<int>& order) {
  check(bool(x), "permute: the input is undefined");
  std::vector<int> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  bool ok = static_cast<int>(order.size()) == x.rank();
  for (size_t i = 0; i < sorted.size(); ++i) ok = ok && sorted[i] == static_cast<int>(i);
  check(ok, "permute: the order must name each axis of ", x.shape(), " once, from 0");
  return apply(Permute{order}, x);
}

Tensor pad(const Tensor& x, const std::vector<std::pair<int64_t, int64_t>>& width, double value) {
  check(x && static_cast<int>(width.size()) == x.rank(), "pad: needs one {before, after} for each axis of ", x.shape(),
        ", got ", width.size());
  for (auto [before, after] : width)
    check(std::min(before, after) >= 0 && std::max(before, after) < int64_t{1} << 59, "pad: width {", before, ", ",
          after, "} is negative or too large");
  if (x.rank() == 0) return x;
  return apply(Pad{width, value, {}, {}}, x);
}

Tensor gather(const Tensor& x, const Tensor& index, int axis) {
  check(bool(x), "gather: the input is undefined");
  const int a = x.shape().axis(axis);
  const Tensor here = checked_index("gather", index, x.dim(a));
  check(index.rank() == 1, "gather: the index must have shape [M], got ", index.shape());
  Gather op{a};
  op.index = here;
  return apply(std::move(op), x);
}

Tensor pick(const Tensor& x, const Tensor& index) {
  check(x.rank() == 2 && index.rank() == 1 && index.dim(0) == x.dim(0), "pick: needs x [R,K] and an index [R]\n  x ",
        x.shape(), "\n  index ", index.shape());
  if (index.device() == Device::cpu) checked_index("pick", index, x.dim(1));
  check(index.dtype() == DType::i64, "pick: the index must be i64, got ", name_of(index.dtype()));
  return apply(Pick{x.dim(1)}, x, index);
}

}  // namespace fovea
