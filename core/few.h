// A few neighbours, which a lane of a device takes at a time: in registers, loaded and stored by 16 bytes.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/team.h"

namespace fovea {

template <class T, int kWidth> struct alignas(kWidth * sizeof(T) < 16 ? kWidth * sizeof(T) : 16) Pack {
  T v[kWidth];
  HD T& operator[](int64_t i) { return v[i]; }
  HD const T& operator[](int64_t i) const { return v[i]; }
};

// `load(p)` has those of p, `fresh(p)` room for them, both counted from 0 as `each` counts; `store(p, v)` keeps them.
// `add(sum, n, f)` adds f(0, c), .., f(n - 1, c).
template <int kWidth> struct Few {
  int64_t first;
  static constexpr bool all = false;
  template <class T> HD auto load(const T* p) const { return *reinterpret_cast<const Pack<T, kWidth>*>(p + first); }
  template <class T> HD auto fresh(const T*) const { return Pack<T, kWidth>{}; }
  template <class T> HD void store(T* p, const Pack<T, kWidth>& v) const {
#ifdef __CUDA_ARCH__  // by hand: nvcc would store small numbers one by one
    if constexpr (sizeof v % 16 == 0) return store_words<uint4>(p + first, v);
    else if constexpr (sizeof v == 8) return store_words<uint2>(p + first, v);
#endif
    *reinterpret_cast<Pack<T, kWidth>*>(p + first) = v;
  }
  template <class F> HD void each(F f) const { FOVEA_UNROLL_BY(kWidth) for (int c = 0; c < kWidth; ++c) f(c); }
  template <class T, class F> HD void add(Pack<T, kWidth>& sum, int64_t n, F f) const {
    FOVEA_UNROLL_BY(4) for (int64_t k = 0; k < n; ++k) each([&](int64_t c) { sum[c] += f(k, c); });
  }

 private:
#ifdef __CUDA_ARCH__
  template <class Word, class T> HD static void store_words(T* to, const Pack<T, kWidth>& v) {
    Word words[sizeof v / sizeof(Word)];
    memcpy(words, &v, sizeof v);
    for (size_t i = 0; i < sizeof v / sizeof(Word); ++i) __stcg(reinterpret_cast<Word*>(to) + i, words[i]);
  }
#endif
};

// A body that can take several numbers of T says: static constexpr int kWidth = kLaneWidth<T>, and aligned(), whether
// all that it loads or stores begins at a multiple of 16 bytes.
template <class T> constexpr int kLaneWidth = 16 / sizeof(T);
template <class... T> bool all_aligned(const T*... p) { return ((reinterpret_cast<uintptr_t>(p) % 16 == 0) && ...); }

}  // namespace fovea
