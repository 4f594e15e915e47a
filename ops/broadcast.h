// Where the elements of stretched operands lie: the index arithmetic of broadcasting, collapsed to as few axes as
// possible.
#pragma once
#include "core/loops.h"

namespace fovea {

constexpr int64_t kPiece = 4096;  // elements of the inner axis that one team takes

// A walk over the elements of two tensors side by side, in pieces of the innermost axis; axes that walk on where the
// one inside them ends are one. A stretched operand steps by 0 along an axis.
struct Stretch {
  int64_t inner = 1, step[2] = {0, 0};       // the innermost axis: its size, and the steps of the operands
  int rank = 0;                              // of the axes around it, from the inside out
  int64_t dims[Shape::kMaxRank] = {};        // their sizes
  int64_t strides[2][Shape::kMaxRank] = {};  // the steps of the operands along them
  int64_t blocks = 1, pieces = 1;            // of the innermost axis; of all

  void add(int64_t n, int64_t a, int64_t b);                               // one more axis around the others
  bool flat() const { return rank == 0 && step[0] == 1 && step[1] == 1; }  // element by element

  struct Piece {  // number of the first element in row-major order, number of elements, their places in the operands
    int64_t out, count, at[2];
  };
  HD Piece operator[](int64_t piece) const {
    int64_t row = piece / blocks;
    const int64_t begin = (piece - row * blocks) * kPiece, left = inner - begin;
    Piece p{row * inner + begin, left < kPiece ? left : kPiece, {begin * step[0], begin * step[1]}};
    for (int d = 0; d < rank; ++d) {
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
