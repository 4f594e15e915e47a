// Soft suppression on a device: the best candidate is taken and lowers the scores of its class, again and again. Each
// step needs the one before it, so an image has one block, whose lanes share the candidates.
#pragma once
#include "core/box.h"
#include "ops/cuda/best.h"
#include "ops/nms.h"

namespace fovea::cuda {

// all [blocks, count] with scores, which are lowered; who is taken becomes none. out [blocks, most]: those, in the
// order in which they were taken, then such as are none. found [blocks]: how many, 0 beforehand.
template <class Item> struct Soften {
  static constexpr int kLanes = 512;
  struct Shared {
    Ranked best[kLanes];  // order 0: none
  };
  struct Lane {};
  Item* all;
  int64_t count;
  SoftNmsOptions options;
  Item* out;
  int64_t most;
  int64_t* found;

  template <class Tile> HD void operator()(Tile& tile, int64_t block) const {
    Item *const left = all + block * count, *const taken = out + block * most;
    int64_t* const n = found + block;
    tile.each([=, this](int lane, Lane&, Shared& s) { s.best[lane] = best_of(left, lane, nullptr); });
    for (int64_t k = 0; k < most && *n == k; ++k) {  // while each step takes one
      for (int half = kLanes / 2; half > 0; half /= 2)
        tile.each([=](int lane, Lane&, Shared& s) {
          if (lane < half && s.best[lane + half].before(s.best[lane])) s.best[lane] = s.best[lane + half];
        });
      tile.each([=, this](int lane, Lane&, Shared& s) {
        Item& best = left[s.best[0].place];
        if (lane > 0 || s.best[0].order == 0 || !(best.score >= typename Item::Number(options.min_score))) return;
        taken[k] = best, *n = k + 1;
        best.drop();
      });
      tile.each([=, this](int lane, Lane&, Shared& s) {
        if (*n > k) s.best[lane] = best_of(left, lane, taken + k);
      });
    }
    tile.each([=, this](int lane, Lane&, Shared&) {
      for (int64_t i = *n + lane; i < most; i += kLanes) taken[i].drop();
    });
  }

 private:
  // Of a lane's candidates, after what was taken, if any, lowered them.
  HD Ranked best_of(Item* left, int lane, const Item* taken) const {
    Ranked best{0, 0};
    for (int64_t i = lane; i < count; i += kLanes) {
      Item& item = left[i];
      if (item.none()) continue;
      if (taken && taken->label == item.label) item.score = options.lowered(item.score, iou(taken->box, item.box));
      const Ranked own{order_of(item.score), i};
      if (own.before(best)) best = own;
    }
    return best;
  }
};

}  // namespace fovea::cuda
