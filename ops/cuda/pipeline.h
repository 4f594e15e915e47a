// The product on tensor cores in bf16 or tf32, as fast as mma.sync allows: slices of the depth flow through a ring in
// shared memory. Copies of later slices are under way (cp.async, 16 bytes each) while the warps multiply one; ldmatrix
// takes fragments out of it, turned where a matrix lies the other way. One barrier a slice.
#pragma once
#include "core/tile.h"
#include "ops/cuda/implicit.h"
#include "ops/cuda/mma.h"

namespace fovea::cuda {

// Tiles of kHigh x kWide results for 8 warps, of which kDownWarps share a column of the tile. Smaller tiles are for
// small products: they fill more multiprocessors.
template <class Number, int high, int wide, int kDownWarps> struct Pipelined : Number {
  using Sum = float;
  static constexpr bool kPipelined = true;
  static constexpr int kHigh = high, kWide = wide, kDepth = 16;
  static constexpr int kAcrossWarps = 8 / kDownWarps, kWarpHigh = high / kDownWarps, kWarpWide = wide / kAcrossWarps;
  static constexpr int kDown = kWarpHigh / 16, kAcross = kWarpWide / 8;  // products of a warp
  HD static constexpr At warp(int lane) {
    return {lane / 32 / kAcrossWarps * kWarpHigh, lane / 32 % kAcrossWarps * kWarpWide};
  }
  HD static constexpr At result(int lane, int i) {
    const At d = element_of_d(lane % 32, i % 4);
    return {warp(lane).row + i / 4 / kAcross * 16 + d.row, warp(lane).col + i / 4 % kAcross * 8 + d.col};
  }
};

// Operands and Out are those of Product; all vectors of 16 bytes are whole and lie at multiples of that.
template <class P, class A, class B, class Out> struct PipelinedProduct {
  using T = typename P::Stored;
  static constexpr int kLanes = 256, kResident = 2, kStages = 4, kStep = P::kDepth * P::kNumbers;
  static constexpr int kVector = 16 / sizeof(T);  // numbers of one
  A a;
  B b;
  Out out;
  Schedule schedule;

  // A tile of an operand: lines of vectors, each line one row, or one depth.
  template <class Operand, int kSize> struct Side {
    static constexpr int kChunks = (Operand::kDown ? kStep : kSize) / kVector, kApart = kLanes / kChunks;
    static constexpr int kTurns = kSize * kStep / kVector / kLanes, kRows = Operand::kDown ? kTurns : 1;
    // Whether ldmatrix gives what an mma wants: it turns numbers of 16 bits alone.
    static constexpr bool kTurned = !Operand::kDown, kMatrices = !kTurned || P::kNumbers == 2;
    static constexpr int kStride = kMatrices ? kChunks : kChunks + 2;  // of lines: 4 depths x 8 rows lie in 32 banks
    static constexpr int kStored = (Operand::kDown ? kSize : kStep) * kStride * kVector;
    using Row = decltype(std::declval<Operand>().row(0, 0));
    HD static void begin(const Operand& m, int group, int row, int lane, Row* rows) {  // what a lane copies of
      FOVEA_UNROLL for (int i = 0; i < kRows; ++i) rows[i] =
          m.row(group, row + (Operand::kDown ? lane / kChunks + i * kApart : lane % kChunks * kVector));
    }
    HD static constexpr int vector(int eights, int j, int chunk) {  // where a chunk of a line lies
      return kVector * (kMatrices ? eight<kChunks>(eights, j, chunk) : (eights + j) * kStride + chunk);
    }
    template <class Copy>
    HD static void fetch(const Operand& m, int depth, int lane, const Row* rows, T* to, Copy copy) {
      const int chunk = lane % kChunks;
      FOVEA_UNROLL for (int i = 0; i < kTurns; ++i) {
        const int line = lane / kChunks + i * kApart;
        const auto d = m.depth(depth + (Operand::kDown ? chunk * kVector : line));
        const Entry<T> from = m.at(rows[Operand::kDown ? i : 0], d);
        copy(to + vector(line / 8 * 8, line % 8, chunk), from.p, from.there);
      }
    }
    // Row j of a matrix of 8 x 8, whose first row and depth these are.
    HD static const bf16* matrix(const T* tile, int row, int depth, int j) {
      return reinterpret_cast<const bf16*>(
          tile + (Operand::kDown ? vector(row, j, depth / kVector) : vector(depth, j, row / kVector)));
    }
    // One number, where lines are depths.
    HD static const T& number(const T* tile, int row, int depth) { return tile[depth * kStride * kVector + row]; }
  };
  using SideA = Side<A, P::kHigh>;
  using SideB = Side<B, P::kWide>;

  struct Shared {
    alignas(128) T a[kStages][SideA::kStored], b[kStages][SideB::kStored];
  };
  struct Lane {
    typename SideA::Row rows_a[SideA::kRows];
    typename SideB::Row rows_b[SideB::kRows];
    uint32_t part_a[4 * P::kDown], part_b[2 * P::kAcross];
    float sum[4 * P::kDown * P::kAcross];
  };
  int64_t blocks() const { return schedule.blocks(P::kHigh, P::kWide); }

  template <class Tile> HD void operator()(Tile& tile, int64_t block) const {
    const Schedule::Part part = schedule.part(block, P::kHigh, P::kWide, kStep);
    tile.own([=, this](int lane, Lane& l, const Shared&) {
      FOVEA_UNROLL for (auto& v : l.sum) v = 0;
      SideA::begin(a, part.group, part.row, lane, l.rows_a), SideB::begin(b, part.group, part.col, lane, l.rows_b);
    });
    FOVEA_UNROLL for (int step = 0; step < kStages - 1; ++step) fetch(tile, part, step);
    for (int step = 0; step < part.steps; ++step) {
      tile.template arrived<kStages - 2>();
      fetch(tile, part, step + kStages - 1);  // to where the slice before this one was
      multiply(tile, step % kStages);
    }
    tile.own([=, this](int lane, Lane& l, const Shared&) { store(part, lane, l.sum); });
  }

 private:
  template <class Tile> HD void fetch(Tile& tile, const Schedule::Part& part, int step) const {
    tile.copy([=, this](int lane, Lane& l, Shared& s, auto copy) {
      if (step >= part.steps) return;
      const int depth = part.depth + step * kStep, stage = step % kStages;
      SideA::fetch(a, depth, lane, l.rows_a, s.a[stage], copy);
      SideB::fetch(b, depth, lane, l.rows_b, s.b[stage], copy);
    });
  }
  // The fragments of 16 rows and of 16 columns, 8 words deep.
  template <class Tile> HD static void load_a(Tile& tile, int stage, int i, int depth) {
    if constexpr (SideA::kMatrices)
      tile.warps(LoadMatrices<SideA::kTurned>{}, [=](int lane, Lane& l, const Shared& s) {
        const int matrix = lane % 32 / 8, row = P::warp(lane).row + i * 16 + matrix % 2 * 8;
        return MatrixRow{SideA::matrix(s.a[stage], row, depth + matrix / 2 * kHalf, lane % 8), l.part_a + 4 * i};
      });
    tile.own([=](int lane, Lane& l, const Shared& s) {
      FOVEA_UNROLL for (int r = 0; r < 4; ++r) {
        const At at = word_of_a(lane % 32, r);
        uint32_t& to = l.part_a[4 * i + r];
        if constexpr (SideA::kMatrices) to = P::rounded(to);
        else {
          const T x = SideA::number(s.a[stage], P::warp(lane).row + i * 16 + at.row, depth + at.col);
          to = P::word(&x, 1);
        }
      }
    });
  }
  template <class Tile> HD static void load_b(Tile& tile, int stage, int j, int depth) {
    if constexpr (SideB::kMatrices)
      tile.warps(LoadMatrices<SideB::kTurned>{}, [=](int lane, Lane& l, const Shared& s) {
        const int matrix = lane % 32 / 8, col = P::warp(lane).col + j * 8 + matrix / 2 * 8;
        return MatrixRow{SideB::matrix(s.b[stage], col, depth + matrix % 2 * kHalf, lane % 8), l.part_b + 2 * j};
      });
    tile.own([=](int lane, Lane& l, const Shared& s) {
      FOVEA_UNROLL for (int r = 0; r < 4; ++r) {
        const At at = word_of_b(lane % 32, r % 2);
        uint32_t& to = l.part_b[2 * j + r];
        if constexpr (SideB::kMatrices) to = P::rounded(to);
        else {
          const T x = SideB::number(s.b[stage], P::warp(lane).col + j * 8 + r / 2 * 8 + at.col, depth + at.row);
          to = P::word(&x, 1);
        }
      }
    });
  }
  static constexpr int kHalf = 4 * P::kNumbers;  // depth of a matrix
  template <class Tile> HD static void multiply(Tile& tile, int stage) {
    FOVEA_UNROLL for (int depth = 0; depth < kStep; depth += 2 * kHalf) {
      FOVEA_UNROLL for (int i = 0; i < P::kDown; ++i) load_a(tile, stage, i, depth);
      FOVEA_UNROLL for (int j = 0; j < P::kAcross; j += 2) load_b(tile, stage, j, depth);
      FOVEA_UNROLL for (int i = 0; i < P::kDown; ++i) FOVEA_UNROLL for (int j = 0; j < P::kAcross; ++j)
          tile.warps(Mma<P>{}, [=](int, Lane& l, const Shared&) {
            return Fragments{l.part_a + 4 * i, l.part_b + 2 * j, l.sum + 4 * (i * P::kAcross + j)};
          });
    }
  }
  HD void store(const Schedule::Part& part, int lane, const float* sum) const {
    const bool pairs = out.pairs();
    FOVEA_UNROLL for (int i = 0; i < 2 * P::kDown; ++i) {  // lines of 8 products side by side
      const float* v = sum + i / 2 * 4 * P::kAcross + i % 2 * 2;
      const int row = part.row + P::warp(lane).row + i * 8 + lane % 32 / 4;
      if (row < schedule.rows) {
        const auto line = out.line(part, row);
        FOVEA_UNROLL for (int j = 0; j < P::kAcross; ++j) {
          const int col = part.col + P::warp(lane).col + j * 8 + lane % 4 * 2;
          if (pairs && col < schedule.cols) out.store(line, col, v[4 * j], v[4 * j + 1]);
          else
            for (int k = 0; k < 2; ++k)
              if (col + k < schedule.cols) out.store(line, col + k, v[4 * j + k]);
        }
      }
    }
  }
};

}  // namespace fovea::cuda
