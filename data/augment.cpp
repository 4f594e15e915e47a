// One affine map per axis holds resizing, cropping and flips, so that pictures are resampled once and boxes go exactly
// where their pixels go.
#include "data/augment.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"

namespace fovea {
namespace {

enum class Use : uint64_t { geometry = 0, colour = 1 };  // separate streams: one choice never shifts another

Dice dice_for(Use use, uint64_t seed, uint64_t epoch, uint64_t index) {
  return Dice(seed, uint64_t(use) << 62 | epoch << 40 | index);
}

// The source pixels of one output pixel along an axis, with weights that sum to 1; none outside the picture.
struct Taps {
  int first = 0, count = 0;
  const float* weights = nullptr;
};

class Axis {
 public:
  // x' = a x + b, from `from` source pixels to `to` output pixels. The filter is a triangle: of one pixel's radius when
  // enlarging (bilinear), of one output pixel's when shrinking (an average).
  Axis(double a, double b, int from, int to) {
    const double radius = std::max(1.0, 1 / std::abs(a));
    std::vector<size_t> starts;
    for (int o = 0; o < to; ++o) {
      const double centre = (o + 0.5 - b) / a;
      Taps taps;
      starts.push_back(weights_.size());
      if (centre > 0 && centre < from) {
        taps.first = std::max(0, int(std::floor(centre - radius - 0.5)) + 1);
        const int last = std::min(from - 1, int(std::ceil(centre + radius - 0.5)) - 1);
        double sum = 0;
        std::vector<double> w;
        for (int i = taps.first; i <= last; ++i) sum += w.emplace_back(1 - std::abs(i + 0.5 - centre) / radius);
        taps.count = int(w.size());
        for (double v : w) weights_.push_back(float(v / sum));
        begin_ = std::min(begin_, taps.first), end_ = std::max(end_, last + 1);
      }
      taps_.push_back(taps);
    }
    for (size_t o = 0; o < taps_.size(); ++o) taps_[o].weights = weights_.data() + starts[o];
  }
  const Taps& operator[](int o) const { return taps_[size_t(o)]; }
  int begin() const { return std::min(begin_, end_); }  // of the source pixels that are needed
  int end() const { return end_; }

 private:
  std::vector<Taps> taps_;
  std::vector<float> weights_;
  int begin_ = 1 << 30, end_ = 0;
};

void blend_rows(const Image& image, const Taps& rows, int begin, int end, std::vector<float>& out) {
  const size_t offset = size_t(begin) * 3, n = size_t(end - begin) * 3;
  std::fill(out.begin(), out.end(), 0.f);
  float* sum = out.data();
  for (int k = 0; k < rows.count; ++k) {
    const uint8_t* row = image.at(0, rows.first + k) + offset;
    const float w = rows.weights[k];
    for (size_t j = 0; j < n; ++j) sum[j] += w * float(row[j]);
  }
}

Colour times(const float m[3][4], const uint8_t* p) {
  uint8_t v[3];
  for (int c = 0; c < 3; ++c)
    v[c] = uint8_t(std::clamp(m[c][0] * p[0] + m[c][1] * p[1] + m[c][2] * p[2] + m[c][3] + 0.5f, 0.f, 255.f));
  return {v[0], v[1], v[2]};
}

constexpr double kLuma[3] = {0.299, 0.587, 0.114};

struct Part {  // of a picture: [x1, x2) by [y1, y2)
  int x1, y1, x2, y2;
};
// Where the picture itself is in a result of warp(): the pixels with their centres in it.
Part picture_part(const Transform& t, int width, int height) {
  const Box<float> box = t({0, 0, float(width), float(height)});
  const auto side = [](float v, int limit) { return int(std::clamp(std::round(v), 0.f, float(limit))); };
  return {side(box.x1, t.width), side(box.y1, t.height), side(box.x2, t.width), side(box.y2, t.height)};
}

double mean_luma(const Image& image, const Part& part) {
  uint64_t sums[3] = {};
  for (int y = part.y1; y < part.y2; ++y)
    for (int x = part.x1; x < part.x2; ++x)
      for (int c = 0; c < 3; ++c) sums[c] += image.at(x, y)[c];
  double luma = 0;
  for (int c = 0; c < 3; ++c) luma += kLuma[c] * double(sums[c]);
  return luma / std::max(1.0, double(part.x2 - part.x1) * (part.y2 - part.y1));
}

// Brightness, contrast (about the mean), saturation (about each pixel's luma) and hue (a turn in the YIQ plane) are all
// affine in RGB: one 3 x 4 matrix does them together.
void jitter(Image& image, const Part& part, const AugmentOptions& o, Dice dice) {
  const auto factor = [&](double v) { return std::max(0.0, dice.uniform(1 - v, 1 + v)); };
  const double brightness = factor(o.brightness), contrast = factor(o.contrast);
  double saturation = factor(o.saturation);
  const double turn = 6.283185307179586 * dice.uniform(-o.hue, o.hue);
  if (dice.uniform() < o.grey) saturation = 0;
  if (brightness == 1 && contrast == 1 && saturation == 1 && turn == 0) return;
  static constexpr double yiq[3][3] = {{0.299, 0.587, 0.114}, {0.5959, -0.2746, -0.3213}, {0.2115, -0.5227, 0.3112}};
  static constexpr double rgb[3][3] = {{1, 0.956, 0.619}, {1, -0.272, -0.647}, {1, -1.106, 1.703}};
  const double c = saturation * std::cos(turn), s = saturation * std::sin(turn);
  const double chroma[3][3] = {{1, 0, 0}, {0, c, -s}, {0, s, c}};
  const double gain = brightness * contrast, lift = (1 - contrast) * brightness * mean_luma(image, part);
  float m[3][4] = {};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      double v = 0;
      for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b) v += rgb[i][a] * chroma[a][b] * yiq[b][j];
      m[i][j] = float(gain * v), m[i][3] = float(lift);
    }
  for (int y = part.y1; y < part.y2; ++y)
    for (int x = part.x1; x < part.x2; ++x) {
      uint8_t* at = image.at(x, y);
      const Colour p = times(m, at);
      at[0] = p.r, at[1] = p.g, at[2] = p.b;
    }
}

}  // namespace

AugmentOptions AugmentOptions::without_random() const {
  AugmentOptions plain;
  plain.short_sides = short_sides;
  if (plain.short_sides.size() > 1) plain.short_sides = {*std::max_element(short_sides.begin(), short_sides.end())};
  plain.long_side = long_side;
  plain.fill = fill;
  return plain;
}

Box<float> Transform::operator()(const Box<float>& b) const {
  const double x1 = ax * b.x1 + bx, x2 = ax * b.x2 + bx, y1 = ay * b.y1 + by, y2 = ay * b.y2 + by;
  return {float(std::min(x1, x2)), float(std::min(y1, y2)), float(std::max(x1, x2)), float(std::max(y1, y2))};
}

Box<float> Transform::inverse(const Box<float>& b) const {
  return Transform{1 / ax, -bx / ax, 1 / ay, -by / ay, 0, 0}(b);
}

Transform choose_transform(int width, int height, const AugmentOptions& o, uint64_t seed, uint64_t epoch,
                           uint64_t index) {
  check(width > 0 && height > 0, "augment: a picture of ", width, " x ", height);
  check(o.scale_min > 0 && o.scale_max >= o.scale_min, "augment: scales ", o.scale_min, " to ", o.scale_max);
  Dice dice = dice_for(Use::geometry, seed, epoch, index);
  double scale = 1;
  if (!o.short_sides.empty()) {
    const int side = o.short_sides[size_t(dice.integer(0, int64_t(o.short_sides.size()) - 1))];
    check(side > 0, "augment: a short side of ", side, " pixels");
    scale = double(side) / std::min(width, height);
  }
  const int longer = std::max(width, height);
  if (o.long_side > 0 && scale * longer > o.long_side) scale = double(o.long_side) / longer;
  Transform t;
  t.width = std::max(1, int(std::lround(width * scale)));
  t.height = std::max(1, int(std::lround(height * scale)));
  t.ax = double(t.width) / width, t.ay = double(t.height) / height;
  const double factor = o.scale_min * std::pow(o.scale_max / o.scale_min, dice.uniform());
  const double left = dice.uniform(), top = dice.uniform();
  if (o.scale_min != 1 || o.scale_max != 1) {
    t.ax *= factor, t.ay *= factor;
    t.bx = std::round(left * (t.width - t.ax * width)), t.by = std::round(top * (t.height - t.ay * height));
  }
  if (dice.uniform() < o.flip) t.ax = -t.ax, t.bx = t.width - t.bx;
  if (dice.uniform() < o.flip_vertical) t.ay = -t.ay, t.by = t.height - t.by;
  return t;
}

Image warp(const Image& image, const Transform& t, Colour fill) {
  check(!image.empty() && t.width > 0 && t.height > 0, "warp: ", image.width, " x ", image.height, " pixels to ",
        t.width, " x ", t.height);
  const Axis columns(t.ax, t.bx, image.width, t.width), rows(t.ay, t.by, image.height, t.height);
  Image out(t.width, t.height);
  const int begin = columns.begin();
  std::vector<float> line(size_t(columns.end() - begin) * 3);
  for (int y = 0; y < t.height; ++y) {
    uint8_t* to = out.at(0, y);
    if (rows[y].count > 0) blend_rows(image, rows[y], begin, columns.end(), line);
    for (int x = 0; x < t.width; ++x, to += 3) {
      const Taps& taps = columns[x];
      if (rows[y].count == 0 || taps.count == 0) {
        to[0] = fill.r, to[1] = fill.g, to[2] = fill.b;
        continue;
      }
      float r = 0.5f, g = 0.5f, b = 0.5f;
      const float* from = line.data() + size_t(taps.first - begin) * 3;
      for (int k = 0; k < taps.count; ++k, from += 3)
        r += taps.weights[k] * from[0], g += taps.weights[k] * from[1], b += taps.weights[k] * from[2];
      to[0] = uint8_t(r), to[1] = uint8_t(g), to[2] = uint8_t(b);
    }
  }
  return out;
}

Image resize(const Image& image, int width, int height) {
  if (image.width == width && image.height == height) return image;
  check(!image.empty(), "resize: the picture has no pixels");
  return warp(image, {double(width) / image.width, 0, double(height) / image.height, 0, width, height});
}

void transform_boxes(Sample& sample, const Transform& t, double min_visible) {
  const auto cut = [&](const Box<float>& b) {
    const float w = float(t.width), h = float(t.height);
    return Box<float>{std::clamp(b.x1, 0.f, w), std::clamp(b.y1, 0.f, h), std::clamp(b.x2, 0.f, w),
                      std::clamp(b.y2, 0.f, h)};
  };
  std::vector<Box<float>> boxes, ignore;
  std::vector<int> labels;
  for (const Box<float>& box : sample.ignore)
    if (const Box<float> seen = cut(t(box)); seen.area() > 0) ignore.push_back(seen);
  for (size_t i = 0; i < sample.boxes.size(); ++i) {
    const Box<float> all = t(sample.boxes[i]), seen = cut(all);
    if (!(seen.area() > 0)) continue;
    if (seen.area() < min_visible * all.area()) {
      ignore.push_back(seen);
    } else {
      boxes.push_back(seen);
      labels.push_back(sample.labels[i]);
    }
  }
  sample.boxes = std::move(boxes), sample.labels = std::move(labels), sample.ignore = std::move(ignore);
}

void jitter_colours(Image& image, const AugmentOptions& options, uint64_t seed, uint64_t epoch, uint64_t index) {
  jitter(image, {0, 0, image.width, image.height}, options, dice_for(Use::colour, seed, epoch, index));
}

Transformed augment(const Sample& sample, const AugmentOptions& options, uint64_t seed, uint64_t epoch,
                    uint64_t index) {
  const Image& image = sample.image;
  Transformed out{{}, choose_transform(image.width, image.height, options, seed, epoch, index)};
  out.sample = {
      warp(image, out.transform, options.fill), sample.boxes, sample.labels, sample.ignore, sample.id, sample.path};
  transform_boxes(out.sample, out.transform, options.min_visible);
  jitter(out.sample.image, picture_part(out.transform, image.width, image.height), options,
         dice_for(Use::colour, seed, epoch, index));
  return out;
}

}  // namespace fovea
