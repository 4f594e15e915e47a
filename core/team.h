// A team is the set of threads that share one row: one thread on the CPU, one block on CUDA, or a block played on the
// CPU.
#pragma once
#include <cstdint>
#include <type_traits>

#include "core/platform.h"

namespace fovea {

// Before a loop whose iterations may run side by side, whatever its pointers point to: it vectorises without a check.
#if defined(__CUDACC__)
#define FOVEA_INDEPENDENT
#define FOVEA_AS_VECTOR
#define FOVEA_LANES
#elif defined(__clang__)
#define FOVEA_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define FOVEA_AS_VECTOR FOVEA_INDEPENDENT _Pragma("clang loop unroll(disable)")
#define FOVEA_LANES FOVEA_AS_VECTOR
#else
#define FOVEA_INDEPENDENT _Pragma("GCC ivdep")
#define FOVEA_AS_VECTOR FOVEA_INDEPENDENT _Pragma("GCC unroll 1")  // short ones, which g++ would take apart before
#define FOVEA_LANES FOVEA_INDEPENDENT                              // a number of each, which clang would take apart
#endif
// Before a loop that a device takes several rounds of at a time, so that their loads are on the way together.
#ifdef __CUDACC__
#define FOVEA_PRAGMA(text) _Pragma(#text)
#define FOVEA_UNROLL_BY(count) FOVEA_PRAGMA(unroll count)
#else
#define FOVEA_UNROLL_BY(count)
#endif

struct Plus {
  template <class T> HD T operator()(T a, T b) const { return a + b; }
};
struct Max {
  template <class T> HD T operator()(T a, T b) const { return a > b ? a : b; }
};

constexpr int kTeam = 128;  // threads of a CUDA team

// team.each(n, f): f(i) for every i. team.reduce(n, zero, f, op): f(0) op f(1) op ...; `zero` is op's neutral element.
// Without op it is a sum. f may write what belongs to its index.
struct Solo {
  template <class F> HD void each(int64_t n, F f) const { FOVEA_INDEPENDENT for (int64_t i = 0; i < n; ++i) f(i); }
  template <class T, class F, class Op = Plus> HD T reduce(int64_t n, T zero, F f, Op op = {}) const {
    constexpr int kLanes = 32;  // independent sums, so that the loops vectorise
    if (n < kLanes / 2) {
      for (int64_t i = 0; i < n; ++i) zero = op(zero, f(i));
      return zero;
    }
    T lane[kLanes];
    for (int l = 0; l < kLanes; ++l) lane[l] = zero;
    const int64_t rest = n % kLanes;
    for (int64_t i = 0; i < n - rest; i += kLanes) {
      FOVEA_LANES for (int l = 0; l < kLanes; ++l) lane[l] = op(lane[l], f(i + l));
    }
    FOVEA_INDEPENDENT for (int64_t l = 0; l < rest; ++l) lane[l] = op(lane[l], f(n - rest + l));
    return fold<kLanes / 2>(lane, op);
  }

 private:
  template <int kHalf, class T, class Op> HD static T fold(T* lane, Op op) {
    if constexpr (kHalf >= 4) {
      FOVEA_AS_VECTOR for (int l = 0; l < kHalf; ++l) lane[l] = op(lane[l], lane[l + kHalf]);
    } else {
      for (int l = 0; l < kHalf; ++l) lane[l] = op(lane[l], lane[l + kHalf]);
    }
    if constexpr (kHalf > 1) return fold<kHalf / 2>(lane, op);
    return lane[0];
  }
};

// What a body takes at a time where it keeps a number for each: 64 on one CPU thread, one in a CUDA team.
template <class Team> constexpr int64_t kBlockOf = std::is_same_v<Team, Solo> ? 64 : 1;
// f(first, count) for all blocks of [0, n).
template <class Team, class F> HD void each_block(const Team& team, int64_t n, F f) {
  constexpr int64_t size = kBlockOf<Team>;
  team.each((n + size - 1) / size, [=](int64_t block) {
    const int64_t first = block * size;
    f(first, n - first < size ? n - first : size);
  });
}

// The CUDA team on one CPU thread: the same strides and reduction tree, so the same rounding; lanes run backwards.
struct Rehearsal {
  template <class F> HD void each(int64_t n, F f) const {
    for (int t = kTeam; t-- > 0;)
      for (int64_t i = t; i < n; i += kTeam) f(i);
  }
  template <class T, class F, class Op = Plus> HD T reduce(int64_t n, T zero, F f, Op op = {}) const {
    T lane[kTeam];
    for (int t = kTeam; t-- > 0;) {
      lane[t] = zero;
      for (int64_t i = t; i < n; i += kTeam) lane[t] = op(lane[t], f(i));
    }
    for (int half = kTeam / 2; half > 0; half /= 2)
      for (int t = 0; t < half; ++t) lane[t] = op(lane[t], lane[t + half]);
    return lane[0];
  }
};

#ifdef __CUDACC__
struct Block {
  template <class F> HD void each(int64_t n, F f) const {
#ifdef __CUDA_ARCH__
    for (int64_t i = threadIdx.x; i < n; i += kTeam) f(i);
    __syncthreads();
#endif
  }
  template <class T, class F, class Op = Plus> HD T reduce(int64_t n, T zero, F f, Op op = {}) const {
#ifdef __CUDA_ARCH__
    __shared__ alignas(alignof(T)) unsigned char memory[kTeam * sizeof(T)];
    T* lane = reinterpret_cast<T*>(memory);
    T sum = zero;
    for (int64_t i = threadIdx.x; i < n; i += kTeam) sum = op(sum, f(i));
    lane[threadIdx.x] = sum;
    for (int half = kTeam / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.x < half) lane[threadIdx.x] = op(lane[threadIdx.x], lane[threadIdx.x + half]);
    }
    __syncthreads();
    const T all = lane[0];
    __syncthreads();
    return all;
#else
    return zero;
#endif
  }
};
#endif

}  // namespace fovea
