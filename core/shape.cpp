// Checked shapes and the broadcasting rule.
#include "core/shape.h"

#include <algorithm>

#include "core/error.h"

namespace fovea {

static constexpr int64_t kMaxElements = int64_t{1} << 59;  // f64 elements that a signed size can count

Shape::Shape(const int64_t* begin, const int64_t* end) {
  check(end - begin <= kMaxRank, "shape: ", end - begin, " dimensions, at most ", kMaxRank, " are possible");
  int64_t product = 1;
  for (const int64_t* d = begin; d != end; ++d) {
    check(*d >= 0, "shape: dimension ", d - begin, " is negative (", *d, ")");
    check(*d == 0 || product <= kMaxElements / *d, "shape: too many elements: dimension ", d - begin, " of ", *d,
          " after ", product, " elements");
    product *= std::max<int64_t>(*d, 1);  // a 0 elsewhere does not hide an overflow
    dims_[rank_++] = *d;
  }
}
int64_t Shape::at(int a) const { return dims_[axis(a)]; }
int Shape::axis(int a) const {
  if (a < -rank_ || a >= rank_) fail(Code::failure, text("shape: axis ", a, " is out of range for ", str()));
  return a < 0 ? a + rank_ : a;  // the message is built only where it is needed: every dim() passes here
}
Shape Shape::with(int a, int64_t dim) const {
  auto d = dims();
  d[axis(a)] = dim;
  return Shape(d);
}
Shape Shape::without(int a) const {
  auto d = dims();
  d.erase(d.begin() + axis(a));
  return Shape(d);
}
Shape Shape::plus(int64_t dim) const {
  auto d = dims();
  d.push_back(dim);
  return Shape(d);
}
std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(dims_[i]);
  return s + "]";
}
bool Shape::operator==(const Shape& o) const { return rank_ == o.rank_ && std::equal(dims_, dims_ + rank_, o.dims_); }

Shape broadcast(const char* op, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  std::vector<int64_t> dims(rank);
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank()), ib = i - (rank - b.rank());
    const int64_t da = ia < 0 ? 1 : a[ia], db = ib < 0 ? 1 : b[ib];
    check(da == db || da == 1 || db == 1, op, ": shapes do not broadcast\n  a ", a, "\n  b ", b, "\n  axis ", i - rank,
          " is ", da, " and ", db, "\n  hint: axes are aligned at the last one; only 1 stretches");
    dims[i] = da == 1 ? db : da;
  }
  return Shape(dims);
}

}  // namespace fovea
