// Boxes [x1,y1,x2,y2] in pixels, and their overlaps: the one place for box arithmetic, for both devices.
#pragma once
#include "core/platform.h"

namespace fovea {

template <class T> struct Box {
  T x1, y1, x2, y2;
  HD T width() const { return x2 - x1; }
  HD T height() const { return y2 - y1; }
  HD T area() const {  // degenerate: 0. NaN stays, so that iou() sees it: intersection() takes one of `a` for no limit
    const T w = width(), h = height(), product = w * h;
    return (w < h ? w : h) <= 0 ? T(0) : product;
  }
  // a b where both are positive, otherwise 0: without a branch, so that loops over boxes vectorise
  HD static T product_if(T a, T b) {
    const T both = a * b;
    return ((a > 0) & (b > 0)) ? both : T(0);
  }
};

template <class T> HD T intersection(const Box<T>& a, const Box<T>& b) {
  const T w = (a.x2 < b.x2 ? a.x2 : b.x2) - (a.x1 > b.x1 ? a.x1 : b.x1);
  const T h = (a.y2 < b.y2 ? a.y2 : b.y2) - (a.y1 > b.y1 ? a.y1 : b.y1);
  return Box<T>::product_if(w, h);
}
// |a n b| / |a u b|; 0 where one is degenerate or has a NaN.
template <class T> HD T iou(const Box<T>& a, const Box<T>& b) {
  const T both = intersection(a, b), either = a.area() + b.area() - both, quotient = both / either;
  return either > 0 ? quotient : T(0);
}
// |a n b| / |a|: how much of a lies inside b (crowd and ignore regions); 0 for a degenerate a.
template <class T> HD T ioa(const Box<T>& a, const Box<T>& b) {
  const T area = a.area();
  return area > 0 ? intersection(a, b) / area : T(0);
}

}  // namespace fovea
