// The COCO evaluator against known figures and against a plain evaluator written from the definitions.
#include "data/coco_eval.h"

#include <algorithm>
#include <random>

#include "core/error.h"
#include "tests/catch.h"

using namespace fovea;
using Stats = std::array<double, 12>;

namespace {

struct Image {
  std::int64_t id = 0;
  std::vector<CocoGroundTruth> truths;
  std::vector<CocoDetection> detections;
};

CocoResult evaluate(const std::vector<Image>& images, const std::vector<std::int64_t>& categories,
                    const CocoOptions& options = {}) {
  CocoEvaluator evaluator(categories, options);
  for (const Image& image : images) evaluator.add_image(image.id, image.truths, image.detections);
  return evaluator.summarize();
}

void require_close(const CocoResult& result, const Stats& expected) {
  for (int i = 0; i < 12; ++i) {
    INFO("figure " << i);
    REQUIRE(result.stats[i] == Approx(expected[i]).margin(1e-12));
  }
}

// ---- the plain evaluator: every cell (category, area, IoU, limit) from nothing, and no attention to speed

struct Cell {
  bool defined = false;
  double recall = 0;
  std::array<double, 101> precision{};
};

double brute_iou(const CocoDetection& d, const CocoGroundTruth& g) {
  const double w = std::max(0.0, std::min(d.box.x + d.box.w, g.box.x + g.box.w) - std::max(d.box.x, g.box.x));
  const double h = std::max(0.0, std::min(d.box.y + d.box.h, g.box.y + g.box.h) - std::max(d.box.y, g.box.y));
  if (w * h == 0) return 0;
  const double either = g.crowd ? d.box.w * d.box.h : d.box.w * d.box.h + g.box.w * g.box.h - w * h;
  return w * h / either;
}

struct Outcome {
  double score;
  bool hit, ignored;
};

// The toolkit's loop for one image, literally.
void brute_match(std::vector<CocoGroundTruth> truths, std::vector<CocoDetection> detections, double low, double high,
                 double threshold, std::size_t limit, std::vector<Outcome>& outcomes, int& positives) {
  const auto ignored = [&](const CocoGroundTruth& g) {
    const double area = g.area ? *g.area : g.box.w * g.box.h;
    return g.crowd || area < low || area > high;
  };
  std::stable_sort(truths.begin(), truths.end(), [&](auto& a, auto& b) { return ignored(a) < ignored(b); });
  std::stable_sort(detections.begin(), detections.end(), [](auto& a, auto& b) { return a.score > b.score; });
  if (detections.size() > limit) detections.resize(limit);
  std::vector<bool> taken(truths.size());
  for (const auto& g : truths) positives += !ignored(g);
  for (const auto& d : detections) {
    double best_iou = std::min(threshold, 1 - 1e-10);
    int best = -1;
    for (std::size_t g = 0; g < truths.size(); ++g) {
      if (taken[g] && !truths[g].crowd) continue;
      if (best > -1 && !ignored(truths[best]) && ignored(truths[g])) break;
      const double iou = brute_iou(d, truths[g]);
      if (iou < best_iou) continue;
      best_iou = iou;
      best = static_cast<int>(g);
    }
    if (best > -1) taken[best] = true;
    const double area = d.box.w * d.box.h;
    const bool skip = best > -1 ? ignored(truths[best]) : area < low || area > high;
    outcomes.push_back({d.score, best > -1, skip});
  }
}

template <class T> std::vector<T> of_category(std::vector<T> all, std::int64_t category, bool pooled) {
  if (pooled) {
    std::stable_sort(all.begin(), all.end(), [](const T& a, const T& b) { return a.category < b.category; });
    return all;
  }
  all.erase(std::remove_if(all.begin(), all.end(), [&](const T& a) { return a.category != category; }), all.end());
  return all;
}

Cell brute_cell(const std::vector<Image>& images, std::int64_t category, bool pooled, int area, double threshold,
                int limit) {
  const double low[] = {0, 0, 1024, 9216}, high[] = {1e10, 1024, 9216, 1e10};
  std::vector<Outcome> outcomes;
  int positives = 0;
  for (const Image& image : images)
    brute_match(of_category(image.truths, category, pooled), of_category(image.detections, category, pooled), low[area],
                high[area], threshold, limit, outcomes, positives);
  Cell cell;
  if (positives == 0) return cell;
  cell.defined = true;
  std::stable_sort(outcomes.begin(), outcomes.end(), [](auto& a, auto& b) { return a.score > b.score; });
  double hits = 0, misses = 0;
  for (const Outcome& o : outcomes) {
    if (o.ignored) continue;
    (o.hit ? hits : misses) += 1;
    cell.recall = hits / positives;
    for (int r = 0; r <= 100; ++r)  // interpolation by its definition: the best precision at this recall or beyond
      if (cell.recall >= r * 0.01) cell.precision[r] = std::max(cell.precision[r], hits / (hits + misses));
  }
  return cell;
}

struct Average {
  double sum = 0;
  int count = 0;
  void add(double value) { sum += value, ++count; }
  double value() const { return count ? sum / count : -1; }
};

struct Brute {
  Stats stats;
  std::vector<double> category_ap;
};

Brute brute_evaluate(std::vector<Image> images, const std::vector<std::int64_t>& categories,
                     const CocoOptions& options) {
  std::sort(images.begin(), images.end(), [](auto& a, auto& b) { return a.id < b.id; });
  std::array<Average, 12> figures;
  std::vector<double> category_ap;
  const std::vector<std::int64_t> groups = options.use_categories ? categories : std::vector<std::int64_t>{-1};
  for (const std::int64_t category : groups) {
    Average ap;
    for (int t = 0; t < 10; ++t) {
      for (int area = 0; area < 4; ++area) {
        for (int m = area == 0 ? 0 : 2; m < 3; ++m) {
          const Cell cell =
              brute_cell(images, category, !options.use_categories, area, coco_iou_thresholds[t], options.max_dets[m]);
          if (!cell.defined) continue;
          figures[area == 0 ? 6 + m : 8 + area].add(cell.recall);
          for (int r = 0; m == 2 && r <= 100; ++r) {
            figures[area == 0 ? 0 : 2 + area].add(cell.precision[r]);
            if (area == 0 && t == 0) figures[1].add(cell.precision[r]);
            if (area == 0 && t == 5) figures[2].add(cell.precision[r]);
            if (area == 0) ap.add(cell.precision[r]);
          }
        }
      }
    }
    category_ap.push_back(ap.value());
  }
  Brute result{{}, category_ap};
  for (int i = 0; i < 12; ++i) result.stats[i] = figures[i].value();
  return result;
}

// ---- random cases; coordinates are whole, so that both evaluators' IoUs are the same doubles

struct Dice {
  std::mt19937 engine;
  int operator()(int n) { return static_cast<int>(engine() % static_cast<unsigned>(n)); }  // 0 .. n - 1
  bool chance(int percent) { return (*this)(100) < percent; }
  template <class T> T pick(const std::vector<T>& from) { return from[(*this)(static_cast<int>(from.size()))]; }
};

CocoBox random_box(Dice& dice) {
  const std::vector<double> sides{0, 8, 16, 31, 32, 32, 33, 64, 95, 96, 96, 97, 180};
  return {dice(40) * 4.0, dice(40) * 4.0, dice.pick(sides), dice.pick(sides)};
}

Image random_image(Dice& dice, std::int64_t id, const std::vector<std::int64_t>& categories) {
  Image image{id, {}, {}};
  if (dice.chance(15)) return image;
  for (int n = dice.pick<int>({0, 1, 2, 6, 15}); n > 0; --n) {
    // the first category never has ground truth
    const std::int64_t category = categories[categories.size() > 1 ? 1 + dice(int(categories.size()) - 1) : 0];
    CocoGroundTruth g{.category = category, .box = random_box(dice), .crowd = dice.chance(20)};
    if (dice.chance(40)) g.area = dice.pick<double>({1024, 9216, 1024.5, 9216.5, 1023.5, 500});
    image.truths.push_back(g);
    if (dice.chance(10)) image.truths.push_back(g);  // equal IoU with every detection
  }
  for (int n = dice.pick<int>({0, 1, 4, 12, 30}); n > 0; --n) {
    CocoDetection d{dice.pick(categories), random_box(dice), dice(6) / 5.0};  // many equal scores
    if (!image.truths.empty() && dice.chance(80)) {
      const CocoGroundTruth& g = dice.pick(image.truths);
      if (dice.chance(90)) d.category = g.category;
      d.box = g.box;
      d.box.x += dice(3) * 4 - 4;
      d.box.w += dice(3) * 4;
      d.box.h += dice(2) * dice(9);
    }
    image.detections.push_back(d);
  }
  return image;
}

}  // namespace

TEST_CASE("coco_eval: the thresholds are numpy.linspace's doubles") {
  const double expected[] = {
      0x1.0p-1, 0x1.199999999999ap-1, 0x1.3333333333333p-1, 0x1.4cccccccccccdp-1, 0x1.6666666666666p-1,
      0x1.8p-1, 0x1.999999999999ap-1, 0x1.b333333333333p-1, 0x1.cccccccccccccp-1, 0x1.e666666666666p-1};
  for (int t = 0; t < 10; ++t) REQUIRE(coco_iou_thresholds[t] == expected[t]);
}

// The figures of the next four cases are the output of pycocotools 2.0 on the same boxes.
TEST_CASE("coco_eval: three objects between two false positives") {
  const Image image{1,
                    {{.category = 1, .box = {0, 0, 100, 100}},
                     {.category = 1, .box = {110, 0, 100, 100}},
                     {.category = 1, .box = {220, 0, 100, 100}}},
                    {{1, {0, 0, 100, 100}, 0.9},
                     {1, {0, 500, 100, 100}, 0.8},
                     {1, {110, 0, 100, 100}, 0.7},
                     {1, {0, 700, 100, 100}, 0.6},
                     {1, {220, 0, 100, 100}, 0.5}}};
  const CocoResult result = evaluate({image}, {1});
  const double ap = 0.7564356435643563;
  require_close(result, {ap, ap, ap, -1, -1, ap, 1.0 / 3, 1, 1, -1, -1, 1});
  REQUIRE(result.curve(0, 0).size() == 101);
  REQUIRE(result.curve(0, 0)[0] == Approx(1));
  REQUIRE(result.curve(0, 0)[33] == Approx(1));         // recall 1/3 at precision 1
  REQUIRE(result.curve(0, 0)[34] == Approx(2.0 / 3));   // 2/3 at 2/3
  REQUIRE(result.curve(0, 0)[100] == Approx(3.0 / 5));  // all three at 3/5
  REQUIRE(result.curve(0, 0, 1)[0] == -1);              // no small objects
}

TEST_CASE("coco_eval: an IoU of exactly one half counts at the first threshold") {
  const Image image{1, {{.category = 3, .box = {0, 0, 100, 100}}}, {{3, {0, 0, 100, 50}, 0.9}}};
  require_close(evaluate({image}, {3}), {.1, 1, 0, -1, -1, .1, .1, .1, .1, -1, -1, .1});
}

TEST_CASE("coco_eval: the area field, not the box, decides what is small") {
  const Image image{1, {{.category = 1, .box = {0, 0, 40, 40}, .area = 900}}, {{1, {0, 0, 40, 40}, 0.9}}};
  require_close(evaluate({image}, {1}), {1, 1, 1, 1, -1, -1, 1, 1, 1, 1, -1, -1});
}

TEST_CASE("coco_eval: crowds alone, no images and no categories leave every figure undefined") {
  const Image crowd{1, {{.category = 1, .box = {300, 300, 400, 400}, .crowd = true}}, {{1, {310, 310, 50, 50}, .9}}};
  Stats undefined;
  undefined.fill(-1);
  require_close(evaluate({crowd}, {1}), undefined);
  require_close(evaluate({}, {1, 2}), undefined);
  require_close(evaluate({}, {}), undefined);
  require_close(CocoEvaluator(2).summarize(), undefined);
}

TEST_CASE("coco_eval: objects without any detection score 0, detections without objects cost nothing") {
  const Image missed{1, {{.category = 1, .box = {0, 0, 100, 100}}}, {}};
  require_close(evaluate({missed}, {1}), {0, 0, 0, -1, -1, 0, 0, 0, 0, -1, -1, 0});
  const Image image{1, {{.category = 1, .box = {0, 0, 100, 100}}}, {{1, {0, 0, 100, 100}, .9}, {2, {0, 0, 9, 9}, 1}}};
  const CocoResult result = evaluate({image}, {2, 1});
  REQUIRE(result.stats[0] == Approx(1));
  REQUIRE(result.categories == std::vector<std::int64_t>{1, 2});
  REQUIRE(result.category_ap[0] == Approx(1));
  REQUIRE(result.category_ap[1] == -1);
}

TEST_CASE("coco_eval: equals a plain evaluator on random cases") {
  for (unsigned seed = 0; seed < 150; ++seed) {
    Dice dice{std::mt19937(seed)};
    std::vector<std::int64_t> categories;
    for (int n = 1 + dice(4); n > 0; --n) categories.push_back(7 * n);
    std::vector<Image> images;
    for (int n = 1 + dice(5); n > 0; --n) images.push_back(random_image(dice, 10 + (n * 7) % 11, categories));
    CocoOptions options{.use_categories = !dice.chance(30)};
    if (dice.chance(50)) options.max_dets = {1, 3, 10};
    std::sort(categories.begin(), categories.end());

    INFO("seed " << seed);
    const CocoResult result = evaluate(images, categories, options);
    const Brute expected = brute_evaluate(images, categories, options);
    require_close(result, expected.stats);
    REQUIRE(result.category_ap.size() == expected.category_ap.size());
    for (std::size_t k = 0; k < expected.category_ap.size(); ++k)
      REQUIRE(result.category_ap[k] == Approx(expected.category_ap[k]).margin(1e-12));

    // the order of the images does not change a bit
    std::shuffle(images.begin(), images.end(), dice.engine);
    const CocoResult again = evaluate(images, categories, options);
    REQUIRE(again.stats == result.stats);
    REQUIRE(again.precision == result.precision);
  }
}

TEST_CASE("coco_eval: more images may follow a summary") {
  const CocoBox box = coco_box(10, 20, 60, 80);
  REQUIRE((box.x == 10 && box.y == 20 && box.w == 50 && box.h == 60));
  CocoEvaluator evaluator(1);
  evaluator.add_image(2, {{.category = 0, .box = box}}, {{0, box, .5}});
  REQUIRE(evaluator.summarize().stats[0] == Approx(1));
  evaluator.add_image(1, {{.category = 0, .box = box}}, {{0, {300, 300, 10, 10}, .9}});
  const CocoResult both = evaluator.summarize();
  REQUIRE(both.stats[8] == Approx(.5));
  REQUIRE(both.stats[0] == Approx(51 * .5 / 101));  // recall 0 .. 0.5 at precision 1/2
  REQUIRE(evaluator.summarize().stats == both.stats);
}

TEST_CASE("coco_eval: strict repeats the toolkit's faults, and both modes tell") {
  const CocoBox box{0, 0, 50, 50};
  const Image image{1, {{.category = 1, .box = box, .crowd = false, .id = 0}}, {{1, box, .9}}};
  const CocoResult fair = evaluate({image}, {1}), strict = evaluate({image}, {1}, {.strict = true});
  REQUIRE(fair.stats[0] == Approx(1));
  REQUIRE(strict.stats[0] == 0);
  REQUIRE(fair.warnings.size() == 1);
  REQUIRE(strict.warnings.size() == 1);

  Image plain = image;
  plain.truths[0].id = 5;
  REQUIRE(evaluate({plain}, {1}).warnings.empty());
  REQUIRE(evaluate({plain}, {1}, {.max_dets = {1, 10, 300}}).stats[0] == Approx(1));
  REQUIRE(evaluate({plain}, {1}, {.strict = true, .max_dets = {1, 10, 300}}).stats[0] == -1);
  REQUIRE(evaluate({plain}, {1}, {.strict = true, .max_dets = {1, 100, 300}}).stats[0] == Approx(1));
}

TEST_CASE("coco_eval: the table has the toolkit's lines, and n/a where nothing is defined") {
  const Image image{1, {{.category = 3, .box = {0, 0, 100, 100}}}, {{3, {0, 0, 100, 50}, 0.9}}};
  REQUIRE(coco_table(evaluate({image}, {3})) ==
          " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.100\n"
          " Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ] = 1.000\n"
          " Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ] = 0.000\n"
          " Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = n/a\n"
          " Average Precision  (AP) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = n/a\n"
          " Average Precision  (AP) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.100\n"
          " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ] = 0.100\n"
          " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ] = 0.100\n"
          " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.100\n"
          " Average Recall     (AR) @[ IoU=0.50:0.95 | area= small | maxDets=100 ] = n/a\n"
          " Average Recall     (AR) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ] = n/a\n"
          " Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ] = 0.100\n");
}

TEST_CASE("coco_eval: the table of a strict evaluation names the 100 detections that its first figure is of") {
  const Image image{1, {{.category = 3, .box = {0, 0, 100, 100}}}, {{3, {0, 0, 100, 50}, 0.9}}};
  const std::string start = " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=";
  REQUIRE(coco_table(evaluate({image}, {3}, {.max_dets = {1, 10, 300}})).starts_with(start + "300 ] = 0.100\n"));
  const std::string strict = coco_table(evaluate({image}, {3}, {.strict = true, .max_dets = {1, 10, 300}}));
  REQUIRE(strict.starts_with(start + "100 ] = n/a\n"));
  REQUIRE(strict.find("IoU=0.50      | area=   all | maxDets=300 ] = 1.000\n") != std::string::npos);
}

TEST_CASE("coco_eval: bad input is refused and changes nothing") {
  const CocoBox box{0, 0, 50, 50};
  const double nan = std::nan("");
  CocoEvaluator evaluator(2);
  const auto code = [&](const std::vector<CocoGroundTruth>& truths, const std::vector<CocoDetection>& detections) {
    try {
      evaluator.add_image(1, truths, detections);
    } catch (const Error& error) { return error.code; }
    return Code::failure;
  };
  REQUIRE(code({{.category = 2, .box = box}}, {}) == Code::data);
  REQUIRE(code({{.category = 0, .box = {nan, 0, 1, 1}}}, {}) == Code::data);
  REQUIRE(code({{.category = 0, .box = box, .area = nan}}, {}) == Code::data);
  REQUIRE(code({}, {{0, {0, 0, nan, 1}, .5}}) == Code::data);
  REQUIRE(code({}, {{0, box, nan}}) == Code::data);
  evaluator.add_image(1, {{.category = 0, .box = box}}, {{0, box, .5}, {2, box, .9}});  // 2: left out, with a warning
  REQUIRE(code({}, {}) == Code::data);                                                  // a second image 1
  REQUIRE(evaluator.summarize().stats[0] == Approx(1));
  REQUIRE(evaluator.summarize().warnings.size() == 1);
  REQUIRE_THROWS_AS(CocoEvaluator(2, {.max_dets = {10, 1, 100}}), Error);
  REQUIRE_THROWS_AS(CocoEvaluator(2, {.max_dets = {0, 1, 100}}), Error);
  REQUIRE_THROWS_AS(CocoEvaluator(2, {.max_dets = {1, 100, 10}}), Error);
}
