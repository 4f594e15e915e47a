// Line plots: round tick values, a legend in the emptiest corner, anti-aliased curves.
#include "data/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "core/error.h"

namespace fovea {
namespace {

constexpr Colour kPaper{255, 255, 255}, kInk{44, 48, 56}, kPale{228, 231, 236}, kSoft{110, 116, 126};
constexpr Colour kCurves[] = {{31, 111, 210}, {222, 84, 42},  {34, 150, 90},  {150, 90, 200},
                              {214, 158, 20}, {20, 160, 176}, {200, 60, 120}, {110, 110, 110}};

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void add(double v) {
    if (std::isfinite(v)) low = std::min(low, v), high = std::max(high, v);
  }
};

// A range that is neither empty nor a point, nor as good as one: the average of equal values is off by a rounding.
Range opened(Range r, double margin) {
  if (!(r.low <= r.high)) return {0, 1};
  const double size = std::max(std::abs(r.low), std::abs(r.high));
  if (r.high - r.low <= 1e-9 * size) {
    const double d = size == 0 ? 1 : 0.1 * size;
    return {r.low - d, r.high + d};
  }
  const double d = margin * (r.high - r.low);
  return {r.low - d, r.high + d};
}

std::string number(double v) {
  char s[32];
  if (std::abs(v) >= 1e4 && std::abs(v) < 1e6 && std::fmod(v, 1000) == 0) std::snprintf(s, sizeof s, "%gk", v / 1000);
  else std::snprintf(s, sizeof s, "%.5g", v);
  return s;
}

class Plot {
 public:
  Plot(const std::vector<Series>& series, const PlotOptions& options)
      : series_(series), o_(options), image_(options.width, options.height, 255) {
    for (const Series& s : series) {
      check(s.x.size() == s.y.size(), "plot: series \"", s.name, "\" has ", s.x.size(), " x and ", s.y.size(), " y");
      for (size_t i = 0; i < s.x.size(); ++i)
        if (std::isfinite(s.x[i]) && std::isfinite(height_of(s.y[i]))) {
          x_.add(s.x[i]), y_.add(height_of(s.y[i]));
          whole_ = whole_ && s.x[i] == std::round(s.x[i]);
        }
    }
    x_ = opened(x_, 0);
    y_ = opened(y_, 0.05);
    if (o_.y_min) y_.low = height_of(*o_.y_min);
    if (o_.y_max) y_.high = height_of(*o_.y_max);
    if (!(y_.low < y_.high)) y_ = {0, 1};
    const int k = o_.letters;
    right_ = o_.width - 16 - 8 * k, bottom_ = o_.height - (o_.x_axis.empty() ? 24 + 10 * k : 34 + 20 * k);
    top_ = o_.title.empty() ? 20 : 52;
    left_ = 40 + 24 * k + (o_.y_axis.empty() ? 0 : 20 * k);
  }
  Image draw() {
    grid();
    for (const Series& s : series_)
      if (s.faint) curve(s);
    for (const Series& s : series_)
      if (!s.faint) curve(s);
    margins();
    legend();
    return std::move(image_);
  }

 private:
  double height_of(double y) const { return o_.log_y ? (y > 0 ? std::log10(y) : NAN) : y; }
  double px(double x) const { return left_ + (x - x_.low) / (x_.high - x_.low) * (right_ - left_); }
  double py(double h) const { return bottom_ - (h - y_.low) / (y_.high - y_.low) * (bottom_ - top_); }
  Colour colour_of(const Series& s) const {
    Colour c = s.colour.value_or(kCurves[size_t(&s - series_.data()) % std::size(kCurves)]);
    if (s.faint)
      for (uint8_t* k : {&c.r, &c.g, &c.b}) *k = uint8_t(255 - (255 - *k) * 0.35);
    return c;
  }
  void line(double x1, double y1, double x2, double y2, Colour c) {  // along an axis: on whole pixels
    fill_box(image_,
             {std::floor(float(x1)), std::floor(float(y1)), std::floor(float(x2)) + 1, std::floor(float(y2)) + 1}, c);
  }
  void write(int x, int y, const std::string& text, Colour c) { draw_text(image_, x, y, text, c, o_.letters); }
  int width_of(const std::string& text) const { return text_width(text, o_.letters); }
  static bool has_marks(const Series& s) { return s.marks || s.x.size() == 1; }
  // Differs in form as well as in colour.
  void mark(const Series& s, double x, double y) {
    const float r = 3.5f, left = float(x) - r, top = float(y) - r;
    if ((&s - series_.data()) % 2 == 0) draw_disc(image_, x, y, r, colour_of(s));
    else fill_box(image_, {left, top, left + 2 * r, top + 2 * r}, colour_of(s));
  }
  std::vector<double> y_ticks() const {
    if (!o_.log_y) return round_ticks(y_.low, y_.high, 6);
    std::vector<double> values;
    const bool fine = y_.high - y_.low < 2.5;  // also 2 and 5 times each power
    const double step = std::max(1.0, std::ceil((y_.high - y_.low) / 8));
    for (double e = std::floor(y_.low); e <= y_.high; e += step)
      for (double m : {1.0, 2.0, 5.0})
        if (const double v = e + std::log10(m); (fine || m == 1) && v >= y_.low && v <= y_.high) values.push_back(v);
    if (values.size() > 1) return values;
    values.clear();  // less than a factor of about 2
    for (double v : round_ticks(std::pow(10, y_.low), std::pow(10, y_.high), 6)) values.push_back(std::log10(v));
    return values;
  }
  void grid() {
    for (double v : round_ticks(x_.low, x_.high, 8 / o_.letters)) {
      if (whole_ && std::abs(v - std::round(v)) > 1e-9) continue;  // no half epoch
      line(px(v), top_, px(v), bottom_, kPale);
      const std::string s = number(v);
      write(int(px(v)) - width_of(s) / 2, bottom_ + 9, s, kSoft);
    }
    for (double v : y_ticks()) {
      line(left_, py(v), right_, py(v), kPale);
      const std::string s = number(o_.log_y ? std::pow(10, v) : v);
      write(left_ - 8 - width_of(s), int(py(v)) + 1 - 4 * o_.letters, s, kSoft);
    }
  }
  void curve(const Series& s) {
    const Colour c = colour_of(s);
    const double width = s.faint ? 1.2 : 2.2;
    for (size_t i = 0; i < s.x.size(); ++i) {
      const double h = height_of(s.y[i]);
      if (!std::isfinite(h) || !std::isfinite(s.x[i])) continue;
      const double y = std::clamp(py(h), -1e4, 1e4);
      if (has_marks(s)) mark(s, px(s.x[i]), y);
      const double before = i > 0 && std::isfinite(s.x[i - 1]) ? height_of(s.y[i - 1]) : NAN;
      if (std::isfinite(before))
        draw_line(image_, px(s.x[i - 1]), std::clamp(py(before), -1e4, 1e4), px(s.x[i]), y, c, width);
    }
  }
  void margins() {  // over curves that a fixed range cuts off, then the axes
    fill_box(image_, {float(left_), 0, float(o_.width), float(top_)}, kPaper);
    line(left_, bottom_, right_, bottom_, kInk);
    line(left_, top_, left_, bottom_, kInk);
    const int k = o_.letters;
    draw_text(image_, left_ + (right_ - left_ - text_width(o_.title, k + 1)) / 2, 18, o_.title, kInk, k + 1);
    write(left_ + (right_ - left_ - width_of(o_.x_axis)) / 2, o_.height - 12 - 10 * k, o_.x_axis, kInk);
    draw_text_up(image_, 14, top_ + (bottom_ - top_ - width_of(o_.y_axis)) / 2, o_.y_axis, kInk, k);
  }
  void legend() {
    int width = 0, rows = 0;
    const int row = 6 + 10 * o_.letters;
    for (const Series& s : series_)
      if (!s.name.empty()) width = std::max(width, width_of(s.name) + 44), ++rows;
    if (rows == 0) return;
    const int height = row * rows + 10;
    float best_x = 0, best_y = 0;
    int64_t fewest = -1;
    for (const bool low : {false, true})
      for (const bool west : {false, true}) {
        const int x = west ? left_ + 14 : right_ - 14 - width, y = low ? bottom_ - 14 - height : top_ + 12;
        int64_t under = 0;
        for (int j = std::max(0, y); j < std::min(image_.height, y + height); ++j)
          for (int i = std::max(0, x); i < std::min(image_.width, x + width); ++i) {
            const uint8_t* p = image_.at(i, j);
            under += std::max({p[0], p[1], p[2]}) - std::min({p[0], p[1], p[2]}) > 30;
          }
        if (fewest < 0 || under < fewest) fewest = under, best_x = float(x), best_y = float(y);
      }
    fill_box(image_, {best_x, best_y, best_x + float(width), best_y + float(height)}, kPaper, 0.88);
    draw_box(image_, {best_x + 0.5f, best_y + 0.5f, best_x + float(width) - 0.5f, best_y + float(height) - 0.5f}, kPale,
             1);
    int y = int(best_y) + 8;
    for (const Series& s : series_) {
      if (s.name.empty()) continue;
      const int middle = y - 1 + 5 * o_.letters;
      draw_line(image_, best_x + 10, middle, best_x + 28, middle, colour_of(s), 2.5);
      if (has_marks(s)) mark(s, best_x + 19, middle);
      write(int(best_x) + 36, y, s.name, kInk);
      y += row;
    }
  }

  const std::vector<Series>& series_;
  const PlotOptions& o_;
  Image image_;
  Range x_, y_;
  bool whole_ = true;  // all x
  int left_, right_, top_, bottom_;
};

}  // namespace

std::vector<double> round_ticks(double low, double high, int wanted) {
  const double rough = (high - low) / wanted, power = std::pow(10, std::floor(std::log10(rough))), m = rough / power;
  const double step = power * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
  if (!(step > 1e-12 * std::max(std::abs(low), std::abs(high)))) return {low};  // i + 1 may be i there
  std::vector<double> values;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i)
    values.push_back(std::abs(i * step) < 1e-12 ? 0 : i * step);
  return values;
}

Image plot_curves(const std::vector<Series>& series, const PlotOptions& options) {
  check(options.width >= 160 && options.height >= 120, "plot: ", options.width, " x ", options.height,
        " pixels; at least 160 x 120");
  return Plot(series, options).draw();
}

std::vector<double> smoothed(const std::vector<double>& y, double weight) {
  std::vector<double> out;
  double sum = 0, total = 0;
  for (double v : y) {
    if (std::isfinite(v)) sum = weight * sum + (1 - weight) * v, total = weight * total + (1 - weight);
    out.push_back(total > 0 ? sum / total : v);
  }
  return out;
}

}  // namespace fovea
