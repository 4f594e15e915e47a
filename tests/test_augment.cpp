// Augmentation: boxes go where their pixels go, the known cases, purity, and the resampler against direct sums.
#include "data/augment.h"

#include <rapidcheck.h>

#include <cmath>
#include <set>

#include "core/random.h"
#include "tests/files.h"

using namespace fovea;

namespace {

Image noise(int width, int height, uint64_t seed) {
  Image image(width, height);
  const Philox philox{seed, 1};
  for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = uint8_t(philox.bits(i));
  return image;
}

// A dark picture with one bright block, and the block as a box.
Sample block(int width, int height, int x1, int y1, int x2, int y2) {
  Sample s{Image(width, height, 20), {{float(x1), float(y1), float(x2), float(y2)}}, {4}, {}, 1, "block"};
  for (int y = y1; y < y2; ++y)
    for (int x = x1; x < x2; ++x) std::fill_n(s.image.at(x, y), 3, uint8_t(240));
  return s;
}

// The extent of what is brighter than half way, with the part of its border pixels that is bright.
Box<float> extent(const Image& image) {
  Box<float> box{1e9f, 1e9f, -1, -1};
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x)
      if (image.at(x, y)[0] > 130)
        box = {std::min(box.x1, float(x)), std::min(box.y1, float(y)), std::max(box.x2, float(x + 1)),
               std::max(box.y2, float(y + 1))};
  return box;
}

void check_box(const Box<float>& a, const Box<float>& b, float margin) {
  INFO("[" << a.x1 << ", " << a.y1 << ", " << a.x2 << ", " << a.y2 << "] and [" << b.x1 << ", " << b.y1 << ", " << b.x2
           << ", " << b.y2 << "]");
  CHECK(std::abs(a.x1 - b.x1) <= margin);
  CHECK(std::abs(a.y1 - b.y1) <= margin);
  CHECK(std::abs(a.x2 - b.x2) <= margin);
  CHECK(std::abs(a.y2 - b.y2) <= margin);
}

}  // namespace

TEST_CASE("a mirrored box, as in detectron2's test") {
  AugmentOptions options;
  options.short_sides = {}, options.flip = 1;
  const Transform t = choose_transform(400, 300, options, 0, 0, 0);
  check_box(t({10, 10, 200, 300}), {200, 10, 390, 300}, 0);
  check_box(t.inverse(t({10, 10, 200, 300})), {10, 10, 200, 300}, 0);
  Sample sample{noise(30, 20, 1), {}, {}, {}, 1, ""};
  const Image mirrored = augment(sample, options, 0, 0, 0).sample.image;
  for (int x = 0; x < 30; ++x) CHECK(mirrored.at(x, 7)[1] == sample.image.at(29 - x, 7)[1]);
  CHECK(augment({mirrored, {}, {}, {}, 1, ""}, options, 0, 0, 0).sample.image == sample.image);
}

TEST_CASE("sizes follow the short side and the limit of the long one") {
  AugmentOptions o;
  const auto size = [&](int w, int h) {
    const Transform t = choose_transform(w, h, o, 0, 0, 0);
    return std::pair<int, int>(t.width, t.height);
  };
  CHECK(size(640, 480) == std::pair<int, int>(427, 320));
  CHECK(size(480, 640) == std::pair<int, int>(320, 427));
  o.short_sides = {800}, o.long_side = 1333;
  CHECK(size(500, 375) == std::pair<int, int>(1067, 800));
  CHECK(size(1000, 400) == std::pair<int, int>(1333, 533));
  o.short_sides = {};
  CHECK(size(100, 50) == std::pair<int, int>(100, 50));
  CHECK(size(2666, 50) == std::pair<int, int>(1333, 25));
  CHECK(size(9999, 1) == std::pair<int, int>(1333, 1));
  o.short_sides = {0};
  CHECK_THROWS_AS(size(10, 10), Error);
  o.short_sides = {320, 640, 480};
  CHECK(o.without_random().short_sides == std::vector<int>{640});
}

TEST_CASE("a box stays around its pixels") {
  CHECK(rc::check("under any choice of size, flip, scale and crop", [] {
    const int width = *rc::gen::inRange(60, 200), height = *rc::gen::inRange(60, 200);
    const int x1 = *rc::gen::inRange(0, width - 30), y1 = *rc::gen::inRange(0, height - 30);
    const int x2 = *rc::gen::inRange(x1 + 20, width + 1), y2 = *rc::gen::inRange(y1 + 20, height + 1);
    AugmentOptions o;
    o.short_sides = {*rc::gen::inRange(60, 240), *rc::gen::inRange(60, 240)};
    o.flip = o.flip_vertical = 0.5, o.scale_min = 0.5, o.scale_max = 2, o.min_visible = 0;
    o.fill = {20, 20, 20};
    const auto index = uint64_t(*rc::gen::inRange(0, 1000000));
    const Transformed out = augment(block(width, height, x1, y1, x2, y2), o, 5, 3, index);
    RC_ASSERT(out.sample.image.width == out.transform.width);
    const Box<float> seen = extent(out.sample.image);
    if (out.sample.boxes.empty()) {
      RC_ASSERT(seen.x2 - seen.x1 <= 1.5f || seen.y2 - seen.y1 <= 1.5f);
      return;
    }
    const Box<float>& box = out.sample.boxes[0];
    if (box.width() < 2 || box.height() < 2) return;
    for (const float d : {box.x1 - seen.x1, box.y1 - seen.y1, box.x2 - seen.x2, box.y2 - seen.y2})
      RC_ASSERT(std::abs(d) <= 1.01f);
    const Box<float> back = out.transform.inverse(box);
    RC_ASSERT(back.x1 >= x1 - 1e-3 && back.y1 >= y1 - 1e-3 && back.x2 <= x2 + 1e-3 && back.y2 <= y2 + 1e-3);
  }));
}

TEST_CASE("boxes that are cropped away") {
  Sample s{Image(),
           {{0, 0, 10, 10}, {90, 0, 110, 10}, {95, 0, 195, 10}, {200, 0, 210, 10}, {96, 0, 112, 10}},
           {1, 2, 3, 4, 5},
           {{50, 50, 150, 150}, {120, 0, 130, 10}},
           1,
           ""};
  transform_boxes(s, {1, 0, 1, 0, 100, 100}, 0.25);  // left: all, a half, a twentieth, nothing, just a quarter
  CHECK(s.labels == std::vector<int>{1, 2, 5});
  REQUIRE(s.ignore.size() == 2);
  check_box(s.ignore[0], {50, 50, 100, 100}, 0);
  check_box(s.ignore[1], {95, 0, 100, 10}, 0);
  check_box(s.boxes[1], {90, 0, 100, 10}, 0);
}

TEST_CASE("resampling: exact at scale 1, the mean when shrinking, linear when enlarging") {
  const Image image = noise(40, 24, 2);
  CHECK(warp(image, {1, 0, 1, 0, 40, 24}) == image);
  const Image shifted = warp(image, {1, 3, 1, -2, 40, 24}, {1, 2, 3});
  CHECK(shifted.at(3, 0)[0] == image.at(0, 2)[0]);
  CHECK(shifted.at(2, 0)[2] == 3);
  CHECK(shifted.at(10, 22)[1] == 2);
  const Image flat(33, 21, 77);
  CHECK(resize(flat, 10, 50) == Image(10, 50, 77));
  Image stripes(60, 60);  // of one pixel: a resampler that skips pixels gives stripes again
  for (int y = 0; y < 60; ++y)
    for (int x = 0; x < 60; ++x) std::fill_n(stripes.at(x, y), 3, uint8_t(x % 2 ? 250 : 0));
  const Image small = resize(stripes, 13, 13);
  for (int x = 1; x < 12; ++x) CHECK(std::abs(int(small.at(x, 6)[0]) - 125) < 12);
  Image ramp(8, 1);
  for (int x = 0; x < 8; ++x) std::fill_n(ramp.at(x, 0), 3, uint8_t(20 * x));
  const Image wide = resize(ramp, 32, 1);
  for (int x = 2; x < 30; ++x) CHECK(std::abs(wide.at(x, 0)[0] - 20 * ((x + 0.5) / 4 - 0.5)) <= 0.51);
  CHECK_THROWS_AS(resize(Image(), 4, 4), Error);
}

TEST_CASE("colour jitter leaves grey grey, turns hues, and touches only the picture") {
  AugmentOptions o;
  o.saturation = 0.5, o.hue = 0.5;
  Image grey(8, 8, 90);
  for (uint64_t i = 0; i < 20; ++i) {
    Image image = grey;
    jitter_colours(image, o, 1, 2, i);
    for (uint8_t v : image.rgb) CHECK(std::abs(int(v) - 90) <= 1);
  }
  o = {};
  o.grey = 1;
  Image colours = noise(16, 16, 3);
  const Image before = colours;
  jitter_colours(colours, o, 1, 2, 3);
  for (int x = 0; x < 16; ++x) {
    const uint8_t *p = colours.at(x, 5), *q = before.at(x, 5);
    CHECK(std::abs(p[0] - (0.299 * q[0] + 0.587 * q[1] + 0.114 * q[2])) < 2);
    CHECK(std::abs(int(p[0]) - int(p[2])) <= 1);
  }
  o = {};
  o.brightness = 0.5;
  bool darker = false, lighter = false;
  for (uint64_t i = 0; i < 20; ++i) {
    Image image = grey;
    jitter_colours(image, o, 1, 2, i);
    (image.rgb[0] < 90 ? darker : lighter) = true;
    CHECK(image.rgb[0] >= 45);
    CHECK(image.rgb[0] <= 135);
  }
  CHECK((darker && lighter));
  o.scale_min = o.scale_max = 0.5, o.short_sides = {};
  const Transformed small = augment({Image(40, 40, 90), {}, {}, {}, 1, ""}, o, 1, 2, 3);
  int fill = 0;
  for (int i = 0; i < 1600; ++i) fill += small.sample.image.rgb[size_t(i) * 3] == o.fill.r;
  CHECK(fill >= 1200);
}

namespace {

struct Yiq {  // luma, and the colour as an angle and its strength
  double luma, angle, chroma;
};
Yiq yiq(const uint8_t* p) {
  const double i = 0.5959 * p[0] - 0.2746 * p[1] - 0.3213 * p[2], q = 0.2115 * p[0] - 0.5227 * p[1] + 0.3112 * p[2];
  return {0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2], std::atan2(q, i), std::hypot(i, q)};
}
// Colours in the middle of the range, which no jitter below drives out of it.
Image muted() {
  Image image = noise(8, 8, 6);
  for (uint8_t& v : image.rgb) v = uint8_t(100 + v / 5);
  return image;
}
// f(before, after) for a strong colour and its jittered one, for twenty draws.
template <class F> void each_jitter(const AugmentOptions& o, const F& f) {
  const Image before = muted();
  for (uint64_t i = 0; i < 20; ++i) {
    Image after = before;
    jitter_colours(after, o, 1, 2, i);
    for (int at = 0; at < 64; ++at) {
      const Yiq a = yiq(before.at(at % 8, at / 8)), b = yiq(after.at(at % 8, at / 8));
      if (a.chroma > 20) f(a, b);
    }
  }
}

}  // namespace

TEST_CASE("a turn of hue keeps luma and strength, within its limit and either way; saturation keeps luma and hue") {
  AugmentOptions o;
  o.hue = 0.1;
  double least = 9, most = -9;
  each_jitter(o, [&](const Yiq& a, const Yiq& b) {
    CHECK(std::abs(a.luma - b.luma) < 1);
    CHECK(b.chroma == Approx(a.chroma).margin(1.5));
    const double turn = std::remainder(b.angle - a.angle, 2 * M_PI) / (2 * M_PI);
    least = std::min(least, turn), most = std::max(most, turn);
  });
  CHECK((least < -0.06 && least > -0.12 && most > 0.06 && most < 0.12));
  o = {};
  o.saturation = 0.5;
  least = 9, most = 0;
  each_jitter(o, [&](const Yiq& a, const Yiq& b) {
    CHECK(std::abs(a.luma - b.luma) < 1);
    CHECK(std::remainder(b.angle - a.angle, 2 * M_PI) == Approx(0).margin(0.15));
    least = std::min(least, b.chroma / a.chroma), most = std::max(most, b.chroma / a.chroma);
  });
  CHECK((least > 0.4 && least < 0.7 && most > 1.3 && most < 1.6));
}

TEST_CASE("contrast scales about the picture's mean, brightness about black, and neither falls below 0") {
  const Image before = muted();
  double mean = 0;
  for (int at = 0; at < 64; ++at) mean += yiq(before.at(at % 8, at / 8)).luma / 64;
  for (const bool contrast : {true, false}) {
    AugmentOptions o;
    (contrast ? o.contrast : o.brightness) = 0.5;
    const double fixed = contrast ? mean : 0;
    double least = 9, most = 0;
    for (uint64_t i = 0; i < 20; ++i) {
      Image after = before;
      jitter_colours(after, o, 1, 2, i);
      double over = 0, under = 0;  // the factor of a line through the fixed point
      for (size_t k = 0; k < before.rgb.size(); ++k) {
        over += (after.rgb[k] - fixed) * (before.rgb[k] - fixed);
        under += (before.rgb[k] - fixed) * (before.rgb[k] - fixed);
      }
      const double factor = over / under;
      for (size_t k = 0; k < before.rgb.size(); ++k)
        CHECK(std::abs(after.rgb[k] - std::min(255.0, fixed + factor * (before.rgb[k] - fixed))) < 1.5);
      least = std::min(least, factor), most = std::max(most, factor);
    }
    CHECK((least > 0.45 && least < 0.7 && most > 1.3 && most < 1.55));
    (contrast ? o.contrast : o.brightness) = 3;
    int dark = 0;
    for (uint64_t i = 0; i < 20; ++i) {
      Image after = before;
      jitter_colours(after, o, 1, 2, i);
      const auto [low, high] = std::minmax_element(after.rgb.begin(), after.rgb.end());
      const bool flat = *high - *low <= 1;  // a factor of 0
      dark += flat && std::abs(*low - fixed) < 1.5;
    }
    CHECK(dark > 1);
  }
  AugmentOptions o;  // what is around the picture is not part of its mean
  o.short_sides = {}, o.scale_min = o.scale_max = 0.5, o.contrast = 0.5, o.fill = {0, 0, 0};
  for (uint64_t i = 0; i < 5; ++i)
    for (const uint8_t v : augment({Image(16, 16, 90), {}, {}, {}, 1, ""}, o, 1, 2, i).sample.image.rgb)
      CHECK((v == 0 || std::abs(v - 90) <= 1));
}

TEST_CASE("scales are log-uniform: half of them lie below the geometric mean") {
  AugmentOptions o;
  o.short_sides = {}, o.scale_min = 0.25, o.scale_max = 4;
  int below = 0;
  double least = 9, most = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    const double scale = choose_transform(64, 64, o, 1, 2, i).ax;
    below += scale < 1, least = std::min(least, scale), most = std::max(most, scale);
  }
  CHECK(std::abs(below - 200) < 50);
  CHECK((least >= 0.25 && least < 0.3 && most <= 4 && most > 3.5));
  o.scale_max = 0.2;
  CHECK_THROWS_WITH(choose_transform(64, 64, o, 1, 2, 0), contains("scales 0.25 to 0.2"));
}

TEST_CASE("evaluation keeps the size, its limit and the fill, and nothing random") {
  AugmentOptions o;
  o.short_sides = {40}, o.long_side = 50, o.fill = {1, 2, 3}, o.flip = o.flip_vertical = 1,
  o.scale_min = o.scale_max = 0.5;
  o.brightness = o.contrast = o.saturation = o.hue = 0.5, o.grey = 1, o.min_visible = 0.9;
  const AugmentOptions plain = o.without_random();
  CHECK(plain.fill.g == 2);
  const Sample sample{noise(80, 40, 4), {}, {}, {}, 1, ""};
  CHECK(augment(sample, plain, 1, 2, 3).sample.image == resize(sample.image, 50, 25));
}

TEST_CASE("an augmentation is a pure function of seed, epoch and sample") {
  AugmentOptions o;
  o.short_sides = {40, 48, 56, 64}, o.flip = 0.5, o.scale_min = 0.7, o.scale_max = 1.4, o.brightness = o.hue = 0.2;
  const Sample sample{noise(64, 48, 4), {{5, 5, 30, 30}}, {0}, {}, 1, ""};
  const Transformed first = augment(sample, o, 7, 1, 2);
  CHECK(augment(sample, o, 7, 1, 2).sample.image == first.sample.image);
  int same = 0;
  for (const auto& [seed, epoch, index] :
       std::vector<std::array<uint64_t, 3>>{{8, 1, 2}, {7, 2, 2}, {7, 1, 3}, {7, 2, 1}})
    same += augment(sample, o, seed, epoch, index).sample.image == first.sample.image;
  CHECK(same == 0);
  int flipped = 0;
  for (uint64_t i = 0; i < 400; ++i) flipped += choose_transform(64, 48, o, 1, 0, i).ax < 0;
  CHECK(std::abs(flipped - 200) < 50);
}

TEST_CASE("sizes and colours are drawn apart from each other") {
  AugmentOptions o;
  o.short_sides = {40, 48}, o.brightness = 0.5;
  std::set<std::pair<int, bool>> seen;
  for (uint64_t i = 0; i < 40; ++i) {
    const Image image = augment({Image(40, 40, 100), {}, {}, {}, 1, ""}, o, 7, 1, i).sample.image;
    seen.emplace(image.width, image.at(20, 20)[0] < 100);
  }
  CHECK(seen.size() == 4);  // both sizes darker and lighter
}
