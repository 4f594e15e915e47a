// The matcher: which box each anchor has to find. Two passes over the pairs, memory for anchors + boxes, never a
// matrix.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/box.h"

namespace fovea {

struct MatcherOptions {
  double high = 0.5;        // IoU >= high: positive
  double low = 0.4;         // IoU < low: background; in between: ignored
  bool low_quality = true;  // the best anchors of a box are positive too, whatever their IoU above `floor`
  double floor = 0.05;      // ... and must have at least this IoU
  // argmax       a low-quality anchor keeps the box it overlaps most (torchvision, detectron2)
  // last         it goes to the box whose best anchor it is, the last such box winning (mmdetection)
  // background   it counts in the normaliser but is trained as background below `low` (Detectron)
  std::string rule = "argmax";
  double ignore_ioa = 0.5;  // background anchors with more than this part inside an ignore region are ignored; > 1: off
};

struct Matches {
  static constexpr int64_t background = -1, ignored = -2;
  std::vector<int64_t> box;  // of each anchor, or one of the two above
  std::vector<float> best;   // of each box: the highest IoU with an anchor
  int64_t positives = 0;     // anchors with a box
  int64_t low_quality = 0;   // positives with an IoU below `high`
  int64_t counted = 0;       // positives as the normaliser sees them (differs for rule "background")
  int64_t unmatched = 0;     // boxes that no anchor is trained for
};

// Boxes in pixels. Equal IoU: the first box wins. Degenerate boxes (and NaN) have IoU 0.
template <class T>
Matches match(std::span<const Box<T>> anchors, std::span<const Box<T>> boxes, std::span<const Box<T>> ignore,
              const MatcherOptions& options);

}  // namespace fovea
