// A pair of sizes along height and width: kernels, strides, paddings, dilations.
#pragma once

namespace fovea {

struct Int2 {
  int h, w;
  constexpr Int2(int both) : h(both), w(both) {}
  constexpr Int2(int h, int w) : h(h), w(w) {}
  constexpr bool operator==(const Int2&) const = default;
};

}  // namespace fovea
