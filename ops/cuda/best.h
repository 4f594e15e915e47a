// The best of very many scores: blocks sort pieces of them in shared memory and keep what is best, then the lists that
// are left are put together in the same way. A sorting network compares the same pairs whatever the numbers are.
#pragma once
#include "core/math.h"
#include "core/tile.h"

namespace fovea::cuda {

constexpr int kBest = 1024;  // length of a list

// A score >= 0 and its place as one number: the better is the larger, of equal scores the one of the lower place. No
// two are equal; 0 is none.
HD inline uint64_t key_of(float score, int64_t place) {
  uint32_t bits;
  memcpy(&bits, &score, sizeof bits);  // in the order of the numbers
  return (uint64_t{bits} + 1) << 32 | (0xffffffff - uint64_t(place));
}
HD inline float score_of(uint64_t key) {
  const uint32_t bits = uint32_t(key >> 32) - 1;
  float score;
  memcpy(&score, &bits, sizeof score);
  return score;
}
HD inline int64_t place_of(uint64_t key) { return 0xffffffff - int64_t(key & 0xffffffff); }

// Keys of values [rows, n], which are logits or scores themselves; NaN is above no limit.
template <class T> struct Scores {
  const T* values;
  int64_t n;
  float limit;
  bool logits;
  HD uint64_t operator()(int64_t row, int64_t i) const {
    const T v = values[row * n + i];
    const float score = float(logits ? math::sigmoid(v) : v);
    return score > limit ? key_of(score, i) : 0;
  }
};
struct Lists {  // [rows, n], sorted pieces of kBest
  const uint64_t* keys;
  int64_t n;
  HD uint64_t operator()(int64_t row, int64_t i) const { return keys[row * n + i]; }
};

// out [rows, blocks, kBest]: of each block's share of a row the best, sorted.
template <class Source> struct KeepBest {
  static constexpr int kLanes = 256;
  static constexpr bool kSorted = std::is_same_v<Source, Lists>;
  struct Shared {
    uint64_t key[2 * kBest];  // the best so far, and a piece
  };
  struct Lane {};
  Source source;
  uint64_t* out;
  int64_t blocks, share;

  template <class Tile> HD void operator()(Tile& tile, int64_t block) const {
    const int64_t row = block / blocks, begin = block % blocks * share;
    const int64_t end = begin + share < source.n ? begin + share : source.n;
    tile.each([](int lane, Lane&, Shared& s) {
      for (int i = lane; i < kBest; i += kLanes) s.key[i] = 0;
    });
    for (int64_t at = begin; at < end; at += kBest) {
      tile.each([&](int lane, Lane&, Shared& s) {
        for (int i = lane; i < kBest; i += kLanes) s.key[kBest + i] = at + i < end ? source(row, at + i) : 0;
      });
      if (!kSorted) join(tile, kBest, kBest, 1);
      join(tile, 0, 2 * kBest, kBest);
    }
    tile.each([&](int lane, Lane&, Shared& s) {
      for (int i = lane; i < kBest; i += kLanes) out[block * kBest + i] = s.key[i];
    });
  }

 private:
  // Sorts `count` keys, best first, that are sorted runs of `run` keys: two runs become one by comparing their ends
  // crosswise, then elements further and further in (Batcher's bitonic network).
  template <class Tile> HD static void join(Tile& tile, int first, int count, int run) {
    for (int size = 2 * run; size <= count; size *= 2)
      for (int step = size / 2; step > 0; step /= 2)
        tile.each([=](int lane, Lane&, Shared& s) {
          for (int p = lane; p < count / 2; p += kLanes) {
            const int start = first + p / step * 2 * step, i = p % step;
            uint64_t &a = s.key[start + i], &b = s.key[step == size / 2 ? start + size - 1 - i : start + step + i];
            const uint64_t x = a, y = b;
            a = x > y ? x : y, b = x > y ? y : x;
          }
        });
  }
};

}  // namespace fovea::cuda
