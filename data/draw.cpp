// Everything is drawn by coverage: the part of each pixel that a shape takes decides how far it is blended.
#include "data/draw.h"

#include <algorithm>
#include <cmath>

#include "core/words.h"
#include "data/augment.h"
#include "data/font.h"

namespace fovea {
namespace {

void blend(Image& image, int x, int y, Colour colour, double cover) {
  if (x < 0 || y < 0 || x >= image.width || y >= image.height || !(cover > 0)) return;  // NaN of infinite lines
  uint8_t* p = image.at(x, y);
  const double t = std::min(cover, 1.0);
  const uint8_t rgb[3] = {colour.r, colour.g, colour.b};
  for (int c = 0; c < 3; ++c) p[c] = uint8_t(std::lround(p[c] + (rgb[c] - p[c]) * t));
}

struct Area {  // pixels that a shape within these bounds may touch; none where one of them is NaN
  int x1, y1, x2, y2;
};
Area area_of(const Image& image, double x1, double y1, double x2, double y2) {
  for (const double v : {x1, y1, x2, y2})
    if (std::isnan(v)) return {0, 0, 0, 0};
  const auto low = [](double v, int limit) { return int(std::clamp(std::floor(v), 0.0, double(limit))); };
  const auto high = [](double v, int limit) { return int(std::clamp(std::ceil(v), 0.0, double(limit))); };
  return {low(x1, image.width), low(y1, image.height), high(x2, image.width), high(y2, image.height)};
}

// The part of pixel i that lies in [low, high].
double overlap(int i, double low, double high) {
  return std::clamp(std::min(i + 1.0, high) - std::max(double(i), low), 0.0, 1.0);
}

double luma(Colour c) { return 0.299 * c.r + 0.587 * c.g + 0.114 * c.b; }

uint64_t glyph(const char* c) {  // of the character of UTF-8 that begins there, in a text that ends with a zero
  const auto byte = [&](int i) { return static_cast<unsigned char>(c[i]); };
  char plain = c[0];
  if (byte(0) >= 0xC3 && byte(0) <= 0xC5 && !begins_character(c[1]))
    plain = detail::kWithoutMarks[((byte(0) & 0x1F) << 6 | (byte(1) & 0x3F)) - 0xC0];
  const int i = static_cast<unsigned char>(plain) - 32;
  return i >= 0 && i < 95 ? detail::kGlyphs[i] : detail::kNoGlyph;
}

// Calls dot(column, row) for each dot of ink, in cells of 6 columns a character.
template <class Dot> void each_dot(const std::string& text, const Dot& dot) {
  int left = 0;
  for (const char& c : text) {
    if (!begins_character(c)) continue;
    const uint64_t ink = glyph(&c);
    for (int bit = 0; bit < detail::kGlyphWidth * detail::kGlyphHeight; ++bit)
      if (ink >> bit & 1) dot(left + bit % detail::kGlyphWidth, bit / detail::kGlyphWidth);
    left += 6;
  }
}

void dot_at(Image& image, int x, int y, int scale, Colour colour) {
  for (int dy = 0; dy < scale; ++dy)
    for (int dx = 0; dx < scale; ++dx) blend(image, x + dx, y + dy, colour, 1);
}

}  // namespace

Colour class_colour(int label) {
  static constexpr Colour first[] = {{255, 92, 80},   {64, 190, 255}, {120, 220, 90},  {255, 196, 40},
                                     {200, 120, 255}, {0, 210, 180},  {255, 120, 200}, {255, 148, 50},
                                     {110, 140, 255}, {190, 210, 60}, {230, 150, 130}, {130, 200, 210}};
  if (label >= 0 && label < 12) return first[label];
  const double hue = std::fmod(std::abs(label) * 0.61803398875, 1.0) * 6;
  const auto channel = [&](double n) {
    const double k = std::fmod(n + hue, 6);
    return uint8_t(std::lround(245 * (1 - 0.65 * std::clamp(std::min(k, 4 - k), 0.0, 1.0))));
  };
  return {channel(5), channel(3), channel(1)};
}

void fill_box(Image& image, const Box<float>& box, Colour colour, double opacity) {
  const Area a = area_of(image, box.x1, box.y1, box.x2, box.y2);
  for (int y = a.y1; y < a.y2; ++y)
    for (int x = a.x1; x < a.x2; ++x)
      blend(image, x, y, colour, opacity * overlap(x, box.x1, box.x2) * overlap(y, box.y1, box.y2));
}

void draw_line(Image& image, double x1, double y1, double x2, double y2, Colour colour, double width) {
  const double r = width / 2 + 1, dx = x2 - x1, dy = y2 - y1, length = dx * dx + dy * dy;
  const Area a = area_of(image, std::min(x1, x2) - r, std::min(y1, y2) - r, std::max(x1, x2) + r, std::max(y1, y2) + r);
  for (int y = a.y1; y < a.y2; ++y)
    for (int x = a.x1; x < a.x2; ++x) {
      const double px = x + 0.5 - x1, py = y + 0.5 - y1;
      const double t = length > 0 ? std::clamp((px * dx + py * dy) / length, 0.0, 1.0) : 0;
      const double distance = std::hypot(px - t * dx, py - t * dy);
      blend(image, x, y, colour,
            std::min(1.0, width) * std::clamp(std::max(width, 1.0) / 2 + 0.5 - distance, 0.0, 1.0));
    }
}

void draw_disc(Image& image, double x, double y, double radius, Colour colour) {
  draw_line(image, x, y, x, y, colour, 2 * radius);
}

void draw_box(Image& image, const Box<float>& box, Colour colour, double width) {
  const double w = width / 2;
  const Area a = area_of(image, box.x1 - w, box.y1 - w, box.x2 + w, box.y2 + w);
  std::vector<std::pair<double, double>> columns;  // the parts of each that the outer and the inner box cover
  for (int x = a.x1; x < a.x2; ++x)
    columns.emplace_back(overlap(x, box.x1 - w, box.x2 + w), overlap(x, box.x1 + w, box.x2 - w));
  for (int y = a.y1; y < a.y2; ++y) {
    const double outer = overlap(y, box.y1 - w, box.y2 + w), inner = overlap(y, box.y1 + w, box.y2 - w);
    for (int x = a.x1; x < a.x2; ++x) {
      const auto& [out, in] = columns[static_cast<size_t>(x - a.x1)];
      blend(image, x, y, colour, out * outer - in * inner);
    }
  }
}

void draw_edged_box(Image& image, const Box<float>& box, Colour colour, double width) {
  draw_box(image, box, {16, 16, 20}, width + 1);
  draw_box(image, box, colour, width);
}

void draw_label(Image& image, const Box<float>& box, const std::string& label, Colour colour, int scale) {
  draw_box(image, box, colour, 1 + scale);
  if (label.empty() || std::isnan(box.x1) || std::isnan(box.y1)) return;
  const int width = text_width(label, scale) + 3 * scale, height = text_height(scale) + 2 * scale;
  const float edge = 0.5f * float(1 + scale);
  const float x = std::clamp(box.x1 - edge, 0.f, std::max(0.f, float(image.width - width)));
  const float above = box.y1 - edge - float(height);
  const float below = std::max(0.f, box.y1 + edge);
  const float y = std::round(std::min(above >= 0 ? above : below, float(image.height)));
  fill_box(image, {std::round(x), y, std::round(x) + float(width), y + float(height)}, colour, 0.9);
  const Colour ink = luma(colour) > 110 ? Colour{16, 16, 20} : Colour{255, 255, 255};
  // Or the end of another label below it would read on as more digits of this one.
  fill_box(image, {std::round(x) + float(width - scale), y, std::round(x) + float(width), y + float(height)}, ink);
  draw_text(image, int(std::round(x)) + 2 * scale, int(y) + 2 * scale, label, ink, scale);
}

int label_scale(const Image& image) {
  return std::max(1, int(std::lround(std::max(image.width, image.height) / 800.0)));
}

void draw_ignore(Image& image, const Box<float>& box) {
  const Colour colour{150, 150, 150};
  const auto side = [](float v, int limit) { return std::clamp(v, -8.f, float(limit) + 8); };
  const float left = side(box.x1, image.width), right = side(box.x2, image.width);
  const float top = side(box.y1, image.height), bottom = side(box.y2, image.height);
  const auto dashes = [&](float x1, float y1, float x2, float y2) {
    const float length = std::max(std::abs(x2 - x1), std::abs(y2 - y1));
    for (float at = 0; at < length; at += 8) {
      const float s = at / length, e = std::min(1.f, (at + 4) / length);
      draw_line(image, x1 + s * (x2 - x1), y1 + s * (y2 - y1), x1 + e * (x2 - x1), y1 + e * (y2 - y1), colour, 1.5);
    }
  };
  dashes(left, top, right, top);
  dashes(right, top, right, bottom);
  dashes(right, bottom, left, bottom);
  dashes(left, bottom, left, top);
}

void draw_text(Image& image, int x, int y, const std::string& text, Colour colour, int scale) {
  each_dot(text, [&](int column, int row) { dot_at(image, x + column * scale, y + row * scale, scale, colour); });
}

void draw_text_up(Image& image, int x, int y, const std::string& text, Colour colour, int scale) {
  const int bottom = y + text_width(text, scale);
  each_dot(text,
           [&](int column, int row) { dot_at(image, x + row * scale, bottom - (column + 1) * scale, scale, colour); });
}

int text_width(const std::string& text, int scale) {
  return 6 * scale * int(std::count_if(text.begin(), text.end(), begins_character));
}
int text_height(int scale) { return 10 * scale; }

void paste(Image& image, const Image& part, int x, int y) {
  const int left = std::max(0, -x), right = std::min(part.width, image.width - x);
  for (int row = std::max(0, -y); row < std::min(part.height, image.height - y) && left < right; ++row)
    std::copy(part.at(left, row), part.at(left, row) + 3 * (right - left), image.at(x + left, y + row));
}

Image tile(const std::vector<Image>& pictures, const std::vector<std::string>& captions, const TileOptions& o) {
  const int n = int(pictures.size());
  int columns = o.columns > 0 ? o.columns : int(std::ceil(std::sqrt(double(n) * 1.2)));
  columns = std::clamp(columns, 1, std::max(1, n));
  const int rows = std::max(1, (n + columns - 1) / columns);
  const int line = captions.empty() ? 0 : text_height() + 6, step = o.cell + o.gap;
  std::vector<int> tops, heights(size_t(rows), 0);  // a row is as tall as its tallest picture
  std::vector<Image> fitted;
  for (int i = 0; i < n; ++i) {
    const Image& picture = pictures[size_t(i)];
    const double scale = double(o.cell) / std::max({1, picture.width, picture.height});
    const auto side = [&](int v) { return std::max(1, int(std::lround(v * scale))); };
    fitted.push_back(picture.empty() ? Image(o.cell, o.cell)
                                     : resize(picture, side(picture.width), side(picture.height)));
    heights[size_t(i / columns)] = std::max(heights[size_t(i / columns)], fitted.back().height);
  }
  int bottom = o.gap;
  for (int h : heights) tops.push_back(bottom), bottom += h + line + o.gap;
  Image page(columns * step + o.gap, bottom);
  fill_box(page, {0, 0, float(page.width), float(page.height)}, {24, 24, 28});
  for (int i = 0; i < n; ++i) {
    const Image& picture = fitted[size_t(i)];
    const int x = o.gap + i % columns * step, y = tops[size_t(i / columns)], height = heights[size_t(i / columns)];
    paste(page, picture, x + (o.cell - picture.width) / 2, y + (height - picture.height) / 2);
    if (size_t(i) >= captions.size()) continue;
    std::string caption = captions[size_t(i)];
    if (text_width(caption) > o.cell && o.cell > 12) {
      while (text_width(caption) > o.cell - 12) caption.pop_back();
      caption += "..";
    }
    draw_text(page, x + (o.cell - text_width(caption)) / 2, y + height + 5, caption, {205, 205, 210});
  }
  return page;
}

}  // namespace fovea
