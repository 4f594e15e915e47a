// The pixels of NHWC images, one a row of channels.
#pragma once
#include <cstdint>

#include "core/platform.h"

namespace fovea {

struct Pixel {
  int64_t image, y, x;
};
struct Range {  // of rows or columns
  int64_t begin, end;
  HD int64_t size() const { return end - begin; }
};
struct Pixels {  // of images of this size
  int64_t height, width;

  HD Pixel at(int64_t row) const {
    const int64_t line = row / width, image = line / height;
    return {image, line - image * height, row - line * width};
  }
  // f(row, pixel) for the rows [first, first + n), without a division for each.
  template <class F> HD void each(int64_t first, int64_t n, F f) const {
    Pixel p = at(first);
    for (int64_t row = first; row < first + n; ++row) {
      f(row, p);
      if (++p.x < width) continue;
      p.x = 0;
      if (++p.y < height) continue;
      p.y = 0, ++p.image;
    }
  }
};

}  // namespace fovea
