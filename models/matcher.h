// The matcher: which box each anchor of a batch has to find. Loops over pairs, memory for anchors + boxes, never a
// matrix. The same loops run on either device, and the processor need not know what they found.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/box.h"
#include "core/tensor.h"

namespace fovea {

// f32 [R,4] as boxes, where the tensor lies.
inline const Box<float>* box_data(const Tensor& t) { return static_cast<const Box<float>*>(t.raw()); }

// What an image holds, in pixels of the (resized, padded) network input.
struct Target {
  std::vector<Box<float>> boxes{};
  std::vector<int64_t> labels{};     // 0 .. classes - 1
  std::vector<Box<float>> ignore{};  // crowds, difficult boxes: anchors inside are not trained as background
  std::pair<int, int> size{0, 0};    // height, width without padding (for ignore_outside); 0: all of it
};

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

// What the anchors of one image have to find, on the processor.
struct Matches {
  static constexpr int64_t background = -1, ignored = -2;
  std::vector<int64_t> box;  // of each anchor, or one of the two above
  int64_t positives = 0;     // anchors with a box
  int64_t low_quality = 0;   // positives with an IoU below `high`
  int64_t counted = 0;       // positives as the normaliser sees them (differs for rule "background")
  int64_t unmatched = 0;     // boxes that no anchor is trained for
};

// What the anchors of a batch have to find, all of it on one device. No size depends on what was found.
struct Assignment {
  // Columns of `counts`: as in Matches, ignored anchors, and from kLevels on the positives of each level.
  enum Column : int64_t { kCounted, kLowQuality, kIgnored, kUnmatched, kLevels };
  std::vector<int64_t> levels;  // anchors of each level
  int64_t truths = 0;           // boxes of all images
  Tensor anchors;               // f32 [A,4]: of all levels, one after another
  Tensor boxes;                 // f32 [M,4]: of all images, one after another; M >= truths, the rest is empty
  Tensor labels;                // i64 [M]
  Tensor first;                 // i64 [N+1]: image n has the boxes first[n] .. first[n + 1] - 1
  Tensor box;                   // i64 [N,A]: which of its image's, or Matches::background or ignored
  Tensor counts;                // i64 [N, kLevels + levels]
  int64_t images() const { return box.dim(0); }
  int64_t count() const { return anchors.dim(0); }
};

// anchors: f32 [A,4], pixels, on the device that is to do it; levels: how many of them each level has. Equal IoU: the
// first box wins. Degenerate boxes (and NaN) have IoU 0. With ignore_outside, anchors centred beyond a target's size
// are ignored. Throws for an image without a label for each box, and Error{usage} for an unknown rule.
Assignment assign(const Tensor& anchors, const std::vector<int64_t>& levels, const std::vector<Target>& targets,
                  const MatcherOptions& options, bool ignore_outside = false);

// By image. Of a device: waits for it.
std::vector<Matches> to_matches(const Assignment& assignment);
// Puts other matches, of the same images, in the place of what was assigned.
void replace(Assignment& assignment, const std::vector<Matches>& matches);

// The same for one image on the processor.
Matches match(std::span<const Box<float>> anchors, std::span<const Box<float>> boxes,
              std::span<const Box<float>> ignore, const MatcherOptions& options);

}  // namespace fovea
