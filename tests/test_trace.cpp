// The trace of detections ends where detect() does, and tells of each candidate and object what is true of it.
#include "models/trace.h"

#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/error.h"
#include "core/random.h"
#include "tests/boxes.h"
#include "tests/catch.h"
#include "tests/files.h"
#include "tests/tiny_retinanet.h"

using namespace fovea;
using namespace fovea::test;
using Fate = TracedCandidate::Fate;

namespace {

// Logits on a grid, so that there are equal scores, and now and then one that is not finite.
RetinaNet::Output random_output(Dice& dice, const RetinaNetOptions& o, int height, int width) {
  RetinaNet::Output out;
  out.input_hw = {height, width};
  const int64_t classes = o.classes + (o.loss.kind == "softmax");
  for (int level = 3; level <= o.last_level; ++level) {
    const int64_t cell = int64_t{1} << level, h = (height + cell - 1) / cell, w = (width + cell - 1) / cell;
    out.anchors.push_back(make_anchors(o.anchors, level, {h, w}, {height, width}));
    const int64_t rows = out.anchors.back().dim(0);
    Tensor logits({1, rows, classes}), deltas({1, rows, 4});
    for (int64_t i = 0; i < logits.size(); ++i)
      logits.data<float>()[i] = dice.chance(0.002) ? NAN : float(std::round(dice.normal(-2, 2) * 8) / 8);
    for (int64_t i = 0; i < deltas.size(); ++i)
      deltas.data<float>()[i] = dice.chance(0.001) ? INFINITY : float(dice.normal(0, 0.3));
    out.logits.push_back(logits), out.deltas.push_back(deltas);
  }
  return out;
}

RetinaNetOptions random_options(Dice& dice) {
  RetinaNetOptions o = tiny(int(dice.integer(1, 4)));
  o.last_level = int(dice.integer(5, 7));
  o.score_threshold = dice.uniform(0, 0.6);
  if (dice.chance(0.3)) o.last_threshold = dice.uniform(0, 0.3);
  o.level_top = int(dice.chance(0.5) ? 1000 : dice.integer(1, 60));
  o.detections = int(dice.chance(0.5) ? 100 : dice.integer(1, 20));
  o.nms_threshold = dice.chance(0.1) ? 1 : dice.uniform(0.1, 0.9);
  o.nms_at_threshold = dice.chance(0.3);
  if (dice.chance(0.25)) o.loss = {.kind = "softmax", .alpha = -1, .gamma = 0};
  return o;
}

void check_story(const RetinaNetOptions& o, const Trace& trace) {
  const auto limit = float(o.nms_threshold);
  const auto over = [&](float iou) { return o.nms_at_threshold ? iou >= limit : iou > limit; };
  std::vector<int64_t> kept(trace.levels.size()), candidates(trace.levels.size());
  for (size_t i = 0; i < trace.candidates.size(); ++i) {
    const TracedCandidate& c = trace.candidates[i];
    ++candidates[size_t(c.level - 3)], kept[size_t(c.level - 3)] += c.fate == Fate::kept;
    REQUIRE((c.fate == Fate::suppressed) == (c.suppressed_by >= 0));
    if (c.suppressed_by < 0) continue;
    const TracedCandidate& by = trace.candidates[size_t(c.suppressed_by)];
    REQUIRE(size_t(c.suppressed_by) < i);
    REQUIRE(by.fate != Fate::suppressed);
    REQUIRE(by.detection.label == c.detection.label);
    REQUIRE(over(iou(by.detection.box, c.detection.box)));
  }
  for (size_t l = 0; l < trace.levels.size(); ++l) {
    REQUIRE(trace.levels[l].level == int(l) + 3);
    REQUIRE(trace.levels[l].kept == kept[l]);
    REQUIRE(trace.levels[l].candidates == candidates[l]);
    REQUIRE(trace.levels[l].candidates <= std::min<int64_t>(trace.levels[l].above, o.level_top));
  }
}

}  // namespace

TEST_CASE("the trace ends in the detections of detect()") {
  size_t found = 0, suppressed = 0, limited = 0;
  for (uint64_t seed = 0; seed < 80; ++seed) {
    Dice dice(seed);
    const RetinaNetOptions o = random_options(dice);
    const int height = int(dice.integer(17, 90)), width = int(dice.integer(17, 90));
    const auto output = random_output(dice, o, height, width);
    const std::pair<int, int> hw{height - int(dice.integer(0, 8)), width - int(dice.integer(0, 8))};
    const Trace trace = trace_detections(o, output, hw);
    const auto expected = detect(o, output, {hw})[0];
    std::vector<Detection> kept;
    for (const TracedCandidate& c : trace.candidates) {
      if (c.fate == Fate::kept) kept.push_back(c.detection);
      suppressed += c.fate == Fate::suppressed, limited += c.fate == Fate::over_limit;
    }
    found += kept.size();
    INFO("seed " << seed);
    REQUIRE(kept.size() == expected.size());
    for (size_t i = 0; i < kept.size(); ++i) {
      REQUIRE(same_box(kept[i].box, expected[i].box));
      REQUIRE(kept[i].score == expected[i].score);
      REQUIRE(kept[i].label == expected[i].label);
    }
    check_story(o, trace);
  }
  CHECK(found > 1000);  // all three happen
  CHECK(suppressed > 1000);
  CHECK(limited > 100);
}

TEST_CASE("the trace knows the best score of each cell and where a candidate comes from") {
  Dice dice(3);
  RetinaNetOptions o = tiny(2);
  o.last_level = 5;
  auto output = random_output(dice, o, 48, 70);
  for (Tensor& deltas : output.deltas) deltas = Tensor::zeros(deltas.shape());  // boxes stay anchors
  const Trace trace = trace_detections(o, output, {1000, 1000});
  const int64_t of_cell = o.anchors.count() * o.classes;
  for (size_t l = 0; l < trace.levels.size(); ++l) {
    const LevelTrace& level = trace.levels[l];
    REQUIRE(level.height * level.width == int64_t(level.best.size()));
    REQUIRE(level.height == (48 + (8 << l) - 1) / (8 << l));
    for (size_t cell = 0; cell < level.best.size(); ++cell) {
      double best = 0;
      for (int64_t i = 0; i < of_cell; ++i)
        if (const double x = output.logits[l].at(int64_t(cell) * of_cell + i); !std::isnan(x))
          best = std::max(best, 1 / (1 + std::exp(-x)));
      REQUIRE(level.best[cell] == Approx(best).epsilon(1e-5));
    }
  }
  REQUIRE(!trace.candidates.empty());
  for (const TracedCandidate& c : trace.candidates) {
    const Box<float> anchor = box_data(output.anchors[size_t(c.level - 3)])[c.anchor];
    const Box<float> clipped{std::max(anchor.x1, 0.f), std::max(anchor.y1, 0.f), std::max(anchor.x2, 0.f),
                             std::max(anchor.y2, 0.f)};
    REQUIRE(same_box(c.detection.box, clipped, 1e-4));
  }
}

TEST_CASE("the trace of objects: best anchor, positives, the best score among them") {
  const NoGrad off;
  RetinaNet model(tiny(3), 1);
  model.train(false);
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Dice dice(seed);
    const auto output = random_output(dice, model.options, 64, 96);
    Target target;
    for (int64_t n = dice.integer(0, 6); n > 0; --n) {
      const float x = float(dice.uniform(0, 70)), y = float(dice.uniform(0, 50));
      const double side = dice.chance(0.2) ? 1.5 : 60;  // some that no anchor is near
      target.boxes.push_back({x, y, x + float(dice.uniform(1, side)), y + float(dice.uniform(1, side))});
      target.labels.push_back(dice.integer(0, 2));
    }
    const auto objects = trace_objects(model, output, target);
    REQUIRE(objects.size() == target.boxes.size());
    const Matches matches = to_matches(model.assign(output, {target}))[0];
    for (size_t b = 0; b < objects.size(); ++b) {
      float best = 0, own = 0, highest = 0;
      int64_t positives = 0, at = 0;
      for (size_t l = 0; l < output.anchors.size(); ++l)
        for (int64_t a = 0; a < output.anchors[l].dim(0); ++a, ++at) {
          const float logit = float(output.logits[l].at(a * 3 + target.labels[b]));
          const float score = std::isnan(logit) ? 0 : 1 / (1 + std::exp(-logit));
          const float overlap = iou(box_data(output.anchors[l])[a], target.boxes[b]);
          if (overlap > best) best = overlap, own = score;
          if (matches.box[size_t(at)] == int64_t(b)) ++positives, highest = std::max(highest, score);
        }
      INFO("seed " << seed << ", object " << b);
      CHECK(objects[b].iou == best);
      CHECK(iou(box_data(output.anchors[size_t(objects[b].level - 3)])[objects[b].anchor], target.boxes[b]) == best);
      CHECK(objects[b].positives == positives);
      if (!std::isnan(objects[b].score)) CHECK(objects[b].score == Approx(positives > 0 ? highest : own).epsilon(1e-5));
    }
  }
}

TEST_CASE("what cannot be traced is refused with a way out") {
  Dice dice(1);
  RetinaNetOptions o = tiny();
  auto output = random_output(dice, o, 32, 32);
  RetinaNetOptions soft = o;
  soft.nms = "linear";
  require_words(message_of([&] { trace_detections(soft, output, {32, 32}); }, Code::usage), {"soft-NMS", "hard"});
  require_words(message_of([&] { trace_detections(o, {}, {32, 32}); }), {"empty", "model(images)"});
  for (Tensor& logits : output.logits) logits = Tensor({2, logits.dim(1), logits.dim(2)});
  require_words(message_of([&] { trace_detections(o, output, {32, 32}); }), {"2 images", "one at a time"});
}
