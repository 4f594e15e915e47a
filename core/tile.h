// A tile: lanes that share memory and work in steps. One CUDA block, or such a block played on the processor.
//
// A body has kLanes (a power of two, at least 32), struct Shared and struct Lane (what each lane keeps in registers),
// and `template <class Tile> HD void operator()(Tile& tile, int64_t block) const`, which is a sequence of
//   tile.each(f)       f(lane, registers, shared), then a barrier: the others may read what a lane wrote
//   tile.own(f)        the same without a barrier, so shared memory is const
//   tile.warps(op, f)  an instruction that the 32 lanes of a warp execute together, on what f(lane, registers, shared)
//                      names of each: op(part) on the device, op.model(parts) where it is played
//   tile.copy(f)       f(lane, registers, shared, copy), where copy(to, from, there) moves 16 bytes of the device's
//                      memory, or zeros where `there` is false, into shared memory, and nobody waits: a group of copies
//                      (cp.async)
//   tile.arrived<n>()  waits until all groups but the last n are there, then a barrier
// own, warps and copy take functions that hold values, not references: a play runs them when it comes to the next
// barrier, one warp after the other, as far apart as warps may ever be, the lanes of a step in any order, and memory
// begins as NaN. What is to be copied is NaN from the start of the copy until it is waited for. So what leans on
// another lane or comes too early, or writes what a slower warp still reads, gives wrong results there.
#pragma once
#include <cstring>
#include <deque>
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
  void begin() { std::memset(static_cast<void*>(memory_.get()), 0xff, sizeof(Memory)), groups_.clear(); }  // NaN
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
    steps_.push_back([=, this, lanes = memory_->lanes](int first) {
      const typename Body::Shared& shared = memory_->shared;
      decltype(f(0, lanes[0], shared)) parts[32];
      for (int l = 0; l < 32; ++l) parts[l] = f(first + l, lanes[first + l], shared);
      op.model(parts);
    });
#endif
  }
  template <class F> HD void copy(F f) {
#ifndef __CUDA_ARCH__
    groups_.push_back(std::make_shared<Group>());
    lanes(memory_->shared, [f, group = groups_.back()](int lane, auto& registers, auto& shared) {
      f(lane, registers, shared, [&](void* to, const void* from, bool there) {
        std::memset(to, 0xff, 16), group->emplace_back(to, there ? from : nullptr);
      });
    });
#endif
  }
  template <int kLeft> HD void arrived() {
#ifndef __CUDA_ARCH__
    barrier();
    while (groups_.size() > kLeft) {
      for (auto [to, from] : *groups_.front()) {
        if (from) std::memcpy(to, from, 16);
        else std::memset(to, 0, 16);
      }
      groups_.pop_front();
    }
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
  using Group = std::vector<std::pair<void*, const void*>>;
  std::deque<std::shared_ptr<Group>> groups_;  // copies that nobody has waited for
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
template <class Body> constexpr int resident() {  // blocks a multiprocessor that the compiler must leave registers for
  if constexpr (requires { Body::kResident; }) return Body::kResident;
  else return 1;
}
#ifdef __CUDACC__
struct AsyncCopy {
  HD void operator()(void* to, const void* from, bool there) const {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))),
                 "l"(from), "r"(there ? 16 : 0)
                 : "memory");
#endif
  }
};
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
  template <class Op, class F> HD void warps(Op op, F f) {
#ifdef __CUDA_ARCH__
    op(f(int(threadIdx.x), lane, static_cast<const typename Body::Shared&>(shared)));
#endif
  }
  template <class F> HD void copy(F f) {
#ifdef __CUDA_ARCH__
    f(int(threadIdx.x), lane, shared, AsyncCopy{});
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
  }
  template <int kLeft> HD void arrived() {
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
    __syncthreads();
#endif
  }
};
template <class Body>
__global__ void __launch_bounds__(Body::kLanes, resident<Body>()) tiles_kernel(const __grid_constant__ Body body) {
  extern __shared__ float4 memory[];
  BlockTile<Body> tile{*reinterpret_cast<typename Body::Shared*>(memory), {}};
  body(tile, blockIdx.x);
}
template <class Body> void launch_tiles(int64_t blocks, const Body& body, void* stream) {
  constexpr size_t bytes = sizeof(typename Body::Shared);
  if constexpr (bytes > size_t{48} << 10) {  // more than a kernel has without asking
    static const cudaError_t status =
        cudaFuncSetAttribute(tiles_kernel<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
    check(status == cudaSuccess, "a block with ", bytes, " bytes of shared memory: ", cudaGetErrorString(status));
  }
  tiles_kernel<<<unsigned(blocks), Body::kLanes, bytes, static_cast<cudaStream_t>(stream)>>>(body);
  runtime().launched();
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
  if (void* stream = runtime().handle(Runtime::Stream::compute)) return detail::launch_tiles(blocks, body, stream);
#endif
  detail::play(1, all);
}

}  // namespace fovea
