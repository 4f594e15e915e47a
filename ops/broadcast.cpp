// Collapsing the axes of a broadcast, and copies along stretched axes.
#include "ops/broadcast.h"

#include "ops/reduce.h"

namespace fovea {

void Stretch::add(int64_t n, int64_t a, int64_t b) {
  if (n == 1) return;
  const bool first = inner == 1;
  int64_t &size = rank ? dims[rank - 1] : inner, last_a = rank ? strides[0][rank - 1] : step[0],
          last_b = rank ? strides[1][rank - 1] : step[1];
  if (first) inner = n, step[0] = a, step[1] = b;
  else if (a == size * last_a && b == size * last_b) size *= n;
  else dims[rank] = n, strides[0][rank] = a, strides[1][rank++] = b;
  pieces = blocks = (inner + kPiece - 1) / kPiece;
  for (int d = 0; d < rank; ++d) pieces *= dims[d];
}

Stretch stretch(const Shape& shape, const Shape& a, const Shape& b) {
  Stretch s;
  int64_t next[2] = {1, 1};  // strides of the operands, as stored
  for (int d = 1; d <= shape.rank(); ++d) {
    const int64_t da = d > a.rank() ? 1 : a[-d], db = d > b.rank() ? 1 : b[-d];
    s.add(shape[-d], da == 1 ? 0 : next[0], db == 1 ? 0 : next[1]);
    next[0] *= da, next[1] *= db;
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
  dispatch_any(x.dtype(), [&]<class T>() {
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
