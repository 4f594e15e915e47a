// Resizing images x [N,H,W,C] to [N,h,w,C], up or down, any size. They throw for another rank, an empty image and h or
// w below 1.
#pragma once
#include "core/tensor.h"

namespace fovea {

// y[i] = x[floor(i * H / h)], computed in f32 as torch's mode "nearest" does.
Tensor resize_nearest(const Tensor& x, int64_t h, int64_t w);

// Pixel centres at i + 1/2 (align_corners = false); no smoothing when shrinking.
Tensor resize_bilinear(const Tensor& x, int64_t h, int64_t w);

}  // namespace fovea
