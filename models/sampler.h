// Online hard example mining for dense detectors: which anchors a step trains, by their loss (paper, section 5.1).
#pragma once
#include <span>

#include "models/matcher.h"

namespace fovea {

struct HardSampler {
  int batch = 128;            // anchors of a picture
  double nms = 0.7;           // of anchors that overlap by more, the one of highest loss stays
  bool one_to_three = false;  // at most batch / 4 positives, and three background anchors for each of them
};

// Walks the anchors from the highest loss down, suppressing what overlaps a better one, and makes `ignored` what it
// does not keep. positives and counted follow: counted, which the normaliser divides by, is the number of kept anchors.
// low_quality and unmatched do not: retinanet_loss.cpp counts them anew.
// loss: of each anchor; those that are ignored already have no part. Equal losses: the first anchor wins. NaN is last.
void keep_hard(std::span<const Box<float>> anchors, std::span<const double> loss, const HardSampler& options,
               Matches& matches);

}  // namespace fovea
