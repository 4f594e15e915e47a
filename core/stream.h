// Results that no cache will hold: made in a small block of the nearest one, and sent to memory past all of them. An
// ordinary store that misses fetches the line it overwrites first, a third of the traffic of y = f(x).
#pragma once
#include <cstring>

#include "core/team.h"
#if FOVEA_X86_CLONES
#include <emmintrin.h>  // part of every x86-64
#endif

namespace fovea {

constexpr int64_t kLine = 64, kStreamBlock = 2048;  // bytes: of memory's unit; of a block

// From how many bytes on a result is streamed. Tests lower it.
inline int64_t& stream_least() {
  static int64_t bytes = int64_t{24} << 20;
  return bytes;
}

// Both begin at a line.
inline void stream_lines(void* to, const void* from, int64_t bytes) {
  int64_t i = 0;
#if FOVEA_X86_CLONES
  for (; i + kLine <= bytes; i += kLine)
    for (int64_t k = i; k < i + kLine; k += 16)
      _mm_stream_si128(reinterpret_cast<__m128i*>(static_cast<char*>(to) + k),
                       _mm_load_si128(reinterpret_cast<const __m128i*>(static_cast<const char*>(from) + k)));
#endif
  memcpy(static_cast<char*>(to) + i, static_cast<const char*>(from) + i, size_t(bytes - i));
}
inline void finish_streams() {  // before another thread may read them
#if FOVEA_X86_CLONES
  _mm_sfence();
#endif
}

// Neighbours of which a body makes one result, as it would of a `Few` (core/few.h): loaded from where they lie.
struct Streamed {
  int64_t first, count;
  void* block;
  static constexpr bool all = true;
  template <class T> const T* load(const T* p) const { return p + first; }
  template <class T> T* fresh(T*) const { return static_cast<T*>(block); }
  template <class T> void store(T* p, const T* made) const {
    stream_lines(p + first, made, count * int64_t{sizeof(T)});
  }
  template <class F> FOVEA_FLAT void each(F f) const { Solo{}.each(count, f); }
};

}  // namespace fovea
