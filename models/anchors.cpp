// Anchors of a cell in the four styles, and the grid of them over a level.
#include "models/anchors.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fovea {
namespace {

// Corners with the given size around (0, 0).
Box<double> centred(double w, double h) { return {-w / 2, -h / 2, w / 2, h / 2}; }

std::vector<Box<double>> exact_cell(const AnchorOptions& o, double stride) {
  std::vector<Box<double>> cell;
  const bool scales_outside = o.style == "detectron2";
  for (double outer : scales_outside ? o.scales : o.ratios)
    for (double inner : scales_outside ? o.ratios : o.scales) {
      const double scale = scales_outside ? outer : inner, ratio = scales_outside ? inner : outer;
      const double size = o.base * stride * scale, w = size / std::sqrt(ratio);
      cell.push_back(centred(w, w * ratio));
    }
  return cell;
}

std::vector<Box<double>> detectron_cell(const AnchorOptions& o, double stride) {
  std::vector<Box<double>> cell;
  for (double scale : o.scales)
    for (double ratio : o.ratios) {
      const double w = std::nearbyint(std::sqrt(stride * stride / ratio)), h = std::nearbyint(w * ratio);
      cell.push_back(centred(w * o.base * scale, h * o.base * scale));
    }
  return cell;
}

// In f32 and rounding half to even, as torch does.
std::vector<Box<double>> torchvision_cell(const AnchorOptions& o, double stride) {
  std::vector<Box<double>> cell;
  for (double ratio : o.ratios)
    for (double scale : o.scales) {
      const float size = static_cast<float>(std::floor(o.base * stride * scale));
      const float root = std::sqrt(static_cast<float>(ratio));
      const float w = std::nearbyint(1 / root * size / 2), h = std::nearbyint(root * size / 2);
      cell.push_back({-w, -h, w, h});
    }
  return cell;
}

// Where the centres of a level's cells are, in pixels.
struct Grid {
  double first_y, first_x, step_y, step_x;
  Grid(const AnchorOptions& o, int level, std::pair<int64_t, int64_t> map, std::pair<int64_t, int64_t> image) {
    const auto [down, across] = anchor_step(o, level, map, image);
    step_y = static_cast<double>(down), step_x = static_cast<double>(across);
    const double offset = o.style == "torchvision" ? 0 : o.style == "detectron" ? 0.5 : o.offset;
    first_y = offset * step_y, first_x = offset * step_x;
  }
};

// The centre nearest to v.
double nearest(double v, double first, double step, int64_t count) {
  return first + step * std::clamp(std::round((v - first) / step), 0.0, static_cast<double>(count - 1));
}

}  // namespace

std::vector<Box<double>> cell_anchors(const AnchorOptions& options, int level) {
  const double stride = static_cast<double>(int64_t{1} << level);
  if (options.style == "detectron") return detectron_cell(options, stride);
  if (options.style == "torchvision") return torchvision_cell(options, stride);
  check(Code::usage, options.style == "exact" || options.style == "detectron2", "anchors: style '", options.style,
        "' is unknown\n  hint: exact, detectron, detectron2 or torchvision");
  return exact_cell(options, stride);
}

std::pair<int64_t, int64_t> anchor_step(const AnchorOptions& options, int level, std::pair<int64_t, int64_t> map_hw,
                                        std::pair<int64_t, int64_t> image_hw) {
  if (options.style != "torchvision") return {int64_t{1} << level, int64_t{1} << level};
  const auto step = [](int64_t pixels, int64_t cells) { return cells > 0 ? pixels / cells : 0; };
  return {step(image_hw.first, map_hw.first), step(image_hw.second, map_hw.second)};
}

Tensor make_anchors(const AnchorOptions& options, int level, std::pair<int64_t, int64_t> map_hw,
                    std::pair<int64_t, int64_t> image_hw) {
  const auto cell = cell_anchors(options, level);
  const auto [rows, columns] = map_hw;
  const Grid grid(options, level, map_hw, image_hw);
  Tensor anchors({rows * columns * static_cast<int64_t>(cell.size()), 4});
  float* out = anchors.data<float>();
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < columns; ++x)
      for (const auto& box : cell) {
        const double cx = grid.first_x + static_cast<double>(x) * grid.step_x;
        const double cy = grid.first_y + static_cast<double>(y) * grid.step_y;
        for (double v : {cx + box.x1, cy + box.y1, cx + box.x2, cy + box.y2}) *out++ = static_cast<float>(v);
      }
  return anchors;
}

std::vector<float> best_anchor_iou(const AnchorOptions& options, int last_level, std::pair<int64_t, int64_t> image_hw,
                                   const std::vector<Box<float>>& boxes) {
  check(image_hw.first > 0 && image_hw.second > 0, "anchors: an image of ", image_hw.first, " x ", image_hw.second,
        " pixels has none");
  std::vector<float> best(boxes.size(), 0);
  for (int level = 3; level <= last_level; ++level) {
    const int64_t cell = int64_t{1} << level, rows = (image_hw.first + cell - 1) / cell,
                  columns = (image_hw.second + cell - 1) / cell;
    const Grid grid(options, level, {rows, columns}, image_hw);
    const auto shapes = cell_anchors(options, level);
    for (size_t i = 0; i < boxes.size(); ++i) {
      const Box<double> box{boxes[i].x1, boxes[i].y1, boxes[i].x2, boxes[i].y2};
      const double x = nearest((box.x1 + box.x2) / 2, grid.first_x, grid.step_x, columns);
      const double y = nearest((box.y1 + box.y2) / 2, grid.first_y, grid.step_y, rows);
      for (const auto& a : shapes)
        best[i] = std::max(best[i], static_cast<float>(iou(box, {x + a.x1, y + a.y1, x + a.x2, y + a.y2})));
    }
  }
  return best;
}

}  // namespace fovea
