// Line plots as pictures: loss and AP curves without any other program.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "data/draw.h"

namespace fovea {

struct Series {
  std::string name;          // in the legend; empty: not there
  std::vector<double> x, y;  // of the same length; points that are not finite leave a gap
  std::optional<Colour> colour{};
  bool faint = false;  // thin and pale, e.g. the raw values below a smoothed curve
  bool marks = false;  // a disc or a square at each point, in turn
};

struct PlotOptions {
  std::string title{}, x_axis{}, y_axis{};
  int width = 960, height = 560;
  int letters = 1;  // of so many times the size, for a picture that is shown smaller
  bool log_y = false;
  std::optional<double> y_min{}, y_max{};
};

// About `wanted` values in [low, high] that are 1, 2 or 5 times a power of ten apart, on multiples of it. Only low
// where doubles hardly tell the two apart.
std::vector<double> round_ticks(double low, double high, int wanted);

// No points at all gives empty axes. Throws Code::failure where x and y differ in length.
Image plot_curves(const std::vector<Series>& series, const PlotOptions& options = {});
// An exponential moving average (weight of the old value), without the pull towards zero at the start.
std::vector<double> smoothed(const std::vector<double>& y, double weight);

}  // namespace fovea
