// A checked shape of at most 8 dimensions: never negative, and the number of elements never overflows.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>
#include <vector>

#include "core/platform.h"

namespace fovea {

// Trivially copyable, so that kernels may take it by value.
class Shape {
 public:
  static constexpr int kMaxRank = 8;
  Shape() = default;  // rank 0: a scalar
  // Throws on more than 8 dimensions, a negative one, or more than 2^59 elements (also where a dimension is 0).
  Shape(std::initializer_list<int64_t> dims) : Shape(dims.begin(), dims.end()) {}
  explicit Shape(const std::vector<int64_t>& dims) : Shape(dims.data(), dims.data() + dims.size()) {}
  Shape(const int64_t* begin, const int64_t* end);

  HD int rank() const { return rank_; }
  HD int64_t operator[](int axis) const { return dims_[axis < 0 ? axis + rank_ : axis]; }  // unchecked; -1 is the last
  int64_t at(int axis) const;                                                              // checked
  HD int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  HD int64_t rows() const { return rank_ == 0 ? 1 : span(0, rank_ - 1); }  // product of all but the last
  HD int64_t span(int first, int last) const {                             // product of dims [first, last)
    int64_t n = 1;
    for (int i = first; i < last; ++i) n *= dims_[i];
    return n;
  }
  Shape with(int axis, int64_t dim) const;  // a copy with one dimension changed
  Shape without(int axis) const;            // a copy with one dimension removed
  Shape plus(int64_t dim) const;            // a copy with one dimension appended
  int axis(int a) const;                    // 0..rank-1 for -rank..rank-1; throws otherwise
  std::vector<int64_t> dims() const { return {dims_, dims_ + rank_}; }
  std::string str() const;  // "[2, 3]"
  bool operator==(const Shape& o) const;

 private:
  int64_t dims_[kMaxRank] = {};
  int rank_ = 0;
};

inline std::ostream& operator<<(std::ostream& s, const Shape& shape) { return s << shape.str(); }

// The shape that a and b broadcast to (aligned at the last axis, 1 stretches). Throws naming `op`, both shapes and the
// axis.
Shape broadcast(const char* op, const Shape& a, const Shape& b);

}  // namespace fovea
