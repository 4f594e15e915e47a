// What counts as a candidate and what suppresses it: shared by detect() and its trace. Internal to models/.
#pragma once
#include <cmath>

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

}  // namespace fovea::detail
