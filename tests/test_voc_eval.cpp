// The VOC evaluator against hand-computed figures and against a plain evaluator written from the definitions.
#include "data/voc_eval.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "core/error.h"
#include "tests/catch.h"

using namespace fovea;

namespace {

struct Image {
  std::vector<VocGroundTruth> truths;
  std::vector<VocDetection> detections;
};

VocResult evaluate(const std::vector<Image>& images, int classes, const VocOptions& options = {}) {
  VocEvaluator evaluator(classes, options);
  for (std::size_t i = images.size(); i-- > 0;)  // any order
    evaluator.add_image(static_cast<std::int64_t>(i), images[i].truths, images[i].detections);
  return evaluator.summarize();
}

// One ranked list over all images, as the devkit has it; precision by its definition at every recall.
double brute_ap(const std::vector<Image>& images, int label, const VocOptions& options) {
  struct Ranked {
    std::size_t image;
    VocDetection detection;
  };
  std::vector<Ranked> ranked;
  int positives = 0;
  for (std::size_t i = 0; i < images.size(); ++i) {
    for (const auto& d : images[i].detections)
      if (d.label == label) ranked.push_back({i, d});
    for (const auto& g : images[i].truths) positives += g.label == label && !g.difficult;
  }
  if (positives == 0) return -1;
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](auto& a, auto& b) { return a.detection.score > b.detection.score; });
  std::vector<std::vector<bool>> used;
  for (const Image& image : images) used.emplace_back(image.truths.size());
  std::vector<double> best(positives + 1);  // best[n]: the highest precision where n or more objects are found
  int hits = 0, misses = 0;
  const double one = options.inclusive ? 1 : 0;
  for (const auto& [image, d] : ranked) {
    double most = -1;
    std::size_t at = 0;
    for (std::size_t g = 0; g < images[image].truths.size(); ++g) {
      const VocGroundTruth& truth = images[image].truths[g];
      const double w = std::min(d.box.x2, truth.box.x2) - std::max(d.box.x1, truth.box.x1) + one;
      const double h = std::min(d.box.y2, truth.box.y2) - std::max(d.box.y1, truth.box.y1) + one;
      if (truth.label != label || w <= 0 || h <= 0) continue;
      const double a = (d.box.x2 - d.box.x1 + one) * (d.box.y2 - d.box.y1 + one);
      const double b = (truth.box.x2 - truth.box.x1 + one) * (truth.box.y2 - truth.box.y1 + one);
      if (w * h / (a + b - w * h) > most) most = w * h / (a + b - w * h), at = g;
    }
    if (most >= options.iou && images[image].truths[at].difficult) continue;
    const bool hit = most >= options.iou && !used[image][at];
    if (hit) used[image][at] = true;
    (hit ? hits : misses) += 1;
    for (int n = 0; n <= hits; ++n) best[n] = std::max(best[n], double(hits) / (hits + misses));
  }
  double sum = 0;
  if (options.eleven_points) {
    for (int t = 0; t <= 10; ++t) sum += best[(t * positives + 9) / 10] / 11;  // ceil(t / 10 * positives)
  } else {
    for (int n = 1; n <= positives; ++n) sum += best[n] / positives;
  }
  return sum;
}

const VocGroundTruth left{0, {0, 0, 99, 99}, false}, right{0, {200, 0, 299, 99}, false};

}  // namespace

TEST_CASE("voc_eval: one of two objects found, after a false positive") {
  const std::vector<Image> images{{{left, right}, {{0, {0, 0, 99, 99}, .5}, {0, {400, 400, 450, 450}, .9}}}};
  const VocResult all = evaluate(images, 2);
  REQUIRE(all.precision[0] == std::vector<double>{0, .5});
  REQUIRE(all.recall[0] == std::vector<double>{0, .5});
  REQUIRE(all.ap[0] == Approx(.25));  // precision 1/2 up to recall 1/2
  REQUIRE(all.ap[1] == -1);
  REQUIRE(all.map == Approx(.25));
  REQUIRE(evaluate(images, 1, {.eleven_points = true}).ap[0] == Approx(6 * .5 / 11));  // recall 0, 0.1 .. 0.5
}

TEST_CASE("voc_eval: an object counts once, a difficult one not at all") {
  const Box<double> box = left.box;
  REQUIRE(evaluate({{{left}, {{0, box, .9}, {0, box, .8}}}}, 1).precision[0] == std::vector<double>{1, .5});
  const VocGroundTruth hard{0, right.box, true};
  const VocResult result = evaluate({{{left, hard}, {{0, right.box, .9}, {0, right.box, .8}, {0, box, .5}}}}, 1);
  REQUIRE(result.precision[0] == std::vector<double>{1});
  REQUIRE(result.ap[0] == Approx(1));
  REQUIRE(evaluate({{{hard}, {{0, right.box, .9}}}}, 1).map == -1);
}

TEST_CASE("voc_eval: widths count the last pixel, unless told otherwise") {
  const VocGroundTruth truth{0, {0, 0, 9, 9}, false};                   // 10 x 10 pixels
  const std::vector<Image> images{{{truth}, {{0, {0, 0, 9, 4}, .9}}}};  // 10 x 5: IoU exactly 1/2; else 4/9
  REQUIRE(evaluate(images, 1).ap[0] == Approx(1));
  REQUIRE(evaluate(images, 1, {.inclusive = false}).ap[0] == 0);
  REQUIRE(evaluate(images, 1, {.iou = .51}).ap[0] == 0);
}

TEST_CASE("voc_eval: equals a plain evaluator on random cases") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 engine(seed);
    const auto dice = [&](int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); };
    const auto box = [&] {
      const double x = dice(12) * 5, y = dice(12) * 5;
      return Box<double>{x, y, x + 9 + dice(4) * 10, y + 9 + dice(4) * 10};
    };
    std::vector<Image> images(1 + dice(5));
    for (Image& image : images) {
      for (int n = dice(8); n > 0; --n) image.truths.push_back({dice(3), box(), dice(5) == 0});
      for (int n = dice(20); n > 0; --n) {
        VocDetection d{dice(3), box(), dice(10) / 10.0};
        if (!image.truths.empty() && dice(3)) {
          const VocGroundTruth& g = image.truths[dice(static_cast<int>(image.truths.size()))];
          d = {g.label, {g.box.x1, g.box.y1, g.box.x2 + dice(3) * 3, g.box.y2 + dice(3) * 3}, d.score};
        }
        image.detections.push_back(d);
      }
    }
    const VocOptions options{.iou = dice(2) ? .5 : .75, .eleven_points = dice(2) == 0, .inclusive = dice(2) == 0};
    const VocResult result = evaluate(images, 3, options);
    for (int label = 0; label < 3; ++label) {
      INFO("seed " << seed << " label " << label);
      REQUIRE(result.ap[label] == Approx(brute_ap(images, label, options)).margin(1e-12));
    }
  }
}

TEST_CASE("voc_eval: bad input is refused") {
  VocEvaluator evaluator(1);
  const Box<double> box = left.box, broken{std::nan(""), 0, 1, 1};
  evaluator.add_image(1, {}, {});
  REQUIRE_THROWS_AS(evaluator.add_image(1, {}, {}), Error);
  REQUIRE_THROWS_AS(evaluator.add_image(2, {{1, box, false}}, {}), Error);
  REQUIRE_THROWS_AS(evaluator.add_image(2, {{0, broken, false}}, {}), Error);
  REQUIRE_THROWS_AS(evaluator.add_image(2, {}, {{-1, box, .5}}), Error);
  REQUIRE_THROWS_AS(evaluator.add_image(2, {}, {{0, box, std::nan("")}}), Error);
  REQUIRE(evaluator.summarize().map == -1);
}
