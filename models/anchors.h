// Anchors: the boxes of fixed size and shape, centred on every cell of every pyramid level, that the network corrects
// (paper, section 4).
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "core/box.h"
#include "core/tensor.h"

namespace fovea {

// Level l (3 for P3) has cells of 2^l pixels, and anchors of area (base * 2^l * scale)^2 for every scale and ratio.
struct AnchorOptions {
  // exact        real numbers, centred at offset * stride
  // detectron2   the same, but scales outside and ratios inside: for its weights
  // detectron    the order of detectron2, shapes rounded at the smallest size, centred at stride / 2. Detectron itself
  //              counts pixels (x2 is the last one inside) and adds 1 wherever it needs a width: x2 is ours - 1
  // torchvision  sizes cut to integers, half sides rounded, steps of image / map size: for torchvision's weights
  std::string style = "exact";
  double base = 4;
  std::vector<double> scales = {1, 1.2599210498948732, 1.5874010519681994};  // 2^(0, 1/3, 2/3)
  std::vector<double> ratios = {0.5, 1, 2};                                  // height / width
  double offset = 0;  // of the first centre, in cells (styles exact, detectron2)
  int count() const { return static_cast<int>(scales.size() * ratios.size()); }  // anchors of a cell
};

// The anchors of the cell (0, 0): ratios outside, scales inside (detectron, detectron2: scales outside).
std::vector<Box<double>> cell_anchors(const AnchorOptions& options, int level);

// Pixels from one centre to the next, down and across: 2^level, but for torchvision's style image / map size (an image
// of 800 pixels has a P7 of 7 cells: 114).
std::pair<int64_t, int64_t> anchor_step(const AnchorOptions& options, int level, std::pair<int64_t, int64_t> map_hw,
                                        std::pair<int64_t, int64_t> image_hw);

// All anchors of one level, f32 [H * W * A, 4], in the order of a head's output: rows, columns, anchors of the cell.
Tensor make_anchors(const AnchorOptions& options, int level, std::pair<int64_t, int64_t> map_hw,
                    std::pair<int64_t, int64_t> image_hw);

// The highest IoU of each box with an anchor of P3 .. `last_level` of an image, without making the anchors. Of all
// anchors of a shape, the one with the nearest centre on each axis overlaps most. Throws for an image without pixels.
std::vector<float> best_anchor_iou(const AnchorOptions& options, int last_level, std::pair<int64_t, int64_t> image_hw,
                                   const std::vector<Box<float>>& boxes);

}  // namespace fovea
