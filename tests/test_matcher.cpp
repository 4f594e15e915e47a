// The streaming matcher against a brute-force matrix, and the cases on which frameworks differ.
#include <rapidcheck.h>
#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "core/threads.h"
#include "models/matcher.h"
#include "tests/catch.h"

using namespace fovea;
using Boxes = std::vector<Box<float>>;

namespace {

Matches run(const Boxes& anchors, const Boxes& boxes, const MatcherOptions& o = {}, const Boxes& ignore = {}) {
  return match<float>(anchors, boxes, ignore, o);
}

// The definition, with the whole matrix.
std::vector<int64_t> brute(const Boxes& anchors, const Boxes& boxes, const MatcherOptions& o, const Boxes& ignore) {
  const size_t n = anchors.size(), m = boxes.size();
  std::vector<int64_t> out(n, -1);
  std::vector<float> best(m, 0);
  for (size_t b = 0; b < m; ++b)
    for (auto& a : anchors) best[b] = std::max(best[b], iou(boxes[b], a));
  for (size_t a = 0; a < n; ++a) {
    float top = -1;
    size_t arg = 0;
    for (size_t b = 0; b < m; ++b)
      if (iou(boxes[b], anchors[a]) > top) top = iou(boxes[b], anchors[a]), arg = b;
    if (m > 0) out[a] = top >= float(o.high) ? int64_t(arg) : top >= float(o.low) ? -2 : -1;
    for (size_t b = 0; b < m && o.low_quality; ++b)
      if (best[b] >= float(o.floor) && iou(boxes[b], anchors[a]) == best[b]) {
        if (o.rule == "last") out[a] = int64_t(b);
        if (o.rule == "argmax" || (o.rule == "background" && top >= float(o.low))) out[a] = int64_t(arg);
      }
    for (auto& region : ignore)
      if (out[a] == -1 && ioa(anchors[a], region) > float(o.ignore_ioa)) out[a] = -2;
  }
  return out;
}

Boxes random_boxes(Dice& dice, int64_t n) {  // on a coarse grid, so that ties and touching corners are common
  Boxes boxes;
  for (int64_t i = 0; i < n; ++i) {
    const float x = float(dice.integer(0, 12)), y = float(dice.integer(0, 12));
    boxes.push_back({x, y, x + float(dice.integer(0, 8)), y + float(dice.integer(0, 8))});
  }
  return boxes;
}

}  // namespace

TEST_CASE("matcher: equal to the matrix for every rule, on any number of threads") {
  rc::check([](uint64_t seed) {
    Dice dice(seed);
    const char* rules[] = {"argmax", "last", "background"};
    MatcherOptions o{.low_quality = dice.chance(0.8), .rule = rules[dice.integer(0, 2)]};
    const double floors[] = {-1, 0.01, 0.05, 0.3};
    o.floor = floors[dice.integer(0, 3)];
    const Boxes anchors = random_boxes(dice, dice.chance(0.02) ? 9000 : dice.integer(0, 300));
    const Boxes boxes = random_boxes(dice, dice.integer(0, 12)), ignore = random_boxes(dice, dice.integer(0, 3));
    const int threads = num_threads();
    set_num_threads(static_cast<int>(dice.integer(1, 4)));
    const Matches m = run(anchors, boxes, o, ignore);
    set_num_threads(threads);
    RC_ASSERT(m.box == brute(anchors, boxes, o, ignore));
    int64_t positives = 0;
    for (int64_t b : m.box) positives += b >= 0;
    RC_ASSERT(m.positives == positives);
    RC_ASSERT(m.counted >= m.positives);
  });
}

TEST_CASE("matcher: mmdetection's example, with an ignore region") {
  const Boxes anchors = {{0, 0, 10, 10}, {10, 10, 20, 20}, {5, 5, 15, 15}, {32, 32, 38, 42}};
  const Boxes boxes = {{0, 0, 10, 9}, {0, 10, 10, 19}};
  const MatcherOptions o{.high = 0.5, .low = 0.5, .low_quality = false};
  CHECK(run(anchors, boxes, o).box == std::vector<int64_t>{0, -1, -1, -1});
  CHECK(run(anchors, boxes, {.high = 0.5, .low = 0.5, .floor = 0.01, .rule = "last"}).box ==
        std::vector<int64_t>{0, -1, 1, -1});
  Boxes last = anchors;
  last[3] = {30, 32, 40, 42};
  CHECK(run(last, boxes, o, {{30, 30, 40, 40}}).box == std::vector<int64_t>{0, -1, -1, -2});
  MatcherOptions off = o;
  off.ignore_ioa = 2;
  CHECK(run(last, boxes, off, {{30, 30, 40, 40}}).box[3] == -1);
}

TEST_CASE("matcher: low-quality matches of the frameworks") {
  // IoU 0.3 with the only anchor: 10 x 10 against 10 x 3
  const Boxes anchors = {{0, 0, 10, 10}, {50, 50, 60, 60}}, box = {{0, 0, 10, 3}};
  Matches m = run(anchors, box);
  CHECK(m.box == std::vector<int64_t>{0, -1});
  CHECK(m.low_quality == 1);
  CHECK(m.best[0] == Approx(0.3));
  m = run(anchors, box, {.rule = "background"});
  CHECK(m.box == std::vector<int64_t>{-1, -1});
  CHECK(m.positives == 0);
  CHECK(m.counted == 1);
  CHECK(m.unmatched == 1);
  CHECK(run(anchors, box, {.low_quality = false}).box == std::vector<int64_t>{-1, -1});
  // One anchor is the best of two boxes: it stays with the one it overlaps most, or goes to the last.
  const Boxes one = {{0, 0, 10, 10}}, two = {{0, 0, 10, 9}, {0, 0, 10, 8}};
  CHECK(run(one, two).box == std::vector<int64_t>{0});
  CHECK(run(one, two).unmatched == 1);
  CHECK(run(one, two, {.rule = "last"}).box == std::vector<int64_t>{1});
}

TEST_CASE("matcher: a box that no anchor overlaps makes no positives, unless torchvision is to be repeated") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Boxes anchors = {{0, 0, 10, 10}, {5, 5, 15, 15}};
  for (const Box<float>& outside :
       {Box<float>{100, 100, 120, 120}, Box<float>{3, 3, 3, 9}, Box<float>{nan, nan, nan, nan}}) {
    const Matches m = run(anchors, {outside});
    CHECK(m.box == std::vector<int64_t>{-1, -1});
    CHECK(m.unmatched == 1);
    CHECK(run(anchors, {outside}, {.floor = -1}).box == std::vector<int64_t>{0, 0});
  }
}

TEST_CASE("matcher: empty boxes, empty anchors, unknown rule") {
  CHECK(run({{0, 0, 1, 1}}, {}).box == std::vector<int64_t>{-1});
  CHECK(run({}, {{0, 0, 1, 1}}).box.empty());
  CHECK(run({}, {{0, 0, 1, 1}}).unmatched == 1);
  CHECK_THROWS_AS(run({}, {}, {.rule = "best"}), Error);
}
