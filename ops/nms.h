// Non-maximum suppression: of boxes that overlap by more than a threshold, the best stays. The order is total (score
// descending, then index ascending), so the result is one set for every machine. Boxes whose score is NaN are never
// kept. All throw for shapes other than those named, boxes and scores of two types, and classes that are not i64.
#pragma once
#include "core/math.h"
#include "core/tensor.h"

namespace fovea {

// boxes [R,4], scores [R] -> i64 [K]: kept indices, best first. A box goes if its IoU with a kept better one is >
// `iou`.
Tensor nms(const Tensor& boxes, const Tensor& scores, double iou);

// Boxes of different classes i64 [R] do not suppress each other. Undefined classes: all one class.
Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& classes, double iou);

// Bodla et al. 2017: an overlap lowers the score instead.
enum class SoftNmsMethod { linear, gaussian };
struct SoftNmsOptions {
  SoftNmsMethod method = SoftNmsMethod::gaussian;
  double iou = 0.3;          // linear: score *= 1 - IoU where IoU > iou
  double sigma = 0.5;        // gaussian: score *= exp(-IoU^2 / sigma)
  double min_score = 0.001;  // boxes below it are dropped
  // Of a box whose IoU with a better one of its class is `overlap`.
  template <class T> HD T lowered(T score, T overlap) const {
    if (method == SoftNmsMethod::gaussian) return score * T(math::exp(-double(overlap) * double(overlap) / sigma));
    return overlap > T(iou) ? score * (1 - overlap) : score;
  }
};
struct SoftNms {
  Tensor indices, scores;
};  // i64 [K] and their lowered scores, best first; none that became NaN (0 * infinity)
// Throws for a sigma that is not above 0, too.
SoftNms soft_nms(const Tensor& boxes, const Tensor& scores, const Tensor& classes, SoftNmsOptions options = {});

}  // namespace fovea
