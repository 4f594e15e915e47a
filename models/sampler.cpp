// Hard example mining: a heap gives the anchors by loss, so that only the walked part is ever sorted.
#include "models/sampler.h"

#include <algorithm>
#include <cmath>

namespace fovea {

void keep_hard(std::span<const Box<float>> anchors, std::span<const double> loss, const HardSampler& o, Matches& m) {
  std::vector<size_t> heap;
  size_t left = 0;  // positives in it
  for (size_t a = 0; a < anchors.size(); ++a)
    if (m.box[a] != Matches::ignored) heap.push_back(a), left += m.box[a] >= 0;
  const auto value = [&](size_t a) { return std::isnan(loss[a]) ? -1 : loss[a]; };
  const auto easier = [&](size_t a, size_t b) { return value(a) != value(b) ? value(a) < value(b) : a > b; };
  std::make_heap(heap.begin(), heap.end(), easier);
  std::vector<size_t> walked, positive, background;
  const size_t batch = static_cast<size_t>(o.batch);
  const float most_iou = static_cast<float>(o.nms);  // as nms() takes it: 0.3 is not more than 0.3
  const auto full = [&] {
    if (!o.one_to_three) return positive.size() + background.size() >= batch;
    const size_t most = std::min(positive.size() + left, batch / 4);  // positives are few: no walk for more than all
    return positive.size() >= most && background.size() >= 3 * most;
  };
  while (!heap.empty() && !full()) {
    std::pop_heap(heap.begin(), heap.end(), easier);
    const size_t a = heap.back();
    heap.pop_back();
    left -= m.box[a] >= 0;
    if (std::any_of(walked.begin(), walked.end(), [&](size_t b) { return iou(anchors[a], anchors[b]) > most_iou; }))
      continue;
    walked.push_back(a);
    (m.box[a] >= 0 ? positive : background).push_back(a);
  }
  if (o.one_to_three) {
    positive.resize(std::min(positive.size(), batch / 4));
    background.resize(std::min(background.size(), 3 * positive.size()));
  }
  std::vector<int64_t> kept(m.box.size(), Matches::ignored);
  for (const auto& list : {positive, background})
    for (size_t a : list) kept[a] = m.box[a];
  m.box = std::move(kept);
  m.positives = static_cast<int64_t>(positive.size());
  m.counted = static_cast<int64_t>(positive.size() + background.size());
}

}  // namespace fovea
