// What counts as a candidate and what suppresses it: shared by detect() and its trace. Internal to models/.
#pragma once
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "models/retinanet.h"
#include "ops/shape.h"
#include "ops/softmax.h"

namespace fovea::detail {

// IoU > it suppresses.
inline float nms_limit(const RetinaNetOptions& o) {
  const float highest = static_cast<float>(o.nms_threshold);
  return o.nms_at_threshold ? std::nextafter(highest, -1.0f) : highest;
}

// A score > it is a candidate.
inline double threshold_of(const RetinaNetOptions& o, const RetinaNet::Output& output, size_t level) {
  const bool last = level + 1 == output.logits.size() && o.last_threshold >= 0;
  return last ? o.last_threshold : o.score_threshold;
}

// Logits, whose sigmoids are the scores, or of a softmax the probabilities of the classes.
inline Tensor logits_or_probabilities(const RetinaNetOptions& o, const Tensor& logits) {
  return o.loss.kind == "softmax" ? slice(softmax(logits), 2, 1, o.classes + 1) : logits;
}

// The anchors at these places of a level, moved by their deltas and clipped; none where that is not finite.
template <class T>
std::vector<std::optional<Box<float>>> boxes_of(const RetinaNetOptions& o, const std::vector<int64_t>& places,
                                                const T* deltas, const float* anchors, std::pair<int, int> hw) {
  Tensor rows({static_cast<int64_t>(places.size()), 4}, dtype_of<T>), cells(rows.shape());
  for (size_t i = 0; i < places.size(); ++i) {
    std::copy_n(deltas + 4 * places[i], 4, rows.data<T>() + 4 * i);
    std::copy_n(anchors + 4 * places[i], 4, cells.data<float>() + 4 * i);
  }
  const Tensor decoded = decode_boxes(rows, cells.to(dtype_of<T>), o.coder).to(DType::f32);
  const Tensor clipped = clip_boxes(decoded, hw.first, hw.second);
  std::vector<std::optional<Box<float>>> boxes(places.size());
  for (size_t i = 0; i < places.size(); ++i) {
    const Box<float>& b = box_data(decoded)[i];
    if (std::isfinite(b.x1 + b.y1 + b.x2 + b.y2)) boxes[i] = box_data(clipped)[i];
  }
  return boxes;
}

}  // namespace fovea::detail
