// The kernel: a tile of C = A B, whose operands are functions that say where an element lies. While the lanes multiply
// one slice of the depth out of shared memory, the next one is on its way into registers.
#pragma once
#include "core/tile.h"
#include "ops/cuda/implicit.h"
#include "ops/cuda/mma.h"

namespace fovea::cuda {

// How words are multiplied: by the lanes themselves, each with its own rows and columns of the tile ...
template <class T, int tile = sizeof(T) == 4 ? 128 : 64> struct Lanes {
  using Stored = T;
  using Word = T;
  using Sum = T;
  static constexpr bool kTensor = false, kPipelined = false;
  static constexpr int kNumbers = 1, kTile = tile, kHigh = tile, kWide = tile, kDepth = 16;  // a word is a number
  static constexpr int kSide = tile / 16;  // results of a lane: kSide^2
  HD static T word(const T* x, int) { return *x; }
  // 4 of 64 rows side by side for each lane, so that they are read as one vector
  HD static constexpr int along(int position, int i) { return i / 4 * 64 + position * 4 + i % 4; }
  HD static constexpr At result(int lane, int i) { return {along(lane / 16, i / kSide), along(lane % 16, i % kSide)}; }
};
// ... or by the tensor cores: 8 warps with 64 x 32 results each, 4 x 4 products of 16 x 8.
template <class Number> struct TensorCores : Number {
  using Word = uint32_t;
  using Sum = float;
  static constexpr bool kTensor = true, kPipelined = false;
  static constexpr int kTile = 128, kHigh = kTile, kWide = kTile, kDepth = 16, kSide = 8;
  HD static constexpr At warp(int lane) { return {lane / 128 * 64, lane / 32 % 4 * 32}; }
  HD static constexpr At result(int lane, int i) {
    const At d = element_of_d(lane % 32, i % 4);
    return {warp(lane).row + i / 16 * 16 + d.row, warp(lane).col + i / 4 % 4 * 8 + d.col};
  }
};

// An operand is a struct with at(row(group, r), depth(d)): where an element lies, or that it is 0; r is a row of A or a
// column of B, and kDown tells that elements that follow each other in the depth do so in memory. Its vectors
// are read whole where kWhole: then every length is a multiple of one. Out takes the results: store(line(part, row),
// col, v).
template <class P, class A, class B, class Out, bool kWhole> struct Product {
  using T = typename P::Stored;
  using Word = typename P::Word;
  static constexpr int kLanes = 256, kTile = P::kTile, kDepth = P::kDepth, kQuads = kTile * kDepth / 4 / kLanes;
  static constexpr int kStep = kDepth * P::kNumbers;  // of the depth
  A a;
  B b;
  Out out;
  Schedule schedule;
  static constexpr int kResident = P::kSide > 4 || sizeof(T) > 4 ? 1 : 2;  // as registers allow

  struct Shared {
    alignas(16) Word a[2][kDepth * (kTile + 8)], b[2][kDepth * (kTile + 8)];
  };
  struct Lane {
    Word next_a[4 * kQuads], next_b[4 * kQuads];
    Word part_a[P::kTensor ? 16 : P::kSide], part_b[P::kSide];
    typename P::Sum sum[P::kSide * P::kSide];
  };
  int64_t blocks() const { return schedule.blocks(kTile, kTile); }

  template <class Tile> HD void operator()(Tile& tile, int64_t block) const {
    const Schedule::Part part = schedule.part(block, kTile, kTile, kStep);
    tile.each([&](int lane, Lane& l, Shared& s) {
      FOVEA_UNROLL for (auto& v : l.sum) v = 0;
      if (part.steps > 0) fetch(part, 0, lane, l), store(lane, l, s, 0);
    });
    for (int step = 0; step < part.steps; ++step) {
      const bool more = step + 1 < part.steps;
      if (more) tile.own([=, this](int lane, Lane& l, const Shared&) { fetch(part, step + 1, lane, l); });
      multiply(tile, step % 2);
      tile.each([&](int lane, Lane& l, Shared& s) {
        if (more) store(lane, l, s, (step + 1) % 2);
      });
    }
    tile.own([=, this](int lane, Lane& l, const Shared&) {
      FOVEA_UNROLL for (int i = 0; i < P::kSide * P::kSide; ++i) {
        const At at = P::result(lane, i);
        const int row = part.row + at.row, col = part.col + at.col;
        if (row < schedule.rows && col < schedule.cols) out.store(out.line(part, row), col, l.sum[i]);
      }
    });
  }

 private:
  using Four = Pack<Word, 4>;
  HD static void load4(const Word* from, Word* to) {  // as one vector, which the compiler could not know
    const Four v = *reinterpret_cast<const Four*>(from);
    FOVEA_UNROLL for (int i = 0; i < 4; ++i) to[i] = v[i];
  }
  // kCount elements that lie side by side, from (row, depth) on
  template <int kCount, class Operand> HD static void read(const Operand& m, int group, int row, int depth, T* x) {
    if constexpr (kWhole) {
      const Entry<T> from = m.at(m.row(group, row), m.depth(depth));
      Pack<T, kCount> v{};
      if (from.there) v = *reinterpret_cast<const Pack<T, kCount>*>(from.p);
      FOVEA_UNROLL for (int i = 0; i < kCount; ++i) x[i] = v[i];
    } else {
      FOVEA_UNROLL for (int i = 0; i < kCount; ++i) {
        const Entry<T> from =
            m.at(m.row(group, row + (Operand::kDown ? 0 : i)), m.depth(depth + (Operand::kDown ? i : 0)));
        x[i] = from.there ? *from.p : T(0.f);
      }
    }
  }
  template <class Operand> HD static void fetch(const Operand& m, int group, int row, int depth, int lane, Word* to) {
    FOVEA_UNROLL for (int i = 0; i < kQuads; ++i) {
      const Quad q = quad<Operand::kDown, kDepth, kTile>(lane, i, kLanes);
      constexpr int n = P::kNumbers;
      T x[4 * n];  // down: 4 n depths; across: n depths of 4 rows each
      if constexpr (Operand::kDown) read<4 * n>(m, group, row + q.row, depth + q.depth * n, x);
      else FOVEA_UNROLL for (int j = 0; j < n; ++j) read<4>(m, group, row + q.row, depth + q.depth * n + j, x + 4 * j);
      FOVEA_UNROLL for (int j = 0; j < 4; ++j) to[4 * i + j] =
          Operand::kDown ? P::word(x + j * n, 1) : P::word(x + j, 4);
    }
  }
  HD void fetch(const Schedule::Part& part, int step, int lane, Lane& l) const {
    const int depth = part.depth + step * kStep;
    fetch(a, part.group, part.row, depth, lane, l.next_a);
    fetch(b, part.group, part.col, depth, lane, l.next_b);
  }
  template <bool kDown> HD static void store(int lane, const Word* from, Word* to) {
    FOVEA_UNROLL for (int i = 0; i < kQuads; ++i) {
      const Quad q = quad<kDown, kDepth, kTile>(lane, i, kLanes);
      if constexpr (kDown)
        FOVEA_UNROLL for (int j = 0; j < 4; ++j) to[slot<kTile>(q.depth + j, q.row)] = from[4 * i + j];
      else {
        Four v;
        FOVEA_UNROLL for (int j = 0; j < 4; ++j) v[j] = from[4 * i + j];
        *reinterpret_cast<Four*>(to + slot<kTile>(q.depth, q.row)) = v;
      }
    }
  }
  HD static void store(int lane, const Lane& l, Shared& s, int turn) {
    store<A::kDown>(lane, l.next_a, s.a[turn]);
    store<B::kDown>(lane, l.next_b, s.b[turn]);
  }

  template <class Tile> HD static void multiply(Tile& tile, int turn) {
    if constexpr (P::kTensor) {
      FOVEA_UNROLL for (int depth = 0; depth < kDepth; depth += 8) {
        tile.own([=](int lane, Lane& l, const Shared& s) {
          const At warp = P::warp(lane);
          FOVEA_UNROLL for (int i = 0; i < 16; ++i) {
            const At at = word_of_a(lane % 32, i % 4);
            l.part_a[i] = s.a[turn][slot<kTile>(depth + at.col, warp.row + i / 4 * 16 + at.row)];
          }
          FOVEA_UNROLL for (int i = 0; i < 8; ++i) {
            const At at = word_of_b(lane % 32, i % 2);
            l.part_b[i] = s.b[turn][slot<kTile>(depth + at.row, warp.col + i / 2 * 8 + at.col)];
          }
        });
        FOVEA_UNROLL for (int i = 0; i < 4; ++i) {
          FOVEA_UNROLL for (int j = 0; j < 4; ++j) tile.warps(Mma<P>{}, [=](int, Lane& l, const Shared&) {
            return Fragments{l.part_a + 4 * i, l.part_b + 2 * j, l.sum + 16 * i + 4 * j};
          });
        }
      }
    } else {
      tile.own([=](int lane, Lane& l, const Shared& s) {
        FOVEA_UNROLL for (int depth = 0; depth < kDepth; ++depth) {
          FOVEA_UNROLL for (int i = 0; i < P::kSide; i += 4) {
            load4(s.a[turn] + slot<kTile>(depth, P::along(lane / 16, i)), l.part_a + i);
            load4(s.b[turn] + slot<kTile>(depth, P::along(lane % 16, i)), l.part_b + i);
          }
          FOVEA_UNROLL for (int i = 0; i < P::kSide; ++i) {
            FOVEA_UNROLL for (int j = 0; j < P::kSide; ++j) l.sum[i * P::kSide + j] += l.part_a[i] * l.part_b[j];
          }
        }
      });
    }
  }
};

}  // namespace fovea::cuda
