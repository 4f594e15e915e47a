// A tile: lanes that share memory and work in steps. One CUDA block, or such a block played on the processor.
//
// A body has kLanes (a power of two, at least 32), struct Shared and struct Lane (what each lane keeps in registers),
// and `template <class Tile> HD void operator()(Tile& tile, int64_t block) const`, which is a sequence of
//   tile.each(f)       f(lane, registers, shared), then a barrier: the others may read what a lane wrote
//   tile.own(f)        the same without a barrier, so shared memory is const
//   tile.warps(op, f)  an instruction that the 32 lanes of a warp execute together, on what f(registers) names of each:
//                      op(part) on the device, op.model(parts) where it is played
// own and warps take functions that hold values, not references: a play runs them when it comes to the next barrier,
// one warp after the other, as far apart as warps may ever be, the lanes of a step in any order, and memory begins as
// NaN. So what leans on another lane, or writes what a slower warp still reads, gives wrong results there.
#pragma once
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core/loops.h"

// Before a loop that nvcc must unroll, so that what it indexes stays in registers.
#ifdef __CUDACC__
#define FOVEA_UNROLL _Pragma("unroll")
#else
#define FOVEA_UNROLL
#endif

namespace fovea {

struct LaneOrder {  // turn t is that of lane (and of warp) t * stride + first, modulo all; an odd stride reaches each
  int stride = -1, first = -1;  // backwards
  int operator()(int t, int all) const { return int(unsigned(t) * unsigned(stride) + unsigned(first)) & (all - 1); }
};

template <class Body> class PlayedTile {
 public:
  explicit PlayedTile(LaneOrder order) : order_(order), memory_(new Memory) {}
  void begin() { std::memset(static_cast<void*>(memory_.get()), 0xff, sizeof(Memory)); }  // NaN
  void barrier() {
    for (int w = 0; w < kWarps; ++w)
      for (const auto& step : steps_) step(order_(w, kWarps) * 32);
    steps_.clear();
  }
  template <class F> HD void each(F f) {
#ifndef __CUDA_ARCH__
    lanes(memory_->shared, f), barrier();
#endif
  }
  template <class F> HD void own(F f) {
#ifndef __CUDA_ARCH__
    lanes(std::as_const(memory_->shared), f);
#endif
  }
  template <class Op, class F> HD void warps(Op op, F f) {
#ifndef __CUDA_ARCH__
    steps_.push_back([=, lanes = memory_->lanes](int first) {
      decltype(f(lanes[0])) parts[32];
      for (int l = 0; l < 32; ++l) parts[l] = f(lanes[first + l]);
      op.model(parts);
    });
#endif
  }

 private:
  static constexpr int kWarps = Body::kLanes / 32;
  struct Memory {
    typename Body::Shared shared;
    typename Body::Lane lanes[Body::kLanes];
  };
  template <class Shared, class F> void lanes(Shared& shared, F f) {
    steps_.push_back([=, this, &shared](int first) {
      for (int t = 0; t < 32; ++t) {
        const int lane = first + order_(t, 32);
        f(lane, memory_->lanes[lane], shared);
      }
    });
  }
  LaneOrder order_;
  std::unique_ptr<Memory> memory_;
  std::vector<std::function<void(int)>> steps_;  // since the last barrier, of the warp that begins with a lane
};

template <class Body> void play_tiles(int64_t blocks, const Body& body, LaneOrder order = {}) {
  PlayedTile<Body> tile(order);
  while (blocks-- > 0) tile.begin(), body(tile, blocks), tile.barrier();
}

namespace detail {
template <class Body> struct AllTiles {
  int64_t blocks;
  Body body;
  void operator()(int64_t) const { play_tiles(blocks, body); }
};
#ifdef __CUDACC__
template <class Body> struct BlockTile {
  typename Body::Shared& shared;
  typename Body::Lane lane;
  template <class F> HD void each(F f) {
#ifdef __CUDA_ARCH__
    f(int(threadIdx.x), lane, shared);
    __syncthreads();
#endif
  }
  template <class F> HD void own(F f) {
#ifdef __CUDA_ARCH__
    f(int(threadIdx.x), lane, static_cast<const typename Body::Shared&>(shared));
#endif
  }
  template <class Op, class F> HD void warps(Op op, F f) { op(f(lane)); }
};
template <class Body> __global__ void __launch_bounds__(Body::kLanes) tiles_kernel(Body body) {
  __shared__ typename Body::Shared shared;
  BlockTile<Body> tile{shared, {}};
  body(tile, blockIdx.x);
}
#endif
}  // namespace detail

// body(tile, block) for each block in [0, blocks). The processor has no tiles of its own: there it is a rehearsal.
template <class Body> void for_tiles(Device device, int64_t blocks, const Body& body) {
  if (blocks <= 0) return;
  check(blocks < int64_t{1} << 31, "for_tiles: ", blocks, " blocks, at most 2^31 - 1");
  const detail::AllTiles<Body> all{blocks, body};
  if constexpr (!detail::kNarrow<Body>)
    if (device == Device::cpu) return all(0);
#ifdef __CUDACC__
  if (void* stream = runtime().handle(Runtime::Stream::compute)) {
    detail::tiles_kernel<<<unsigned(blocks), Body::kLanes, 0, static_cast<cudaStream_t>(stream)>>>(body);
    return runtime().launched();
  }
#endif
  detail::play(1, all);
}

}  // namespace fovea
