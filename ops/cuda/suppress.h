// Greedy suppression on a device: all pairs at once say who would suppress whom, a bit each; then one block walks
// the bits, 64 boxes at a time.
#pragma once
#include "core/box.h"
#include "ops/cuda/best.h"

namespace fovea::cuda {

struct Found {
  using Number = float;
  Box<float> box;
  float score, label;  // label < 0: none
  HD bool none() const { return label < 0; }
  HD void drop() { label = -1; }
};
template <class T> struct Candidate {
  using Number = T;
  Box<T> box;
  int64_t label, index;  // index < 0: none
  HD bool none() const { return index < 0; }
  HD void drop() { index = -1; }
};
template <class Item> HD bool suppresses(const Item& a, const Item& b, typename Item::Number limit) {
  return a.label == b.label && iou(a.box, b.box) > limit;
}

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
template <class Item> struct Overlaps {
  const Item* all;
  const int64_t* order;
  uint64_t* mask;
  int64_t count, words;
  typename Item::Number limit;
  HD void operator()(int64_t at) const {
    const int64_t i = at / words, first = at % words * 64, end = first + 64 < count ? first + 64 : count;
    const Item a = all[order[i]];
    uint64_t bits = 0;
    if (!a.none())
      for (int64_t j = first > i ? first : i + 1; j < end; ++j)
        if (suppresses(a, all[order[j]], limit)) bits |= uint64_t{1} << (j - first);
    mask[at] = bits;
  }
};

// What a box that was kept before suppresses is none.
template <class Item> struct Earlier {
  Item* all;
  const int64_t* order;
  const Item* kept;
  const int64_t* found;
  typename Item::Number limit;
  HD void operator()(int64_t i) const {
    Item& item = all[order[i]];
    for (int64_t k = 0; k < *found && !item.none(); ++k)
      if (suppresses(kept[k], item, limit)) item.drop();
  }
};

// out [most]: the boxes that stay, best first, behind the `found` that were kept before; where nobody counts them, then
// such as are none. Each lane has a word of 64 boxes. One block.
template <class Item> struct Greedy {
  static constexpr int kLanes = 128;
  struct Shared {
    uint64_t among[64], stay;  // of the word whose turn it is: who suppresses whom in it, and who stays
    int64_t before, found;
  };
  struct Lane {
    uint64_t gone;
  };
  const Item* all;
  const int64_t* order;
  const uint64_t* mask;
  int64_t count, words;
  int64_t* kept;  // [most]: ranks
  Item* out;
  int64_t most;
  int64_t* found;  // or null

  template <class Tile> HD void operator()(Tile& tile, int64_t) const {
    tile.each([&](int lane, Lane& l, Shared& s) {
      l.gone = 0;
      for (int64_t b = 0, i = lane * 64; b < 64; ++b, ++i)
        if (i >= count || all[order[i]].none()) l.gone |= uint64_t{1} << b;
      if (lane == 0) s.before = s.found = found ? *found : 0;
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
      for (int64_t i = s.before + lane; i < (found ? s.found : most); i += kLanes) {
        Item item{};
        item.drop();
        out[i] = i < s.found ? all[order[kept[i]]] : item;
      }
      if (lane == 0 && found) *found = s.found;
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

// Of all [count], which `order` ranks, the first `most` that stay, best first, to out [most]. `found`: how many, 0
// beforehand. Without it the rest of out is none. Each band of ranks is held against those that stay of the bands
// before; of all that are held against each other there is a bit.
template <class Item>
void suppress(Device device, Item* all, const int64_t* order, int64_t count, typename Item::Number limit, Item* out,
              int64_t most, int64_t* found) {
  constexpr int64_t band = 64 * Greedy<Item>::kLanes;
  check(found || count <= band, "suppression of ", count, " candidates; on a GPU at most ", band);
  const int64_t height = std::min(count, band), width = (height + 63) / 64;
  Tensor mask({height, width}, DType::i64, device), kept({most}, DType::i64, device);
  auto* bits = static_cast<uint64_t*>(mask.raw());
  for (int64_t first = 0; first < count || first == 0; first += band, order += band) {
    const int64_t n = std::min(count - first, band), words = (n + 63) / 64;
    if (first > 0) for_each(device, n, Earlier<Item>{all, order, out, found, limit});
    for_each(device, n * words, Overlaps<Item>{all, order, bits, n, words, limit});
    for_tiles(device, 1, Greedy<Item>{all, order, bits, n, words, kept.data<int64_t>(), out, most, found});
  }
}

}  // namespace fovea::cuda
