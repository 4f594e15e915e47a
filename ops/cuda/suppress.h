// Greedy suppression on a device: all pairs at once say who would suppress whom, a bit each; then one block walks
// the bits, 64 boxes at a time.
#pragma once
#include "core/box.h"
#include "ops/cuda/best.h"

namespace fovea::cuda {

struct Found {
  Box<float> box;
  float score, label;  // label < 0: none
};

// order[r] = the slot of rank r, of keys [levels, kBest], each level sorted: by score, then level, then place in it.
struct Rank {
  const uint64_t* keys;
  int64_t* order;
  int levels;
  HD static int64_t at_least(const uint64_t* list, uint64_t bound) {  // how many of a sorted list are
    int64_t begin = 0, end = kBest;
    while (begin < end) {
      const int64_t middle = (begin + end) / 2;
      if (list[middle] >= bound) begin = middle + 1;
      else end = middle;
    }
    return begin;
  }
  HD void operator()(int64_t slot) const {
    const int level = int(slot / kBest);
    const uint64_t score = keys[slot] >> 32;
    int64_t rank = slot % kBest;
    for (int l = 0; l < levels; ++l)
      if (l != level) rank += at_least(keys + l * kBest, (score + (l > level)) << 32);
    order[rank] = slot;
  }
};

// mask [count, words]: bit j of word w tells that the box of rank i suppresses that of rank 64 w + j, which is worse.
struct Overlaps {
  const Found* all;
  const int64_t* order;
  uint64_t* mask;
  int64_t count, words;
  float limit;
  HD void operator()(int64_t at) const {
    const int64_t i = at / words, first = at % words * 64, end = first + 64 < count ? first + 64 : count;
    const Found a = all[order[i]];
    uint64_t bits = 0;
    if (a.label >= 0)
      for (int64_t j = first > i ? first : i + 1; j < end; ++j) {
        const Found b = all[order[j]];
        if (a.label == b.label && iou(a.box, b.box) > limit) bits |= uint64_t{1} << (j - first);
      }
    mask[at] = bits;
  }
};

// out [most]: the boxes that stay, best first, then such as are none. Each lane has a word of 64 boxes. One block.
struct Greedy {
  static constexpr int kLanes = 128;
  struct Shared {
    uint64_t among[64], stay;  // of the word whose turn it is: who suppresses whom in it, and who stays
    int64_t found;
  };
  struct Lane {
    uint64_t gone;
  };
  const Found* all;
  const int64_t* order;
  const uint64_t* mask;
  int64_t count, words;
  int64_t* kept;  // [most]: ranks
  Found* out;
  int64_t most;

  template <class Tile> HD void operator()(Tile& tile, int64_t) const {
    tile.each([&](int lane, Lane& l, Shared& s) {
      l.gone = 0;
      for (int64_t b = 0, i = lane * 64; b < 64; ++b, ++i)
        if (i >= count || all[order[i]].label < 0) l.gone |= uint64_t{1} << b;
      if (lane == 0) s.found = 0;
    });
    for (int64_t w = 0; w < words; ++w) {
      tile.each([&](int lane, Lane&, Shared& s) {
        const int64_t i = w * 64 + lane;
        if (lane < 64) s.among[lane] = i < count ? mask[i * words + w] : 0;
      });
      tile.each([&](int lane, Lane& l, Shared& s) {
        if (lane == w) s.stay = walk(w, l.gone, s);
      });
      tile.each([&](int lane, Lane& l, Shared& s) {
        if (lane <= w || lane >= words) return;
        const uint64_t* column = mask + w * 64 * words + lane;
        for (uint64_t stay = s.stay; stay; stay >>= 1, column += words)
          if (stay & 1) l.gone |= *column;
      });
    }
    tile.each([&](int lane, Lane&, Shared& s) {
      for (int64_t i = lane; i < most; i += kLanes)
        out[i] = i < s.found ? all[order[kept[i]]] : Found{{0, 0, 0, 0}, 0, -1};
    });
  }

 private:
  HD uint64_t walk(int64_t w, uint64_t gone, Shared& s) const {
    uint64_t stay = 0;
    for (int b = 0; b < 64 && s.found < most; ++b) {
      if (gone >> b & 1) continue;
      stay |= uint64_t{1} << b, gone |= s.among[b];
      kept[s.found++] = w * 64 + b;
    }
    return stay;
  }
};

}  // namespace fovea::cuda
