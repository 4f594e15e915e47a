// The streaming matcher against a brute-force matrix, and the cases on which frameworks differ.
#include <rapidcheck.h>
#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "core/threads.h"
#include "models/matcher.h"
#include "tests/catch.h"
#include "tests/fake_device.h"

using namespace fovea;
using namespace fovea::test;
using Boxes = std::vector<Box<float>>;

namespace {

Matches run(const Boxes& anchors, const Boxes& boxes, const MatcherOptions& o = {}, const Boxes& ignore = {}) {
  return match(anchors, boxes, ignore, o);
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
  CHECK(rc::check([](uint64_t seed) {
    Dice dice(seed);
    const char* rules[] = {"argmax", "last", "background"};
    MatcherOptions o{.low_quality = dice.chance(0.8), .rule = rules[dice.integer(0, 2)]};
    const double floors[] = {-1, 0.01, 0.05, 0.3};
    o.floor = floors[dice.integer(0, 3)];
    const Boxes anchors = random_boxes(dice, dice.chance(0.02) ? 9000 : dice.integer(0, 300));
    const Boxes boxes = random_boxes(dice, dice.integer(0, 12)), ignore = random_boxes(dice, dice.integer(0, 3));
    const ThreadCount drawn(static_cast<int>(dice.integer(1, 4)));
    const Matches m = run(anchors, boxes, o, ignore);
    RC_ASSERT(m.box == brute(anchors, boxes, o, ignore));
    int64_t positives = 0, low_quality = 0;
    for (size_t a = 0; a < anchors.size(); ++a)
      if (m.box[a] >= 0) ++positives, low_quality += iou(boxes[size_t(m.box[a])], anchors[a]) < float(o.high);
    RC_ASSERT(m.positives == positives);
    RC_ASSERT(m.low_quality == low_quality);
    RC_ASSERT(m.counted >= m.positives);
  }));
}

namespace {

Tensor tensor_of(const Boxes& boxes) {
  Tensor t({static_cast<int64_t>(boxes.size()), 4});
  std::copy(boxes.begin(), boxes.end(), static_cast<Box<float>*>(t.raw()));
  return t;
}
Target random_target(Dice& dice) {
  Target t{random_boxes(dice, dice.integer(0, 12)), {}, random_boxes(dice, dice.integer(0, 3))};
  for (size_t b = 0; b < t.boxes.size(); ++b) t.labels.push_back(dice.integer(0, 5));
  if (dice.chance(0.5)) t.size = {static_cast<int>(dice.integer(1, 20)), static_cast<int>(dice.integer(1, 20))};
  return t;
}

}  // namespace

TEST_CASE("matcher: a batch is its images one by one, its levels are counted, padding is ignored") {
  CHECK(rc::check([](uint64_t seed) {
    Dice dice(seed);
    const Boxes anchors = random_boxes(dice, dice.integer(0, 60));
    const int64_t n = static_cast<int64_t>(anchors.size()), cut = dice.integer(0, n);
    std::vector<Target> targets;
    for (int64_t i = dice.integer(0, 4); i > 0; --i) targets.push_back(random_target(dice));
    const Assignment a = assign(tensor_of(anchors), {cut, n - cut}, targets, {}, true);
    const std::vector<Matches> all = to_matches(a);
    RC_ASSERT(all.size() == targets.size());
    for (size_t i = 0; i < all.size(); ++i) {
      const Target& t = targets[i];
      std::vector<int64_t> box = brute(anchors, t.boxes, {}, t.ignore);
      for (int64_t k = 0; k < n && t.size.first > 0; ++k) {
        const Box<float>& b = anchors[size_t(k)];
        if (b.x1 + b.x2 >= 2 * float(t.size.second) || b.y1 + b.y2 >= 2 * float(t.size.first)) box[size_t(k)] = -2;
      }
      RC_ASSERT(all[i].box == box);
      const auto positive = [](int64_t b) { return b >= 0; };
      const int64_t* counts = a.counts.data<int64_t>() + int64_t(i) * a.counts.dim(1);
      RC_ASSERT(counts[Assignment::kLevels] == std::count_if(box.begin(), box.begin() + cut, positive));
      RC_ASSERT(counts[Assignment::kLevels + 1] == std::count_if(box.begin() + cut, box.end(), positive));
      RC_ASSERT(counts[Assignment::kIgnored] == std::count(box.begin(), box.end(), Matches::ignored));
      int64_t missed = 0;
      for (size_t b = 0; b < t.boxes.size(); ++b) missed += std::count(box.begin(), box.end(), int64_t(b)) == 0;
      RC_ASSERT(all[i].unmatched == missed);
    }
  }));
}

TEST_CASE("matcher: a device finds the same, without a word to the processor and whatever there is to find") {
  Dice dice(3);
  WithFakeDevice fake;
  const Tensor anchors = tensor_of(random_boxes(dice, 1500)), there = anchors.to(Device::cuda);
  int64_t loops = -1;
  for (int turn = 0; turn < 5; ++turn) {
    const std::vector<Target> targets =
        turn == 0 ? std::vector<Target>(2) : std::vector<Target>{random_target(dice), random_target(dice)};
    const MatcherOptions o{.rule = turn % 2 ? "argmax" : "last"};
    const auto before = fake.device->counts;
    const Assignment a = assign(there, {1000, 500}, targets, o, turn > 2);
    const auto& after = fake.device->counts;
    CHECK(after.synchronizations == before.synchronizations);
    CHECK(after.to_device == before.to_device + 1);
    CHECK((turn == 0 || after.loops - before.loops == loops));
    loops = after.loops - before.loops;
    CHECK(a.boxes.dim(0) == 64);
    const Assignment here = assign(anchors, {1000, 500}, targets, o, turn > 2);
    CHECK(a.box.values<int64_t>() == here.box.values<int64_t>());
    CHECK(a.counts.values<int64_t>() == here.counts.values<int64_t>());
  }
}

TEST_CASE("matcher: other matches in the place of what was assigned are counted anew") {
  Dice dice(8);
  const Boxes anchors = random_boxes(dice, 40);
  Assignment a = assign(tensor_of(anchors), {30, 10}, {random_target(dice), random_target(dice)}, {});
  std::vector<Matches> matches = to_matches(a);
  for (Matches& m : matches) {
    m.box.assign(40, Matches::ignored), m.box[3] = Matches::background;
    m.box[5] = m.box[31] = m.box[32] = 0, m.positives = 3, m.counted = 4;
  }
  replace(a, matches);
  const std::vector<Matches> again = to_matches(a);
  for (size_t i = 0; i < 2; ++i) {
    CHECK(again[i].box == matches[i].box);
    CHECK(again[i].positives == 3);
    CHECK(again[i].counted == 4);
    const int64_t* counts = a.counts.data<int64_t>() + int64_t(i) * a.counts.dim(1);
    CHECK(counts[Assignment::kIgnored] == 36);
    CHECK(counts[Assignment::kLevels] == 1);
    CHECK(counts[Assignment::kLevels + 1] == 2);
  }
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

TEST_CASE("matcher: the best anchor of a box does not count where it is centred in the padding") {
  const Boxes anchors = {{0, 0, 10, 10}, {50, 50, 60, 60}}, box = {{0, 0, 10, 3}};
  for (const int side : {6, 4}) {  // the anchor's centre is at 5
    const Target target{.boxes = box, .labels = {0}, .size = {side, side}};
    const Matches m = to_matches(assign(tensor_of(anchors), {2}, {target}, {.rule = "background"}, true))[0];
    CHECK(m.counted == (side == 6));
    CHECK(m.positives == 0);
  }
}

TEST_CASE("matcher: a box that no anchor overlaps makes no positives, unless torchvision is to be repeated") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Boxes anchors = {{0, 0, 10, 10}, {5, 5, 15, 15}};
  for (const Box<float>& outside :
       {Box<float>{100, 100, 120, 120}, Box<float>{3, 3, 3, 9}, Box<float>{nan, nan, nan, nan},
        Box<float>{nan, 0, 10, 10}, Box<float>{0, 0, 10, nan}}) {
    const Matches m = run(anchors, {outside});
    CHECK(m.box == std::vector<int64_t>{-1, -1});
    CHECK(m.unmatched == 1);
    CHECK(run(anchors, {outside}, {.floor = -1}).box == std::vector<int64_t>{0, 0});
  }
}

TEST_CASE("matcher: every box of an image has its label, and no other image's") {
  const Tensor anchors = tensor_of({{0, 0, 10, 10}});
  const Target good{.boxes = {{0, 0, 10, 10}}, .labels = {1}};
  Target none = good, many = good;
  none.labels.clear(), many.boxes.clear(), many.labels.resize(100'000);
  CHECK_THROWS_WITH(assign(anchors, {1}, {none, good}, {}), contains("image 0 has 1 boxes and 0 labels"));
  CHECK_THROWS_WITH(assign(anchors, {1}, {good, many}, {}), contains("image 1 has 0 boxes and 100000 labels"));
}

TEST_CASE("matcher: empty boxes, empty anchors, unknown rule") {
  CHECK(run({{0, 0, 1, 1}}, {}).box == std::vector<int64_t>{-1});
  CHECK(run({}, {{0, 0, 1, 1}}).box.empty());
  CHECK(run({}, {{0, 0, 1, 1}}).unmatched == 1);
  CHECK_THROWS_AS(run({}, {}, {.rule = "best"}), Error);
}
