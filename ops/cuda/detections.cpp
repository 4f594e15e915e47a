// The steps of the tail: best scores of each level, decoding, clipping, suppression. All sizes are known beforehand,
// so that nothing waits: what was not found is an empty slot.
#include "ops/cuda/detections.h"

#include "ops/cuda/soften.h"
#include "ops/cuda/suppress.h"

namespace fovea::cuda {
namespace {

uint64_t* words(const Tensor& t) { return reinterpret_cast<uint64_t*>(t.data<int64_t>()); }
Found* rows(const Tensor& t) { return static_cast<Found*>(t.raw()); }

// Of the p-th best score of a level, in each image: its key, and what its box is decoded from.
template <class T> struct Fetch {
  const uint64_t* best;
  const T* deltas;
  const Box<float>* anchors;
  int64_t anchors_count, classes, top, slots, first;
  uint64_t* keys;
  Box<T>*from, *cells;
  HD void operator()(int64_t i) const {
    const int64_t image = i / kBest, p = i % kBest, slot = image * slots + first + p;
    const uint64_t key = p < top ? best[i] : 0;
    const int64_t anchor = key ? place_of(key) / classes : 0;
    const T* d = deltas + 4 * (image * anchors_count + anchor);
    const Box<float> a = anchors[anchor];
    keys[slot] = key, from[slot] = {d[0], d[1], d[2], d[3]}, cells[slot] = {T(a.x1), T(a.y1), T(a.x2), T(a.y2)};
  }
};
// Boxes that are not finite before they are clipped are none.
template <class T> struct Finish {
  const uint64_t* keys;
  const Box<T>*decoded, *clipped;
  Found* all;
  int64_t classes;
  HD void operator()(int64_t i) const {
    const Box<T> d = decoded[i], c = clipped[i];
    const float sum = float(d.x1) + float(d.y1) + float(d.x2) + float(d.y2);
    const uint64_t key = keys[i];
    all[i] = {{float(c.x1), float(c.y1), float(c.x2), float(c.y2)},
              key ? score_of(key) : 0,
              key && sum - sum == 0 ? float(place_of(key) % classes) : -1};
  }
};

template <class T>
Tensor run(const std::vector<DetectionLevel>& levels, const std::vector<std::pair<int, int>>& image_hw,
           const DetectionOptions& o) {
  const Device device = levels[0].values.device();
  const int64_t images = levels[0].values.dim(0), classes = levels[0].values.dim(2);
  const int64_t slots = int64_t(levels.size()) * kBest;
  const Tensor deltas({images, slots, 4}, dtype_of<T>, device), cells = empty_like(deltas);
  const Tensor keys({images, slots}, DType::i64, device), all({images, slots, 6}, DType::f32, device);
  const auto boxes = [](const Tensor& t) { return reinterpret_cast<Box<T>*>(t.data<T>()); };
  for (size_t l = 0; l < levels.size(); ++l) {
    const auto& [values, d, anchors, threshold] = levels[l];
    const Scores<T> scores{values.data<T>(), values.size() / images, threshold, o.logits};
    const Tensor best = best_keys(device, images, scores), there = anchors.to(device);
    for_each(device, images * kBest,
             Fetch<T>{words(best), d.data<T>(), reinterpret_cast<const Box<float>*>(there.data<float>()), d.dim(1),
                      classes, o.top, slots, int64_t(l) * kBest, words(keys), boxes(deltas), boxes(cells)});
  }
  const Tensor decoded = decode_boxes(deltas, cells, o.coder);
  const Tensor out({images, o.most, 6}, DType::f32, device);
  for (int64_t i = 0; i < images; ++i) {
    const auto one = [i](const Tensor& t) { return t.rows(i, i + 1); };
    const auto& [h, w] = image_hw[size_t(i)];
    const Tensor clipped = clip_boxes(one(decoded), h, w);
    for_each(device, slots, Finish<T>{words(one(keys)), boxes(one(decoded)), boxes(clipped), rows(one(all)), classes});
    if (o.soft) continue;
    const Tensor order({slots}, DType::i64, device);
    for_each(device, slots, Rank{words(one(keys)), order.data<int64_t>(), int(levels.size())});
    suppress(device, rows(one(all)), order.data<int64_t>(), slots, o.iou, rows(one(out)), o.most, nullptr);
  }
  if (o.soft) {
    const Tensor found = Tensor::zeros({images}, DType::i64, device);
    for_tiles(device, images, Soften<Found>{rows(all), slots, *o.soft, rows(out), o.most, found.data<int64_t>()});
  }
  return out;
}

}  // namespace

Tensor detections(const std::vector<DetectionLevel>& levels, const std::vector<std::pair<int, int>>& image_hw,
                  const DetectionOptions& options) {
  check(options.top <= kBest, "detections: ", options.top, " scores of a level; on a GPU at most ", kBest);
  return dispatch_float(levels.at(0).values.dtype(), [&]<class T>() { return run<T>(levels, image_hw, options); });
}

}  // namespace fovea::cuda
