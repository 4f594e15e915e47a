// Boxes [x1,y1,x2,y2] in pixels: overlaps, the box coder of R-CNN, clipping. core/box.h has the arithmetic.
// All throw for shapes other than those named, for types other than f32 and f64, and where two inputs differ in type.
#pragma once
#include "core/tensor.h"

namespace fovea {

// a [N,4], b [M,4] -> [N,M]. No gradient. Degenerate boxes overlap nothing: 0, never NaN.
Tensor box_iou(const Tensor& a, const Tensor& b);
Tensor box_ioa(const Tensor& a, const Tensor& b);  // intersection / area of a: crowds and ignore regions

struct BoxCoder {
  double wx = 1, wy = 1, ww = 1, wh = 1;  // weights of the four deltas
  // centre    wx (cx - ax) / aw, wy (cy - ay) / ah, ww log(w / aw), wh log(h / ah)   (R-CNN, Girshick et al. 2014)
  // corners   wx (x1 - ax1) / aw, wy (y1 - ay1) / ah, ww (x2 - ax2) / aw, wh (y2 - ay2) / ah   (keras-retinanet)
  enum class Style { centre, corners } style = Style::centre;
  double least = 0;  // centre: log w and log h are of sides of at least this many pixels (encoding)
};

// Deltas from anchors. boxes [R,4], anchors [R,4] -> [R,4]. No gradient. Sides must be positive.
Tensor encode_boxes(const Tensor& boxes, const Tensor& anchors, BoxCoder coder = {});

// The inverse: deltas [..,4], anchors [..,4] (may lack leading axes of deltas: [N,R,4] with [R,4]) -> corners, like
// deltas. Log-sizes are clamped to at most log(1000/16). Gradient to deltas, 0 where clamped.
Tensor decode_boxes(const Tensor& deltas, const Tensor& anchors, BoxCoder coder = {});

// Corners moved into [0,w] x [0,h]. boxes [..,4]. No gradient.
Tensor clip_boxes(const Tensor& boxes, double h, double w);

}  // namespace fovea
