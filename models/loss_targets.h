// What the losses compare the network's outputs with, made from an assignment on the device where it lies.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/matcher.h"

namespace fovea {

// i64 [N,A of the level]: class labels, or Matches::background or ignored.
Tensor labels_of(const Assignment& assignment, size_t level);

// What the sums of each image's losses are multiplied by, f64 [N]: see RetinaNetOptions::normaliser. running, f32 or
// f64 [1]: for "ema" the mean of the positives, which is updated first where `update`; otherwise undefined.
Tensor loss_scales(const Assignment& assignment, const std::string& normaliser, const Tensor& running, bool update);

// The rows that the box loss compares, level by level, in each image by image. On the processor the positive anchors
// alone. On a device all anchors, so that no size depends on what was found: where there is no box an anchor itself has
// to be found, with weight 0.
struct BoxRows {
  std::vector<Tensor> index;      // i64, by level: which of its [N*A] anchors; none: all of them
  Tensor anchors, boxes, weight;  // [R,4], [R,4], [R]; weight: scale[n] * factor
};
BoxRows box_rows(const Assignment& assignment, const Tensor& scale, double factor, DType type);

// Of labels [N,R] for a softmax over the background and the classes: the place of each, i64 [N*R], and its weight
// [N,R]: alpha, 1 - alpha for the background (no alpha: 1), 0 where ignored.
std::pair<Tensor, Tensor> softmax_targets(const Tensor& labels, std::optional<double> alpha, DType type);

}  // namespace fovea
