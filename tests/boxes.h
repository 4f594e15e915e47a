// Whether boxes are the same ones, in all of their numbers.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/box.h"

namespace fovea::test {

template <class T> bool same_box(const Box<T>& a, const Box<T>& b, double margin = 0) {  // no margin holds for NaN
  return std::abs(a.x1 - b.x1) <= margin && std::abs(a.y1 - b.y1) <= margin && std::abs(a.x2 - b.x2) <= margin &&
         std::abs(a.y2 - b.y2) <= margin;
}
template <class T> bool same_boxes(const std::vector<Box<T>>& a, const std::vector<Box<T>>& b, double margin = 0) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](auto& one, auto& other) { return same_box(one, other, margin); });
}

}  // namespace fovea::test
