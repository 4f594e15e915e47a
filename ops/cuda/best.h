// The best of very many scores: blocks sort pieces of them in shared memory and keep what is best, then the lists that
// are left are put together in the same way. A sorting network compares the same pairs whatever the numbers are. Where
// more than a list is wanted, the same network sorts all in global memory.
#pragma once
#include <algorithm>

#include "core/math.h"
#include "core/tile.h"

namespace fovea::cuda {

constexpr int kBest = 1024;  // length of a list

// The bits of an f32 or f64 as a number in the order of theirs. -0 is 0; NaN is 0 here, below all.
template <class Word> HD Word in_order(Word bits) {
  constexpr Word sign = Word{1} << (8 * sizeof bits - 1);
  constexpr Word infinity = Word(sizeof bits == 4 ? 0x7f800000 : 0x7ff0000000000000);
  if ((bits & ~sign) > infinity) return 0;
  if (bits == sign) return sign;
  return bits & sign ? ~bits : bits | sign;
}
template <class T> HD auto order_of(T x) {
  std::conditional_t<sizeof x == 8, uint64_t, uint32_t> bits;
  memcpy(&bits, &x, sizeof bits);
  return in_order(bits);
}
// A score and its place as one number: the better is the larger, of equal scores the one of the lower place. No two are
// equal; 0 is none.
HD inline uint64_t key_of(uint32_t bits, int64_t place) {
  return (uint64_t{in_order(bits)} + 1) << 32 | (0xffffffff - uint64_t(place));
}
HD inline uint64_t key_of(float score, int64_t place) { return key_of(math::float_to_bits(score), place); }
HD inline float score_of(uint64_t key) {
  const uint32_t order = uint32_t(key >> 32) - 1;
  return math::bits_to_float(order >> 31 ? order ^ 0x80000000 : ~order);
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
struct AllScores {  // f32 [rows, n]
  const uint32_t* bits;
  int64_t n;
  HD uint64_t operator()(int64_t row, int64_t i) const { return key_of(bits[row * n + i], i); }
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

// Keys i64 [rows, kBest] of the best of each row of a source, sorted.
template <class Source> Tensor best_keys(Device device, int64_t rows, const Source& source) {
  check(source.n < int64_t{1} << 32, "best_keys: ", source.n, " scores; on a GPU fewer than 2^32");
  const int64_t pieces = (source.n + kBest - 1) / kBest, share = std::max<int64_t>(16, (pieces + 127) / 128);
  const int64_t blocks = (pieces + share - 1) / share;
  Tensor keys({rows, blocks * kBest}, DType::i64, device);
  auto* out = reinterpret_cast<uint64_t*>(keys.data<int64_t>());
  for_tiles(device, rows * blocks, KeepBest<Source>{source, out, blocks, share * kBest});
  return blocks == 1 ? keys : best_keys(device, rows, Lists{out, blocks * kBest});
}

// One score of all that are sorted, whatever its type.
struct Ranked {
  uint64_t order;  // of in_order()
  int64_t place;
  HD bool before(const Ranked& o) const { return order != o.order ? order > o.order : place < o.place; }
};
template <class Word> struct Rankable {
  const Word* bits;
  Ranked* out;
  HD void operator()(int64_t i) const { out[i].order = in_order(bits[i]), out[i].place = i; }
};
// One step of the network over n: pair p of elements that are `step` apart, or mirror images in 2 `step`. The better
// goes to the front, so what is missing behind the last would stay there.
struct Exchange {
  Ranked* all;
  int64_t n, step;
  bool mirror;
  HD void operator()(int64_t p) const {
    const int64_t i = p & (step - 1), a = 2 * p - i, b = mirror ? a + 2 * (step - i) - 1 : a + step;
    if (b >= n) return;
    const Ranked x = all[a], y = all[b];
    if (y.before(x)) all[a] = y, all[b] = x;
  }
};
template <class Word> Tensor sorted(Device device, const Word* bits, int64_t n) {  // Ranked [n], best first
  Tensor all({n, 2}, DType::i64, device);
  auto* ranked = static_cast<Ranked*>(all.raw());
  for_each(device, n, Rankable<Word>{bits, ranked});
  for (int64_t run = 1; run < n; run *= 2)
    for (int64_t step = run; step > 0; step /= 2)
      for_each(device, (n + 2 * step - 1) / (2 * step) * step, Exchange{ranked, n, step, step == run});
  return all;
}

}  // namespace fovea::cuda
