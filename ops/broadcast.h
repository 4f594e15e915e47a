// Where the elements of stretched operands lie: the index arithmetic of broadcasting, collapsed to as few axes as
// possible.
#pragma once
#include "core/loops.h"

namespace fovea {

constexpr int64_t kPiece = 4096;  // elements of the inner axis that one team takes

// The elements of `shape`, in row-major order, as pieces of its innermost collapsed axis. Along that axis each of two
// operands steps by 1 or by 0 (a stretched one).
struct Stretch {
  int rank = 0;                              // of the outer axes
  int64_t dims[Shape::kMaxRank] = {};        // outer axes
  int64_t strides[2][Shape::kMaxRank] = {};  // of each operand along them
  int64_t inner = 1, step[2] = {1, 1}, blocks = 1, pieces = 1;

  struct Piece {
    int64_t out, count, at[2];
  };  // first element written, number of elements, first element read
  HD Piece operator[](int64_t piece) const {
    int64_t row = piece / blocks;
    const int64_t begin = (piece - row * blocks) * kPiece, left = inner - begin;
    Piece p{row * inner + begin, left < kPiece ? left : kPiece, {begin * step[0], begin * step[1]}};
    for (int d = rank; d-- > 0;) {
      const int64_t i = row % dims[d];
      row /= dims[d];
      p.at[0] += i * strides[0][d], p.at[1] += i * strides[1][d];
    }
    return p;
  }
};
// `shape` has at least one element; a and b broadcast to it.
Stretch stretch(const Shape& shape, const Shape& a, const Shape& b);

// body(team, piece) for all pieces.
template <class Body> void for_pieces(Device device, const Stretch& at, const Body& body) {
  for_rows(device, at.pieces, at.inner < kPiece ? at.inner : kPiece, body);
}

// Both without the tape. x stretched to `shape`, times `factor`; and its reverse, x summed to `shape`.
Tensor expand_to(const Tensor& x, const Shape& shape, double factor = 1);
Tensor sum_to(const Tensor& x, const Shape& shape);

}  // namespace fovea
