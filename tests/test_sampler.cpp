// Hard example mining: six anchors by hand, and random ones against sorting all of them.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"
#include "models/sampler.h"
#include "tests/catch.h"

using namespace fovea;

namespace {

Matches matches(std::vector<int64_t> box) {
  Matches m;
  m.box = std::move(box);
  for (int64_t b : m.box) m.positives += b >= 0, m.counted += b >= 0;
  return m;
}

// Sorts everything, suppresses everything, then chooses.
Matches brute_force(const std::vector<Box<float>>& anchors, const std::vector<double>& loss, const HardSampler& o,
                    Matches m) {
  std::vector<size_t> order(anchors.size()), kept;
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return loss[a] > loss[b]; });
  for (size_t a : order) {
    bool free = m.box[a] != Matches::ignored;
    for (size_t b : kept) free = free && iou(anchors[a], anchors[b]) <= float(o.nms);
    if (free) kept.push_back(a);
  }
  int64_t positives = 0, background = 0;
  for (size_t a : kept) positives += m.box[a] >= 0;
  positives = std::min<int64_t>(positives, o.batch / 4);
  std::vector<int64_t> box(anchors.size(), Matches::ignored);
  m.positives = m.counted = 0;
  for (size_t a : kept) {
    const bool found = m.box[a] >= 0;
    if (o.one_to_three ? (found ? m.positives >= positives : background >= 3 * positives) : m.counted >= o.batch)
      continue;
    box[a] = m.box[a], ++m.counted, m.positives += found, background += !found;
  }
  m.box = box;
  return m;
}

}  // namespace

TEST_CASE("ohem: six anchors by hand") {
  // a and b overlap by 2/3, c and d are the same, e and f are alone.
  const std::vector<Box<float>> anchors = {{0, 0, 10, 10},  {0, 2, 10, 12},    {50, 0, 60, 10},
                                           {50, 0, 60, 10}, {100, 0, 110, 10}, {200, 0, 210, 10}};
  const std::vector<double> loss = {3, 5, 2, 2, 9, 1};
  Matches m = matches({0, -1, -1, 1, -2, -1});  // e is ignored, whatever its loss
  keep_hard(anchors, loss, {.batch = 4, .nms = 0.7}, m);
  CHECK(m.box == std::vector<int64_t>{0, -1, -1, -2, -2, -1});  // of the twins the first
  CHECK(m.positives == 1);
  CHECK(m.counted == 4);
  m = matches({0, -1, -1, 1, -2, -1});
  keep_hard(anchors, loss, {.batch = 4, .nms = 0.5}, m);  // now b suppresses a, the only positive left beside d
  CHECK(m.box == std::vector<int64_t>{-2, -1, -1, -2, -2, -1});
  m = matches({0, -1, -1, 1, -2, -1});
  keep_hard(anchors, loss, {.batch = 2, .nms = 0.7}, m);
  CHECK(m.box == std::vector<int64_t>{0, -1, -2, -2, -2, -2});
  m = matches({0, -1, -1, 1, -2, -1});
  keep_hard(anchors, loss, {.batch = 4, .nms = 0.5, .one_to_three = true}, m);
  CHECK(m.counted == 0);  // no positive survives: no background either
}

TEST_CASE("ohem: an IoU of the threshold itself is not more, whichever way the threshold is rounded to f32") {
  const std::vector<Box<float>> anchors = {{0, 0, 13, 1}, {7, 0, 20, 1}, {30, 0, 47, 1}, {33, 0, 50, 1}};
  for (const double nms : {6. / 20, 14. / 20}) {
    Matches m = matches({-1, -1, -1, -1});
    keep_hard(anchors, std::vector<double>{4, 3, 2, 1}, {.batch = 4, .nms = nms}, m);
    CHECK(m.box == std::vector<int64_t>{-1, -1, -1, nms > 0.5 ? -1 : -2});
  }
}

TEST_CASE("ohem: a loss that is NaN is the least of all") {
  const std::vector<Box<float>> anchors = {{0, 0, 10, 10}, {20, 0, 30, 10}, {40, 0, 50, 10}};
  Matches m = matches({-1, 0, -1});
  keep_hard(anchors, std::vector<double>{0, NAN, 2}, {.batch = 2}, m);
  CHECK(m.box == std::vector<int64_t>{-1, -2, -1});
}

TEST_CASE("ohem_1_3: the walk ends where no positive is left") {
  std::vector<Box<float>> anchors;  // all alone: walking them all would compare them all
  for (int i = 0; i < 200000; ++i) anchors.push_back({float(20 * i), 0, float(20 * i + 10), 10});
  std::vector<double> loss(anchors.size(), 1);
  Matches m = matches(std::vector<int64_t>(anchors.size(), Matches::background));
  keep_hard(anchors, loss, {.batch = 128, .nms = 0.7, .one_to_three = true}, m);
  CHECK(m.counted == 0);
  m = matches(std::vector<int64_t>(anchors.size(), Matches::background));
  m.box[7] = 0;
  keep_hard(anchors, loss, {.batch = 128, .nms = 0.7, .one_to_three = true}, m);
  CHECK(m.positives == 1);
  CHECK(m.counted == 4);
  CHECK(std::count(m.box.begin(), m.box.begin() + 8, Matches::ignored) == 4);  // of equal losses the first
}

TEST_CASE("ohem equals sorting and suppressing all anchors") {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Dice dice(seed);
    const int64_t n = dice.integer(0, 60);
    std::vector<Box<float>> anchors;
    std::vector<double> loss;
    std::vector<int64_t> box;
    for (int64_t i = 0; i < n; ++i) {
      const float x = float(dice.integer(0, 12)), y = float(dice.integer(0, 12)), side = float(dice.integer(3, 9));
      anchors.push_back({x, y, x + side, y + side});
      loss.push_back(double(dice.integer(0, 20)) / 4);  // ties
      box.push_back(dice.integer(-2, 1));
    }
    const double nms[] = {0.1, 0.25, 0.5, 0.6, 0.7};
    const HardSampler o{int(dice.integer(4, 24)), nms[dice.integer(0, 4)], dice.chance(0.5)};
    Matches m = matches(box);
    const Matches expected = brute_force(anchors, loss, o, m);
    keep_hard(anchors, loss, o, m);
    INFO(seed);
    CHECK(m.box == expected.box);
    CHECK(m.positives == expected.positives);
    CHECK(m.counted == expected.counted);
  }
}
