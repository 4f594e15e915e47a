// Pooling over windows of images x [N,H,W,C]: maximum, average, and average over a grid of given size.
#pragma once
#include "core/tensor.h"
#include "ops/window.h"

namespace fovea {

struct PoolOptions {
  Int2 kernel = 2;
  Int2 stride = 0;        // 0: the kernel's size
  Int2 pad = 0;           // at most half the kernel
  bool ceil = false;      // a last window may hang over the edge, if it starts inside the image or its left padding
  bool count_pad = true;  // avg_pool2d: divide by the window's size with its padding, as torch does by default
};

// [N,H,W,C] -> [N,OH,OW,C]. Padding never wins; a tie goes to the first element of the window; NaN wins.
// Throws on a bad rank, a window or a stride below 1, a pad over half the kernel, and an empty output.
Tensor max_pool2d(const Tensor& x, PoolOptions options = {});
Tensor avg_pool2d(const Tensor& x, PoolOptions options = {});

// Window i of an axis covers [floor(i in / out), ceil((i + 1) in / out)): the windows cover all of the image.
Tensor adaptive_avg_pool2d(const Tensor& x, Int2 out);

}  // namespace fovea
