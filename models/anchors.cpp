// Anchors of a cell in the three styles, and the grid of them over a level.
#include "models/anchors.h"

#include <cmath>

#include "core/error.h"

namespace fovea {
namespace {

// Corners with the given size around (0, 0).
Box<double> centred(double w, double h) { return {-w / 2, -h / 2, w / 2, h / 2}; }

std::vector<Box<double>> exact_cell(const AnchorOptions& o, double stride) {
  std::vector<Box<double>> cell;
  for (double ratio : o.ratios)
    for (double scale : o.scales) {
      const double size = o.base * stride * scale, w = size / std::sqrt(ratio);
      cell.push_back(centred(w, w * ratio));
    }
  return cell;
}

// Detectron counts pixels: a box of width w ends at x1 + w - 1. It rounds the shape at the size of the stride, then
// scales.
std::vector<Box<double>> detectron_cell(const AnchorOptions& o, double stride) {
  std::vector<Box<double>> cell;
  const double centre = (stride - 1) / 2;
  for (double scale : o.scales)
    for (double ratio : o.ratios) {
      const double w = std::nearbyint(std::sqrt(stride * stride / ratio)), h = std::nearbyint(w * ratio);
      const double half_w = (w * o.base * scale - 1) / 2, half_h = (h * o.base * scale - 1) / 2;
      cell.push_back({centre - half_w, centre - half_h, centre + half_w, centre + half_h});
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

}  // namespace

std::vector<Box<double>> cell_anchors(const AnchorOptions& options, int level) {
  const double stride = static_cast<double>(int64_t{1} << level);
  if (options.style == "detectron") return detectron_cell(options, stride);
  if (options.style == "torchvision") return torchvision_cell(options, stride);
  check(Code::usage, options.style == "exact", "anchors: style '", options.style,
        "' is unknown\n  hint: exact, detectron or torchvision");
  return exact_cell(options, stride);
}

Tensor make_anchors(const AnchorOptions& options, int level, std::pair<int64_t, int64_t> map_hw,
                    std::pair<int64_t, int64_t> image_hw) {
  const auto cell = cell_anchors(options, level);
  const auto [rows, columns] = map_hw;
  double step_y = static_cast<double>(int64_t{1} << level), step_x = step_y;
  if (options.style == "torchvision")  // 800 / 7 = 114 where the level's stride is 128
    step_y = static_cast<double>(image_hw.first / rows), step_x = static_cast<double>(image_hw.second / columns);
  const double offset = options.style == "exact" ? options.offset : 0;
  Tensor anchors({rows * columns * static_cast<int64_t>(cell.size()), 4});
  float* out = anchors.data<float>();
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < columns; ++x)
      for (const auto& box : cell) {
        const double cx = (static_cast<double>(x) + offset) * step_x, cy = (static_cast<double>(y) + offset) * step_y;
        for (double v : {cx + box.x1, cy + box.y1, cx + box.x2, cy + box.y2}) *out++ = static_cast<float>(v);
      }
  return anchors;
}

}  // namespace fovea
