// The kinds of detection errors: by hand, against TIDE's own figures, and against a plain count of data points.
#include "data/detection_errors.h"

#include <algorithm>
#include <map>

#include "core/random.h"
#include "tests/catch.h"

using namespace fovea;

namespace {

struct Picture {
  std::vector<CocoGroundTruth> truths;
  std::vector<CocoDetection> detections;
};

std::vector<int64_t> first_categories(int64_t n) {
  std::vector<int64_t> all;
  for (int64_t k = 1; k <= n; ++k) all.push_back(k);
  return all;
}

ErrorReport report_of(const std::vector<Picture>& pictures, int64_t categories) {
  ErrorAnalysis analysis(first_categories(categories));
  for (size_t i = 0; i < pictures.size(); ++i)
    analysis.add_image(int64_t(i), pictures[i].truths, pictures[i].detections);
  return analysis.report();
}

// Objects, for each some boxes near it, some of them of another category, and boxes anywhere. uniform() in [0, 1).
template <class Uniform> std::vector<Picture> scenes(Uniform uniform, int pictures, int64_t categories, double crowds) {
  const auto category = [&] { return 1 + int64_t(uniform() * double(categories)); };
  const auto box = [&] {
    const double x = uniform() * 80, y = uniform() * 80, w = 5 + uniform() * 35;
    return CocoBox{x, y, w, 5 + uniform() * 35};
  };
  std::vector<Picture> all;
  for (int i = 0; i < pictures; ++i) {
    Picture p;
    for (int n = int(uniform() * 6); n > 0; --n) {
      CocoGroundTruth truth{.category = category(), .box = box()};
      truth.crowd = uniform() < crowds;
      p.truths.push_back(truth);
      for (int near = int(uniform() * 4); near > 0; --near) {
        const double off = uniform() < 0.5 ? 0.2 : 1;
        CocoBox b = truth.box;
        b.x += (uniform() - 0.5) * off * b.w, b.y += (uniform() - 0.5) * off * b.h;
        b.w *= 1 + (uniform() - 0.5) * off, b.h *= 1 + (uniform() - 0.5) * off;
        const int64_t called = uniform() < 0.75 ? truth.category : category();
        p.detections.push_back({called, b, uniform()});
      }
    }
    for (int n = int(uniform() * 3); n > 0; --n) {
      const int64_t called = category();
      const CocoBox b = box();
      p.detections.push_back({called, b, uniform() * 0.7});
    }
    all.push_back(p);
  }
  return all;
}

// ---- TIDE as its paper tells it: data points (score, correct), mended by hand; COCO's AP of them

struct Points {
  std::map<int64_t, std::vector<std::pair<double, bool>>> of;  // by category
  std::map<int64_t, int> positives;
  // Of the categories of `whole` also those whose objects are gone, where points are left: TIDE gives them 0.
  double ap50(const Points& whole) const {
    double sum = 0, categories = double(positives.size());
    for (auto& [category, n] : whole.positives) categories += !positives.count(category) && of.count(category);
    for (auto& [category, n] : positives) {
      auto points = of.count(category) ? of.at(category) : std::vector<std::pair<double, bool>>{};
      std::sort(points.begin(), points.end(), [](auto& a, auto& b) { return a.first > b.first; });
      for (int r = 0; r <= 100; ++r) {
        double best = 0, hits = 0;
        for (size_t i = 0; i < points.size(); ++i) {
          hits += points[i].second;
          if (hits / n >= r * 0.01) best = std::max(best, hits / double(i + 1));
        }
        sum += best / 101;
      }
    }
    return categories == 0 ? -1 : sum / categories;
  }
};

double overlap(const CocoBox& a, const CocoBox& b) {
  const double w = std::max(0.0, std::min(a.x + a.w, b.x + b.w) - std::max(a.x, b.x));
  const double h = std::max(0.0, std::min(a.y + a.h, b.y + b.h) - std::max(a.y, b.y));
  return w * h / (a.w * a.h + b.w * b.h - w * h);
}

struct Plain {
  std::map<std::string, int64_t> counts;
  std::map<std::string, Points> mended;  // "" is as it was
};

void judge_plainly(const Picture& p, Plain& all) {
  const std::string kinds[] = {"", "localisation", "classification", "both", "duplicate", "background", "missed"};
  std::vector<CocoDetection> found = p.detections;
  std::sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.score > b.score; });
  const size_t n = p.truths.size();
  std::vector<int> owner(n, -1), nearly(n, -1);
  std::vector<int> hit(found.size(), -1);
  for (size_t d = 0; d < found.size(); ++d) {
    double best = 0.5;
    for (size_t g = 0; g < n; ++g)
      if (!p.truths[g].crowd && p.truths[g].category == found[d].category && owner[g] < 0)
        if (const double iou = overlap(found[d].box, p.truths[g].box); iou >= best) best = iou, hit[d] = int(g);
    if (hit[d] >= 0) owner[size_t(hit[d])] = int(d);
  }
  const auto push = [&](const std::string& kind, int64_t category, double score, bool correct) {
    all.mended[kind].of[category].push_back({score, correct});
  };
  for (size_t d = 0; d < found.size(); ++d) {
    const CocoDetection& f = found[d];
    double own = 0, other = 0;
    int own_at = -1, other_at = -1;
    bool crowd = false;
    for (size_t g = 0; g < n; ++g) {
      const CocoGroundTruth& t = p.truths[g];
      const double w = std::max(0.0, std::min(f.box.x + f.box.w, t.box.x + t.box.w) - std::max(f.box.x, t.box.x));
      const double h = std::max(0.0, std::min(f.box.y + f.box.h, t.box.y + t.box.h) - std::max(f.box.y, t.box.y));
      const double iou = overlap(f.box, t.box);
      if (t.crowd) crowd = crowd || (t.category == f.category && w * h / (f.box.w * f.box.h) >= 0.5);
      else if (t.category == f.category && iou > own) own = iou, own_at = int(g);
      else if (t.category != f.category && iou > other) other = iou, other_at = int(g);
    }
    if (hit[d] < 0 && crowd) continue;
    std::string kind;
    int at = -1;
    if (hit[d] >= 0) kind = "";
    else if (own >= 0.1 && own <= 0.5) kind = "localisation", at = own_at;
    else if (other >= 0.5) kind = "classification", at = other_at;
    else if (own > 0.5) kind = "duplicate";
    else if (std::max(own, other) <= 0.1) kind = "background";
    else kind = "both";
    ++all.counts[kind];
    for (const std::string& k : kinds)
      if (k != kind || k.empty()) push(k, f.category, f.score, kind.empty());
    if (at >= 0 && owner[size_t(at)] < 0 && nearly[size_t(at)] < 0) {
      nearly[size_t(at)] = int(d);
      push(kind, p.truths[size_t(at)].category, f.score, true);
    }
  }
  for (size_t g = 0; g < n; ++g) {
    if (p.truths[g].crowd) continue;
    const bool missed = owner[g] < 0 && nearly[g] < 0;
    all.counts["missed"] += missed;
    for (const std::string& k : kinds)
      if (k != "missed" || !missed) ++all.mended[k].positives[p.truths[g].category];
  }
}

}  // namespace

TEST_CASE("each kind of error has its verdict") {
  const std::vector<CocoGroundTruth> truths = {{.category = 1, .box = {0, 0, 10, 10}},
                                               {.category = 2, .box = {100, 0, 10, 10}},
                                               {.category = 1, .box = {200, 0, 10, 10}},
                                               {.category = 1, .box = {300, 0, 100, 100}, .crowd = true},
                                               {.category = 2, .box = {0, 500, 10, 10}}};
  const std::vector<CocoDetection> detections = {{1, {1, 0, 10, 10}, 0.9},     // correct
                                                 {1, {0, 1, 10, 10}, 0.8},     // of the same object
                                                 {1, {100, 0, 10, 10}, 0.7},   // is a 2
                                                 {1, {205, 0, 10, 10}, 0.6},   // IoU 1/3
                                                 {1, {350, 50, 10, 10}, 0.5},  // in the crowd
                                                 {2, {350, 50, 10, 10}, 0.4},  // a crowd of the other class
                                                 {1, {105, 0, 10, 10}, 0.3}};  // IoU 1/3 with a 2
  const JudgedImage judged = judge_detections(truths, detections);
  const Verdict expected[] = {Verdict::correct,      Verdict::duplicate, Verdict::classification,
                              Verdict::localisation, Verdict::ignored,   Verdict::background,
                              Verdict::both};
  for (size_t d = 0; d < detections.size(); ++d) {
    INFO(d << ": " << verdict_name(judged.detections[d].verdict));
    CHECK(judged.detections[d].verdict == expected[d]);
  }
  CHECK((judged.found_by == std::vector<int>{0, -1, -1, -1, -1}));
  CHECK((judged.nearly_by == std::vector<int>{-1, 2, 3, -1, -1}));
  CHECK(judged.detections[3].iou == Approx(1.0 / 3));
  for (size_t g = 0; g < truths.size(); ++g) CHECK(judged.missed(truths, g) == (g == 4));
}

TEST_CASE("errors at the edges: no pictures, no objects, too many detections, unknown categories") {
  CHECK(report_of({}, 3).ap50 == -1);
  const ErrorReport nothing = report_of({{{}, {{1, {0, 0, 5, 5}, 0.5}, {9, {0, 0, 5, 5}, 0.5}}}}, 3);
  CHECK(nothing.ap50 == -1);
  CHECK(nothing.detections == 1);  // there is no category 9
  CHECK(nothing.kinds[4].name == "background");
  CHECK(nothing.kinds[4].count == 1);
  CHECK(nothing.kinds[4].gain == 0);
  Picture many{{{.category = 1, .box = {0, 0, 10, 10}}}, {}};
  for (int d = 0; d < 130; ++d) many.detections.push_back({1, {500, 0, 10, 10}, 0.5});
  many.detections.push_back({1, {0, 0, 10, 10}, 0.4});  // the 131st by its score
  const ErrorReport cut = report_of({many}, 1);
  CHECK(cut.detections == 100);
  CHECK(cut.left_out == 31);
  CHECK(cut.found == 0);
  CHECK(cut.kinds[5].count == 1);   // missed
  CHECK(cut.false_negatives == 0);  // without the object nothing is left to average
  const JudgedImage judged = judge_detections(many.truths, many.detections);
  CHECK(judged.detections[99].verdict == Verdict::background);
  CHECK(judged.detections[100].verdict == Verdict::left_out);
  CHECK(judged.detections[130].verdict == Verdict::left_out);
}

TEST_CASE("a class whose only object is missed stays in the mean with its false positives") {
  Picture p{{{.category = 1, .box = {0, 0, 10, 10}}, {.category = 2, .box = {100, 0, 10, 10}}}, {}};
  p.detections.push_back({1, {0, 0, 10, 10}, 0.9});
  const ErrorReport silent = report_of({p}, 2);  // of class 2 nothing is said: without its object it leaves the mean
  CHECK(silent.kinds[5].gain == Approx(0.5));
  p.detections.push_back({2, {500, 0, 10, 10}, 0.8});
  const ErrorReport report = report_of({p}, 2);
  CHECK(report.ap50 == Approx(0.5));
  CHECK(report.kinds[5].count == 1);  // missed
  CHECK(report.kinds[5].gain == 0);   // as tidecv 1.0.1 has it; and so all objects not found
  CHECK(report.false_negatives == 0);
}

TEST_CASE("counts and gains are those of a plain count of data points") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Dice dice{seed, 5};
    const int64_t categories = dice.integer(1, 5);
    const auto pictures =
        scenes([&] { return dice.uniform(0, 1); }, int(dice.integer(0, 12)), categories, seed % 3 == 0 ? 0.2 : 0);
    Plain plain;
    for (const Picture& p : pictures) judge_plainly(p, plain);
    const ErrorReport report = report_of(pictures, categories);
    INFO("seed " << seed);
    const Points& whole = plain.mended[""];
    const double before = whole.ap50(whole);
    CHECK(report.ap50 == Approx(before).margin(1e-12));
    CHECK(report.found == plain.counts[""]);
    for (const ErrorKind& kind : report.kinds) {
      INFO(kind.name);
      CHECK(kind.count == plain.counts[kind.name]);
      const double after = plain.mended[kind.name].ap50(whole);
      CHECK(kind.gain == Approx(after < 0 ? 0 : std::max(0.0, after - before)).margin(1e-12));
    }
  }
}

// What tidecv 1.0.1 (Bolya's own program) says of the same boxes, drawn by a generator that Python has, too:
// x -> (1103515245 x + 12345) mod 2^31 from 2020, uniform() = x / 2^31; its recalls set to i * 0.01 as COCO's are.
TEST_CASE("counts and gains are TIDE's") {
  uint64_t x = 2020;
  const auto uniform = [&] {
    return double(x = (1103515245 * x + 12345) % (uint64_t{1} << 31)) / double(uint64_t{1} << 31);
  };
  const ErrorReport report = report_of(scenes(uniform, 50, 4, 0), 4);
  const std::map<std::string, std::pair<int64_t, double>> expected = {
      {"localisation", {75, 23.1010598}}, {"classification", {20, 6.29416934}}, {"both", {15, 2.05329896}},
      {"duplicate", {21, 1.35196111}},    {"background", {45, 1.41692752}},     {"missed", {25, 7.23173174}}};
  CHECK(100 * report.ap50 == Approx(29.9758753).margin(1e-6));
  for (const ErrorKind& kind : report.kinds) {
    INFO(kind.name);
    CHECK(kind.count == expected.at(kind.name).first);
    CHECK(100 * kind.gain == Approx(expected.at(kind.name).second).margin(1e-6));
  }
  CHECK(100 * report.false_positives == Approx(29.4300653).margin(1e-6));
  CHECK(100 * report.false_negatives == Approx(19.2323908).margin(1e-6));
}
