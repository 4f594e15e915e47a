// The tail of a detector on a device, from the outputs of its heads to boxes, without a word from the processor.
#pragma once
#include <optional>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "ops/box_ops.h"
#include "ops/nms.h"

namespace fovea::cuda {

struct DetectionLevel {
  Tensor values, deltas, anchors;  // [N,R,K] logits or scores >= 0, [N,R,4] of the same type, f32 [R,4]
  float threshold;                 // kept: score > threshold
};
struct DetectionOptions {
  bool logits;  // whether values are
  int64_t top;  // best scores of a level, at most kBest
  BoxCoder coder;
  float iou;                                // suppressed: IoU > iou with a better one that is kept
  int64_t most;                             // kept of an image
  std::optional<SoftNmsOptions> soft = {};  // lowers scores instead; min_score >= 0
};

// image_hw: height and width that each image's boxes are clipped to. Returns f32 [N,most,6] on the device of the
// levels: x1, y1, x2, y2, score, label, best first; label -1 where there are no more. Equal scores: lower level, then
// lower place in [R,K]. Throws Error{failure} for levels of 2^32 values or more.
Tensor detections(const std::vector<DetectionLevel>& levels, const std::vector<std::pair<int, int>>& image_hw,
                  const DetectionOptions& options);

}  // namespace fovea::cuda
