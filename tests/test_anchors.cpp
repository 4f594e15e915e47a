// Anchors against the numbers of the frameworks' own tests, in all three styles.
#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "models/anchors.h"
#include "tests/catch.h"

using namespace fovea;

namespace {

using Rows = std::vector<std::vector<double>>;

void check_rows(const Tensor& anchors, const Rows& rows, double tolerance = 1e-4) {
  REQUIRE(anchors.dim(0) >= static_cast<int64_t>(rows.size()));
  for (size_t r = 0; r < rows.size(); ++r)
    for (size_t c = 0; c < 4; ++c) {
      INFO("row " << r << " column " << c);
      CHECK(std::abs(anchors.at(static_cast<int64_t>(4 * r + c)) - rows[r][c]) <= tolerance);
    }
}

int64_t count(int64_t h, int64_t w) {
  int64_t total = 0;
  for (int level = 3; level <= 7; ++level) {
    const int64_t s = int64_t{1} << level;
    total += make_anchors({}, level, {(h + s - 1) / s, (w + s - 1) / s}, {h, w}).dim(0);
  }
  return total;
}

}  // namespace

TEST_CASE("exact anchors: detectron2's example") {
  // sizes 32 and 64 at stride 4 (detectron2 lists sizes outside, we list ratios outside)
  AnchorOptions o{.base = 8, .scales = {1, 2}, .ratios = {0.25, 1, 4}};
  const Rows rows = {{-32, -8, 32, 8}, {-64, -16, 64, 16}, {-16, -16, 16, 16}, {-32, -32, 32, 32},
                     {-8, -32, 8, 32}, {-16, -64, 16, 64}, {-28, -8, 36, 8}};
  check_rows(make_anchors(o, 2, {1, 2}, {4, 8}), rows);
  o.offset = 0.5;
  check_rows(make_anchors(o, 2, {1, 2}, {4, 8}), {{-30, -6, 34, 10}, {-62, -14, 66, 18}, {-14, -14, 18, 18}});
}

TEST_CASE("no cells have no anchors, and no pixels no best ones, in each style") {
  for (const char* style : {"exact", "detectron2", "detectron", "torchvision"}) {
    CHECK(make_anchors({.style = style}, 3, {0, 2}, {0, 16}).shape() == Shape{0, 4});
    CHECK_THROWS_AS(best_anchor_iou({.style = style}, 7, {0, 16}, {{0, 0, 1, 1}}), Error);
  }
}

TEST_CASE("exact anchors: mmdetection's P3, and each level doubles") {
  const Tensor p3 = make_anchors({}, 3, {1, 1}, {8, 8}), p7 = make_anchors({}, 7, {1, 1}, {128, 128});
  check_rows(p3, {{-22.6274, -11.3137, 22.6274, 11.3137},
                  {-28.5088, -14.2544, 28.5088, 14.2544},
                  {-35.9188, -17.9594, 35.9188, 17.9594},
                  {-16, -16, 16, 16},
                  {-20.1587, -20.1587, 20.1587, 20.1587},
                  {-25.3984, -25.3984, 25.3984, 25.3984},
                  {-11.3137, -22.6274, 11.3137, 22.6274}});
  for (int64_t i = 0; i < 36; ++i) CHECK(p7.at(i) == Approx(16 * p3.at(i)));
}

TEST_CASE("exact anchors: centres at half a cell are keras-retinanet's") {
  const AnchorOptions o{.scales = {1}, .ratios = {1}, .offset = 0.5};
  check_rows(make_anchors(o, 3, {2, 2}, {16, 16}),
             {{-12, -12, 20, 20}, {-4, -12, 28, 20}, {-12, -4, 20, 28}, {-4, -4, 28, 28}});
}

TEST_CASE("torchvision anchors: cut sizes, rounded half sides, steps of image / map") {
  const AnchorOptions o{.style = "torchvision"};
  check_rows(make_anchors(o, 3, {1, 1}, {8, 8}),
             {{-23, -11, 23, 11},
              {-28, -14, 28, 14},
              {-35, -18, 35, 18},
              {-16, -16, 16, 16},
              {-20, -20, 20, 20},
              {-25, -25, 25, 25},
              {-11, -23, 11, 23},
              {-14, -28, 14, 28},
              {-18, -35, 18, 35}},
             0);
  const Tensor p7 = make_anchors(o, 7, {7, 11}, {800, 1344});
  check_rows(p7, {{-362, -181, 362, 181}}, 0);
  CHECK(p7.at(4 * 9) == -362 + 122);           // one to the right
  CHECK(p7.at(4 * 9 * 11 + 1) == -181 + 114);  // one down
  const Tensor p6 = make_anchors(o, 6, {13, 21}, {800, 1344});
  CHECK(p6.at(4 * 9) - p6.at(0) == 64);
  CHECK(p6.at(4 * 9 * 21 + 1) - p6.at(1) == 61);
}

TEST_CASE("detectron anchors: shapes rounded before scaling, scales outside") {
  const AnchorOptions o{.style = "detectron", .ratios = {1, 2, 0.5}};
  check_rows(make_anchors(o, 3, {2, 2}, {16, 16}),
             {{-12, -12, 19 + 1, 19 + 1},  // published as the last pixels inside
              {-8, -20, 15 + 1, 27 + 1},
              {-18, -8, 25 + 1, 15 + 1},
              {-16.1587, -16.1587, 23.1587 + 1, 23.1587 + 1},
              {-11.1191, -26.2381, 18.1191 + 1, 33.2381 + 1},
              {-23.7183, -11.1191, 30.7183 + 1, 18.1191 + 1}},
             2e-4);
}

TEST_CASE("detectron2 anchors: its own test, in its order") {
  AnchorOptions o{.style = "detectron2", .base = 8, .scales = {1, 2}, .ratios = {0.25, 1, 4}};
  check_rows(make_anchors(o, 2, {1, 2}, {4, 8}), {{-32, -8, 32, 8},
                                                  {-16, -16, 16, 16},
                                                  {-8, -32, 8, 32},
                                                  {-64, -16, 64, 16},
                                                  {-32, -32, 32, 32},
                                                  {-16, -64, 16, 64},
                                                  {-28, -8, 36, 8}});
  o.offset = 0.5;
  check_rows(make_anchors(o, 2, {1, 2}, {4, 8}), {{-30, -6, 34, 10}});
}

TEST_CASE("the offset is of the exact styles: detectron's centres lie at half a cell, torchvision's at corners") {
  for (const auto& [style, centre] :
       {std::pair("exact", 2.0), {"detectron2", 2.0}, {"detectron", 4.0}, {"torchvision", 0.0}}) {
    INFO(style);
    const Tensor a = make_anchors({.style = style, .scales = {1}, .ratios = {1}, .offset = 0.25}, 3, {1, 1}, {8, 8});
    check_rows(a, {{centre - 16, centre - 16, centre + 16, centre + 16}}, 0);
  }
}

TEST_CASE("the best anchor of a box without making anchors: equal to all of them") {
  Dice dice(3);
  for (const char* style : {"exact", "detectron", "detectron2", "torchvision"})
    for (int round = 0; round < 12; ++round) {
      AnchorOptions o{.style = style, .base = dice.uniform(1, 4), .offset = dice.uniform(0, 0.6)};
      const int last = int(dice.integer(5, 7));
      const int64_t h = dice.integer(20, 200), w = dice.integer(20, 200);
      std::vector<Box<float>> boxes;
      for (int i = 0; i < 20; ++i) {
        const double x = dice.uniform(-20, double(w)), y = dice.uniform(-20, double(h));
        boxes.push_back({float(x), float(y), float(x + dice.uniform(0, 90)), float(y + dice.uniform(0, 90))});
      }
      std::vector<Box<float>> anchors;
      for (int level = 3; level <= last; ++level) {
        const int64_t s = int64_t{1} << level;
        const Tensor all = make_anchors(o, level, {(h + s - 1) / s, (w + s - 1) / s}, {h, w});
        const auto* first = reinterpret_cast<const Box<float>*>(all.data<float>());
        anchors.insert(anchors.end(), first, first + all.dim(0));
      }
      const auto quick = best_anchor_iou(o, last, {h, w}, boxes);
      for (size_t i = 0; i < boxes.size(); ++i) {
        float best = 0;
        for (const auto& a : anchors) best = std::max(best, iou(boxes[i], a));
        INFO(style << " round " << round << " box " << i);
        CHECK(quick[i] == Approx(best).margin(1e-5));
      }
    }
}

TEST_CASE("anchor counts of whole pyramids") {
  CHECK(count(800, 1344) == 201600);
  CHECK(count(608, 1024) == 116712);
  CHECK(count(640, 640) == 76725);
  CHECK(count(416, 416) == 32526);
  CHECK(count(224, 224) == 9441);
}
