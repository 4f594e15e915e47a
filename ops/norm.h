// Normalisation over channels x [..,C]: y = gamma (x - mean) / sqrt(var + eps) + beta. They differ in where the mean
// and the variance come from. x and y may be bf16: all else is f32 then. Variances are of differences from the mean,
// or, of columns on a device, from one of their rows (no E[x^2] - E[x]^2), so a large mean costs no accuracy. The ops
// throw for parameters that are not [C], of a wrong type or on another device.
#pragma once
#include <utility>

#include "core/tensor.h"

namespace fovea {

struct BatchNormOptions {
  bool training = false;  // statistics of the batch; otherwise the running ones
  double momentum = 0.1;  // running = (1 - momentum) running + momentum batch
  double eps = 1e-5;
  bool relu = false;  // y = max(0, y) in the same pass
};

// Ioffe and Szegedy 2015. gamma, beta, running_mean, running_var [C]. In training the running ones (may be undefined)
// are updated in place, with the unbiased variance, which one value a channel does not have: it leaves running_var.
// They never get a gradient. An empty batch updates nothing. Throws where only one of the two is given.
Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                  const Tensor& running_var, BatchNormOptions options = {});

// The same with constants for statistics: a scale and a shift a channel. Gradients to x, gamma, beta.
Tensor frozen_batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                         const Tensor& var, double eps = 1e-5, bool relu = false);

// {scale, shift} [C] of such a norm, y = scale x + shift, rounded as scale = gamma / sqrt(var + eps) and shift = beta -
// mean scale, op by op. Without the tape.
std::pair<Tensor, Tensor> frozen_affine(const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& var,
                                        double eps);

// Wu and He 2018. x [N,..,C]: statistics of each image and each of `groups` equal runs of channels. Throws where
// `groups` does not divide C.
Tensor group_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, int groups, double eps = 1e-5,
                  bool relu = false);

// Ba et al. 2016. Statistics of each row of C. For f32 and f64 alone.
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps = 1e-5);

}  // namespace fovea
