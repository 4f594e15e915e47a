// A drawing is one string: a style sheet, then shapes in a box of 480 units' width, readable at a phone's.
#include "tools/lab/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "core/error.h"
#include "core/words.h"
#include "data/plot.h"

namespace fovea::lab {
namespace {

constexpr double kWidth = 480, kRight = 466, kLine = 17;

const char* const kStyle =
    "<style>.f{font:13px system-ui,sans-serif;fill:#1c1e22;--g:#dfe2e6;--s:#5c636e;--p:#fff;--c0:#0072b2;--c1:#c44e00;"
    "--c2:#00805c;--c3:#b0559a;--c4:#a87400;--c5:#2a8fc4;--c6:#5b5bd6;--c7:#555}"
    "@media(prefers-color-scheme:dark){.f{fill:#e7e9ec;--g:#363b42;--s:#a2a9b3;--p:#16181b;--c0:#56b4e9;--c1:#ff9a52;"
    "--c2:#2fd0a0;--c3:#e9a3cf;--c4:#f0c246;--c5:#9ad4f5;--c6:#a9a9ff;--c7:#bbb}}"
    ".f .t{font-weight:600}.f .s{fill:var(--s);font-size:12px}.f .g{stroke:var(--g);fill:none}"
    ".f .a{stroke:var(--s);fill:none}</style>";

std::string format(const char* pattern, auto... v) {
  char s[512];
  std::snprintf(s, sizeof s, pattern, v...);
  return s;
}
std::string words(double x, double y, const std::string& text, const char* anchor = "start", const char* kind = "s") {
  return format("<text x='%.1f' y='%.1f' text-anchor='%s' class='%s'>", x, y, anchor, kind) + escaped(text) +
         "</text>\n";
}
std::string line(double x1, double y1, double x2, double y2, const std::string& more) {
  return format("<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' ", x1, y1, x2, y2) + more + "/>\n";
}
std::string colour(int i) { return "var(--c" + std::to_string(i % 8) + ")"; }

// Marks differ in form as well: disc, square, triangle, diamond.
std::string mark(double x, double y, int i, double r = 3.6) {
  const std::string fill = "fill='" + colour(i) + "'";
  if (i % 4 == 0) return format("<circle cx='%.1f' cy='%.1f' r='%.1f' ", x, y, r) + fill + "/>";
  if (i % 4 == 1)
    return format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' ", x - r, y - r, 2 * r, 2 * r) + fill + "/>";
  if (i % 4 == 2)
    return format("<path d='M%.1f %.1fl%.1f %.1fh%.1fz' ", x, y - r * 1.2, r * 1.1, r * 2, -2.2 * r) + fill + "/>";
  return format("<path d='M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz' ", x, y - 1.3 * r, 1.3 * r, 1.3 * r, -1.3 * r,
                1.3 * r, -1.3 * r, -1.3 * r) +
         fill + "/>";
}
const char* dash(int i) {
  const char* const kinds[] = {"", "7 4", "2 3", "9 3 2 3", "12 3", "4 7", "7 3 2 3 2 3", "9 3 2 3"};
  return kinds[i % 8];
}

std::string frame(double height, const std::string& title, const std::string& body) {
  return format("<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %.0f %.0f' role='img' class='f' aria-label='",
                kWidth, height) +
         escaped(title) + "'>" + kStyle + words(8, 18, title, "start", "t") + body + "</svg>\n";
}

// Values on an axis: its range, its ticks, and where each is drawn.
struct Scale {
  bool log = false;
  double low = std::numeric_limits<double>::infinity(), high = -low, from = 0, to = 1;
  double place(double v) const { return log ? (v > 0 ? std::log10(v) : NAN) : v; }
  void add(double v) {
    if (std::isfinite(place(v))) low = std::min(low, place(v)), high = std::max(high, place(v));
  }
  void close(const Axis& axis, double margin) {
    if (!(low <= high)) low = 0, high = 1;
    if (high - low <= 1e-9 * std::max(std::abs(low), std::abs(high))) low -= 0.5, high += 0.5;  // but for rounding
    const double more = margin * (high - low);
    low = axis.low ? place(*axis.low) : low - more, high = axis.high ? place(*axis.high) : high + more;
  }
  double at(double v) const { return from + (place(v) - low) / (high - low) * (to - from); }
  double clamped(double v) const {
    const double p = place(v);
    return from + (std::clamp(p, low, high) - low) / (high - low) * (to - from);
  }
  std::vector<double> ticks(int wanted) const {
    if (!log) return round_ticks(low, high, wanted);
    std::vector<double> all;
    const double step = std::max(1.0, std::ceil((high - low) / wanted));
    for (double e = std::ceil(low - 1e-9); e <= high + 1e-9; e += step) all.push_back(std::pow(10, e));
    if (all.size() >= 2) return all;
    all.clear();
    for (double e = std::floor(low); e <= high; ++e)
      for (double m : {1.0, 2.0, 5.0})
        if (e + std::log10(m) >= low - 1e-9 && e + std::log10(m) <= high + 1e-9) all.push_back(m * std::pow(10, e));
    return all;
  }
};

struct Legend {
  std::string svg;
  double x = 8, y;
  explicit Legend(double top) : y(top) {}
  void add(const std::string& sample, const std::string& name) {
    const double width = 42 + 7 * double(name.size());
    if (x > 8 && x + width > kWidth) x = 8, y += kLine;
    svg += format("<g transform='translate(%.1f %.1f)'>", x, y) + sample + words(24, 4, name) + "</g>\n";
    x += width;
  }
};

std::string draw_curve(const Curve& c, int i, const Scale& x, const Scale& y) {
  std::string path, band, back, marks;
  bool open = false;
  for (size_t k = 0; k < c.x.size(); ++k) {
    const bool good = std::isfinite(x.place(c.x[k])) && std::isfinite(y.place(c.y[k]));
    if (good) path += format("%c%.1f %.1f", open ? 'L' : 'M', x.clamped(c.x[k]), y.clamped(c.y[k]));
    if (good && c.marks) marks += mark(x.clamped(c.x[k]), y.clamped(c.y[k]), i);
    open = good;
    if (c.low.empty() || !good || !std::isfinite(c.low[k])) continue;
    band += format("%c%.1f %.1f", band.empty() ? 'M' : 'L', x.clamped(c.x[k]), y.clamped(c.low[k]));
    back = format("L%.1f %.1f", x.clamped(c.x[k]), y.clamped(c.high[k])) + back;
  }
  std::string s;
  if (!band.empty()) s += "<path d='" + band + back + "z' fill='" + colour(i) + "' opacity='.16'/>\n";
  if (c.line && !path.empty())
    s += "<path d='" + path + "' fill='none' stroke-width='2' stroke='" + colour(i) + "' stroke-dasharray='" + dash(i) +
         "'/>\n";
  return s + marks;
}

// A line of the grid, and its number below, which may not reach over the edge.
std::string x_tick(double at, double top, double bottom, double v) {
  const std::string number = short_number(v);
  const double middle = std::min(at, kWidth - 4 - 3.8 * double(number.size()));
  return line(at, top, at, bottom, "class='g'") + words(middle, bottom + 16, number, "middle");
}

}  // namespace

std::string short_number(double v) { return std::isfinite(v) ? format("%.4g", v) : std::isnan(v) ? "n/a" : "inf"; }

std::string svg(const LineChart& chart) {
  Scale x{.log = chart.x.log, .from = 58, .to = kRight}, y{.log = chart.y.log};
  Legend legend(36);
  for (size_t i = 0; i < chart.curves.size(); ++i) {
    const Curve& c = chart.curves[i];
    check(c.x.size() == c.y.size() && (c.low.empty() || c.low.size() == c.x.size()), "svg: curve '", c.name, "' has ",
          c.x.size(), " x and ", c.y.size(), " y");
    for (double v : c.x) x.add(v);
    for (const auto* list : {&c.y, &c.low, &c.high})
      for (double v : *list) y.add(v);
    const int tone = c.colour < 0 ? int(i) : c.colour;
    const std::string stroke = "stroke='" + colour(tone) + "' stroke-width='2' stroke-dasharray='" + dash(tone) + "'";
    if (!c.name.empty())
      legend.add((c.line ? line(0, 0, 20, 0, stroke) : "") + (c.marks ? mark(10, 0, tone) : ""), c.name);
  }
  x.close(chart.x, 0), y.close(chart.y, 0.05);
  const double top = legend.y + 20, bottom = top + 230;
  y.from = bottom, y.to = top;
  std::string s = legend.svg;
  for (double v : x.ticks(7)) s += x_tick(x.at(v), top, bottom, v);
  for (double v : y.ticks(6))
    s += line(x.from, y.at(v), kRight, y.at(v), "class='g'") + words(x.from - 6, y.at(v) + 4, short_number(v), "end");
  s += line(x.from, bottom, kRight, bottom, "class='a'") + line(x.from, top, x.from, bottom, "class='a'");
  for (size_t i = 0; i < chart.curves.size(); ++i)
    s += draw_curve(chart.curves[i], chart.curves[i].colour < 0 ? int(i) : chart.curves[i].colour, x, y);
  s += words((x.from + kRight) / 2, bottom + 34, chart.x.title, "middle");
  s += format("<text transform='translate(14 %.1f) rotate(-90)' text-anchor='middle' class='s'>", (top + bottom) / 2) +
       escaped(chart.y.title) + "</text>\n";
  return frame(bottom + 44, chart.title, s);
}

std::string svg(const DotChart& chart) {
  double widest = 28;  // of the names; what is strong is wider
  Scale x;
  bool referred = false;
  for (const DotRow& row : chart.rows) {
    widest = std::max(widest, (row.strong ? 8.0 : 6.9) * double(std::min<size_t>(row.name.size(), 26)));
    for (double v : row.values) x.add(v);
    for (double v : {row.low, row.high, row.reference.value_or(NAN)}) x.add(v);
    referred = referred || row.reference;
  }
  x.close({}, 0.04);
  x.from = 16 + widest, x.to = kRight;
  Legend legend(36);
  legend.add(line(2, 0, 18, 0, "stroke='var(--c0)' stroke-width='2'") + mark(10, 0, 0, 4.5), "mean and 95 % interval");
  legend.add("<circle cx='10' cy='0' r='2.5' fill='none' stroke='var(--s)'/>", "one seed");
  const std::string diamond = "<path d='M%.1f %.1fl6 6l-6 6l-6 -6z' fill='none' stroke='var(--c1)' stroke-width='2'/>";
  if (referred) legend.add(format(diamond.c_str(), 10.0, -6.0), "the paper, on COCO");
  const double top = legend.y + 14, bottom = top + 24 * double(chart.rows.size()) + 6;
  std::string s = legend.svg;
  for (double v : x.ticks(6)) s += x_tick(x.at(v), top, bottom, v);
  double at = top + 15;
  for (const DotRow& row : chart.rows) {
    s += words(x.from - 8, at + 4, row.name, "end", row.strong ? "t" : "s");
    if (row.reference) s += format(diamond.c_str(), x.clamped(*row.reference), at - 6);
    for (double v : row.values)
      s += format("<circle cx='%.1f' cy='%.1f' r='2.5' fill='none' stroke='var(--s)'/>", x.clamped(v), at);
    if (std::isfinite(row.low) && std::isfinite(row.high))
      s += line(x.clamped(row.low), at, x.clamped(row.high), at, "stroke='var(--c0)' stroke-width='2'");
    if (std::isfinite(row.mean)) s += mark(x.clamped(row.mean), at, 0, 4.5);
    at += 24;
  }
  s += line(x.from, bottom, kRight, bottom, "class='a'") +
       words((x.from + kRight) / 2, bottom + 34, chart.x_title, "middle");
  return frame(bottom + 44, chart.title, s);
}

std::string svg(const HeatMap& chart) {
  double most = 1e-9, low = INFINITY, high = -INFINITY;
  for (auto& row : chart.value)
    for (double v : row) {
      if (!std::isfinite(v)) continue;
      most = std::max(most, std::abs(std::log10(v)));
      low = std::min(low, v), high = std::max(high, v);
    }
  const auto depth = [&](double v) {  // 0..1
    return chart.ratio ? std::abs(std::log10(v)) / most : high > low ? (v - low) / (high - low) : 0;
  };
  const double left = 64, top = 56, width = (kRight - left) / double(chart.columns.size()), height = 26;
  std::string s = words((left + kRight) / 2, top - 22, chart.x_title, "middle");
  for (size_t c = 0; c < chart.columns.size(); ++c)
    s += words(left + (double(c) + 0.5) * width, top - 6, chart.columns[c], "middle");
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    const double y = top + double(r) * height;
    s += words(left - 6, y + 17, chart.rows[r], "end");
    for (size_t c = 0; c < chart.columns.size(); ++c) {
      const double v = chart.value[r][c];
      if (!std::isfinite(v)) continue;
      const bool warm = chart.ratio && v > 1;
      s += format("<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='%s' opacity='%.2f'/>",
                  left + double(c) * width, y, width - 1, height - 1, warm ? "var(--c1)" : "var(--c0)",
                  0.08 + 0.5 * depth(v));
      s += words(left + (double(c) + 0.5) * width, y + 17,
                 !chart.ratio ? format("%.1f", v)
                 : v < 100    ? format("%.2g", v)
                              : format("%.0f", v),
                 "middle", warm ? "t" : "n");
    }
  }
  const double bottom = top + height * double(chart.rows.size());
  s += format("<text transform='translate(14 %.1f) rotate(-90)' text-anchor='middle' class='s'>", (top + bottom) / 2) +
       escaped(chart.y_title) + "</text>\n";
  return frame(bottom + 8, chart.title, s);
}

}  // namespace fovea::lab
