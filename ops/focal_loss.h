// The sigmoid focal loss of RetinaNet (Lin et al. 2017), fused: value and closed-form gradient, without overflow.
// All three throw for other shapes, labels outside -2..K-1 (on a device, where reading them would wait, the caller
// vouches for them) and options out of the ranges below.
#pragma once
#include <optional>

#include "core/tensor.h"

namespace fovea {

struct FocalOptions {
  std::optional<double> alpha = 0.25;  // weight of positives (0..1), 1 - alpha of negatives; none: 1 and 1
  double gamma = 2;                    // >= 0; 0 is the cross entropy
};

// logits [N,R,K] f32 or f64, labels [N,R] i64: class 0..K-1, -1 background (all K terms negative), -2 ignored (no
// term). Returns [N], the sum over each image; the caller divides by the number of positives. Paper eq. 5, gradient
// Appendix B. Value and gradient are finite for every finite logit up to 1e4 and gamma of 0 to 1e30.
Tensor sigmoid_focal_loss(const Tensor& logits, const Tensor& labels, FocalOptions options = {});

struct FocalStarOptions {
  std::optional<double> alpha = 0.25;
  double gamma = 2, beta = 1;  // gamma > 0
};

// Appendix A: FL* = -log(sigmoid(gamma x_t + beta)) / gamma.
Tensor focal_loss_star(const Tensor& logits, const Tensor& labels, FocalStarOptions options = {});

struct HingeOptions {
  std::optional<double> alpha = 0.25;
  double margin = 0.9;  // above 0, at most 1: no loss where p_t is above
};

// Section 5.1: max(0, margin - p_t). Not convex, and flat for the worst logits: the paper could not train with it.
Tensor sigmoid_hinge_loss(const Tensor& logits, const Tensor& labels, HingeOptions options = {});

}  // namespace fovea
