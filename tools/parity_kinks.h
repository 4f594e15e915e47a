// ReLU's kink and rounding: a gradient jumps where an activation crosses 0, so two correct programs may differ in it by
// far more than in the activation. Comparing gradients needs both to stand on the same side.
#pragma once
#include <memory>

#include "tools/parity_case.h"

namespace fovea {

struct Kinks {
  int64_t near = 0;   // activations whose distance from 0 is rounding
  int64_t moved = 0;  // of these, how many took the reference's side
};

// What the ReLU saw that made each of these maps; undefined for maps that come from elsewhere. Before backward.
std::vector<Tensor> inputs_of_relus(const std::vector<Tensor>& outputs, const RetinaNet& model);

// Call between step's forward and its backward(); `other` is the same step in the other precision. Their distance
// tells, channel by channel, how far rounding moves a value: activations not much farther from 0 are open. The gradient
// of a norm's (or a convolution's) bias is the sum of dy over the active units behind it, so the reference's bias
// gradients tell which of the open units were active there: as backward reaches a ReLU, these take the side that
// explains its bias gradient, if that explains more than the noise that channels without open units show. Everything
// else keeps its own side. The counts are complete when backward is.
std::shared_ptr<Kinks> take_sides(const ParityStep& step, const ParityStep& other, const ParityCase& c);

}  // namespace fovea
