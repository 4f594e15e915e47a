// Collapsing the axes of a broadcast, and copies along stretched axes.
#include "ops/broadcast.h"

#include "ops/reduce.h"

namespace fovea {

Stretch stretch(const Shape& shape, const Shape& a, const Shape& b) {
  struct Axis {
    int64_t dim, stride[2];
  } axes[Shape::kMaxRank];  // innermost first
  int count = 0;
  int64_t next[2] = {1, 1};  // strides of the operands, as stored
  for (int d = 1; d <= shape.rank(); ++d) {
    const int64_t n = shape[-d], da = d > a.rank() ? 1 : a[-d], db = d > b.rank() ? 1 : b[-d];
    const int64_t sa = da == 1 ? 0 : next[0], sb = db == 1 ? 0 : next[1];
    next[0] *= da, next[1] *= db;
    if (n == 1) continue;
    Axis* last = count ? &axes[count - 1] : nullptr;
    if (last && sa == last->dim * last->stride[0] && sb == last->dim * last->stride[1])
      last->dim *= n;  // walks on where the inner axis ends
    else axes[count++] = {n, {sa, sb}};
  }
  Stretch s;
  if (count) s.inner = axes[0].dim, s.step[0] = axes[0].stride[0], s.step[1] = axes[0].stride[1];
  s.blocks = (s.inner + kPiece - 1) / kPiece;
  s.pieces = s.blocks;
  s.rank = count > 0 ? count - 1 : 0;
  for (int d = 0; d < s.rank; ++d) {
    const Axis& axis = axes[count - 1 - d];
    s.dims[d] = axis.dim, s.strides[0][d] = axis.stride[0], s.strides[1][d] = axis.stride[1];
    s.pieces *= axis.dim;
  }
  return s;
}

namespace {

template <class T> struct Expand {  // y = factor x
  Stretch at;
  const T* x;
  T* y;
  compute_t<T> factor;
  template <class Team> HD void operator()(Team team, int64_t piece) const {
    const auto p = at[piece];
    const T* from = x + p.at[0];
    T* to = y + p.out;
    const auto s = factor;
    if (at.step[0]) return team.each(p.count, [=](int64_t i) { to[i] = T(s * compute_t<T>(from[i])); });
    const T value = T(s * compute_t<T>(from[0]));
    team.each(p.count, [=](int64_t i) { to[i] = value; });
  }
};

}  // namespace

Tensor expand_to(const Tensor& x, const Shape& shape, double factor) {
  if (x.shape() == shape && factor == 1) return x.detach();
  Tensor y(shape, x.dtype(), x.device());
  if (y.size() == 0) return y;
  const Stretch at = stretch(shape, x.shape(), shape);
  dispatch_storage(x.dtype(), [&]<class T>() {
    for_pieces(x.device(), at, Expand<T>{at, x.data<T>(), y.data<T>(), static_cast<compute_t<T>>(factor)});
  });
  return y;
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x.detach();
  NoGrad quiet;
  std::vector<int> axes;
  const int lead = x.rank() - shape.rank();
  for (int d = 0; d < x.rank(); ++d)
    if (d < lead || (shape[d - lead] == 1 && x.shape()[d] != 1)) axes.push_back(d);
  return axes.empty() ? x.view(shape) : sum(x, axes).view(shape);
}

}  // namespace fovea
