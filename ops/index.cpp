// Gathers by index. The reverse sorts the index first, so that each row is written by one owner, in a fixed order.
#include "ops/index.h"

#include <algorithm>
#include <numeric>

#include "core/loops.h"

namespace fovea {

namespace {

template <class T> struct GatherRow {  // y[o, m, :] = x[o, index[m], :]
  const T* x;
  const int64_t* index;
  T* y;
  int64_t m, size, inner;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const T* from = x + (r / m * size + index[r % m]) * inner;
    T* to = y + r * inner;
    team.each(inner, [=](int64_t i) { to[i] = from[i]; });
  }
};
template <class T> struct OneOfRow {  // dx[r, k] = dy[r] where k is index[r], otherwise 0
  const T* dy;
  const int64_t* index;
  T* dx;
  int64_t cols;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    T *row = dx + r * cols, value = dy[r];
    const int64_t place = index[r];
    team.each(cols, [=](int64_t k) { row[k] = k == place ? value : T(0); });
  }
};
template <class T> struct SumRows {  // dx[o, row[s], :] = sum of dy[o, place[k], :] for k in [start[s], start[s + 1])
  const T* dy;
  const int64_t *row, *start, *place;
  T* dx;
  int64_t m, size, inner, count;  // `count` rows are not 0
  template <class Team> HD void operator()(Team team, int64_t r) const {
    using C = compute_t<T>;
    const int64_t o = r / count, s = r % count, begin = start[s], end = start[s + 1], n = inner;
    const T* from = dy + o * m * inner;
    T* to = dx + (o * size + row[s]) * inner;
    const int64_t* where = place;
    if (end - begin == 1) {
      const T* only = from + where[begin] * n;
      return team.each(n, [=](int64_t i) { to[i] = only[i]; });
    }
    each_block(team, n, [=](int64_t c, int64_t width) {
      C sum[kBlockOf<Team>] = {};
      for (int64_t k = begin; k < end; ++k) {
        const T* one = from + where[k] * n + c;
        for (int64_t i = 0; i < width; ++i) sum[i] += C(one[i]);
      }
      for (int64_t i = 0; i < width; ++i) to[c + i] = T(sum[i]);
    });
  }
};

}  // namespace

Tensor checked_index(const char* op, const Tensor& index, int64_t size) {
  check(index && index.dtype() == DType::i64, op, ": the index must be a tensor of i64");
  const Tensor here = index.to(Device::cpu);
  const int64_t* p = here.data<int64_t>();
  for (int64_t i = 0; i < index.size(); ++i)
    check(p[i] >= 0 && p[i] < size, op, ": index ", p[i], " at place ", i, " is outside 0..", size - 1);
  return here;
}

Tensor gather_rows(const Tensor& x, const Tensor& index, int axis) {
  const Shape& s = x.shape();
  const int64_t outer = s.span(0, axis), inner = s.span(axis + 1, s.rank()), m = index.size();
  Tensor y(s.with(axis, m), x.dtype(), x.device());
  if (y.size() == 0) return y;
  const Tensor there = index.to(x.device());
  dispatch_any(x.dtype(), [&]<class T>() {
    for_rows(x.device(), outer * m, inner,
             GatherRow<T>{x.data<T>(), there.data<int64_t>(), y.data<T>(), m, s[axis], inner});
  });
  return y;
}

Tensor sum_rows(const Tensor& dy, const Tensor& index, int axis, int64_t size) {
  const Shape& s = dy.shape();
  const int64_t outer = s.span(0, axis), inner = s.span(axis + 1, s.rank()), m = index.size();
  Tensor dx = Tensor::zeros(s.with(axis, size), dy.dtype(), dy.device());
  if (dx.size() == 0 || m == 0) return dx;
  Tensor table({3 * m + 1}, DType::i64);  // places in the order of their rows, these rows, and where each begins
  int64_t *place = table.data<int64_t>(), *row = place + m, *start = row + m, count = 0;
  const int64_t* id = index.data<int64_t>();
  std::iota(place, place + m, 0);
  std::stable_sort(place, place + m, [=](int64_t a, int64_t b) { return id[a] < id[b]; });
  for (int64_t k = 0; k < m; ++k)
    if (k == 0 || id[place[k]] != row[count - 1]) row[count] = id[place[k]], start[count++] = k;
  start[count] = m;
  table = table.to(dy.device());
  dispatch_storage(dy.dtype(), [&]<class T>() {
    const int64_t* there = table.data<int64_t>();
    for_rows(dy.device(), outer * count, inner * (1 + m / count),
             SumRows<T>{dy.data<T>(), there + m, there + 2 * m, there, dx.data<T>(), m, size, inner, count});
  });
  return dx;
}

Tensor one_a_row(const Tensor& dy, const Tensor& index, int64_t cols) {
  Tensor dx({dy.size(), cols}, dy.dtype(), dy.device());
  dispatch_storage(dy.dtype(), [&]<class T>() {
    for_rows(dy.device(), dy.size(), cols, OneOfRow<T>{dy.data<T>(), index.data<int64_t>(), dx.data<T>(), cols});
  });
  return dx;
}

}  // namespace fovea
