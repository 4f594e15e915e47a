// Figures as SVG: axes with units, curves with bands, rows of dots with intervals, heat maps. Colours (Okabe and Ito's,
// safe for colour-blind eyes, and never the only difference) follow the reader's dark or light setting by themselves.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace fovea::lab {

struct Axis {
  std::string title{};
  bool log = false;
  std::optional<double> low{}, high{};  // otherwise from the data
};

struct Curve {
  std::string name{};                 // in the legend; empty: not there
  std::vector<double> x{}, y{};       // of one length; what is not finite leaves a gap
  std::vector<double> low{}, high{};  // a band; empty: none
  bool marks = false, line = true;
  int colour = -1;  // 0..7; -1: the curve's place in the list
};

struct LineChart {
  std::string title{};
  Axis x{}, y{};
  std::vector<Curve> curves{};
};

// A row a setting: every value, their mean with its interval, and beside it a number from elsewhere.
struct DotRow {
  std::string name{};
  std::vector<double> values{};
  double mean = 0, low = 0, high = 0;
  std::optional<double> reference{};  // the paper's
  bool strong = false;                // part of the primary contrast
};
struct DotChart {
  std::string title{}, x_title{};
  std::vector<DotRow> rows{};
};

// value[row][column], with the value in the cell; what is not finite leaves it empty.
struct HeatMap {
  std::string title{}, x_title{}, y_title{};
  bool ratio = true;  // coloured by log10(value) around 1; otherwise from the lowest value to the highest
  std::vector<std::string> columns{}, rows{};
  std::vector<std::vector<double>> value{};
};

std::string svg(const LineChart& chart);
std::string svg(const DotChart& chart);
std::string svg(const HeatMap& chart);

std::string short_number(double v);  // 4 digits: "0.01", "1e-07", "45.75"

}  // namespace fovea::lab
