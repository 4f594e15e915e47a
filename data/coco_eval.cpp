// Matching, accumulation and summary of the COCO evaluator; what looks arbitrary here is the toolkit's behaviour.
#include "data/coco_eval.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "core/error.h"
#include "core/words.h"

namespace fovea {
namespace {

struct Range {
  const char* name;
  double low, high;  // both ends belong to it: an area of 1024 is small and medium
  bool has(double area) const { return area >= low && area <= high; }
};
constexpr std::array<Range, coco_areas> ranges{
    {{"all", 0, 1e10}, {"small", 0, 32 * 32}, {"medium", 32 * 32, 96 * 96}, {"large", 96 * 96, 1e10}}};

constexpr std::uint16_t all_thresholds = (1 << coco_ious) - 1;

// The twelve figures: which cells each one averages.
struct Figure {
  bool precision;
  int iou;  // -1: all thresholds
  int area, max_dets;
};
constexpr std::array<Figure, 12> figures{{{true, -1, 0, 2},
                                          {true, 0, 0, 2},
                                          {true, 5, 0, 2},
                                          {true, -1, 1, 2},
                                          {true, -1, 2, 2},
                                          {true, -1, 3, 2},
                                          {false, -1, 0, 0},
                                          {false, -1, 0, 1},
                                          {false, -1, 0, 2},
                                          {false, -1, 1, 2},
                                          {false, -1, 2, 2},
                                          {false, -1, 3, 2}}};

struct Mean {  // of the defined values (> -1)
  double sum = 0;
  std::int64_t count = 0;
  void add(std::span<const double> values) {
    for (const double value : values)
      if (value > -1) sum += value, ++count;
  }
  double value() const { return count ? sum / static_cast<double>(count) : -1; }
};

double area(const CocoBox& box) { return box.w * box.h; }
double area(const CocoGroundTruth& truth) { return truth.area.value_or(area(truth.box)); }

struct Candidate {  // a ground truth that overlaps a detection by the lowest threshold or more
  int truth;
  double iou;
};

struct Truth {
  bool crowd, ignored;      // ignored: a crowd, or outside the area range
  std::uint16_t taken = 0;  // bit t: matched at IoU threshold t
};

// The candidate with the highest IoU, of equals the later; an ignored one only where no other reaches the threshold.
int best_match(std::span<const Candidate> candidates, const std::vector<Truth>& truths, int t) {
  for (const bool ignored : {false, true}) {
    int best = -1;
    double iou = coco_iou_thresholds[t];
    for (const Candidate& candidate : candidates) {
      const Truth& truth = truths[candidate.truth];
      if (truth.ignored != ignored || candidate.iou < iou) continue;
      if ((truth.taken >> t & 1) && !truth.crowd) continue;  // a crowd can be found many times
      iou = candidate.iou;
      best = candidate.truth;
    }
    if (best >= 0) return best;
  }
  return -1;
}

bool finite(const CocoBox& box) {
  return std::isfinite(box.x) && std::isfinite(box.y) && std::isfinite(box.w) && std::isfinite(box.h);
}
std::string show(const CocoBox& box) { return text("[", box.x, ", ", box.y, ", ", box.w, ", ", box.h, "]"); }

// Precision at each true positive in order of score, then its running maximum from the right: the envelope. The other
// points of the toolkit's curve never matter: precision falls, and recall stays, at a false positive.
std::vector<double> envelope(std::span<const std::uint8_t> outcome) {
  std::vector<double> precision;
  double seen = 0;
  for (const std::uint8_t hit : outcome) {
    ++seen;
    const double found = static_cast<double>(precision.size() + 1);
    if (hit) precision.push_back(found / (seen + std::numeric_limits<double>::epsilon()));
  }
  for (std::size_t i = precision.size(); i-- > 1;) precision[i - 1] = std::max(precision[i - 1], precision[i]);
  return precision;
}

// Interpolated precision at recall 0, 0.01 .. 1: that of the first true positive that reaches the recall, else 0.
void interpolate(const std::vector<double>& precision, std::int64_t positives, std::span<double> curve) {
  std::size_t found = 1;
  for (int r = 0; r < coco_recalls; ++r) {
    while (static_cast<double>(found) / static_cast<double>(positives) < r * 0.01) ++found;
    curve[r] = found <= precision.size() ? precision[found - 1] : 0;
  }
}

}  // namespace

// In maskApi.c's order of operations.
double coco_overlap(const CocoBox& detection, const CocoGroundTruth& truth) {
  const CocoBox &d = detection, &g = truth.box;
  const double w = std::min(d.w + d.x, g.w + g.x) - std::max(d.x, g.x);
  if (w <= 0) return 0;
  const double h = std::min(d.h + d.y, g.h + g.y) - std::max(d.y, g.y);
  if (h <= 0) return 0;
  const double both = w * h;
  return both / (truth.crowd ? area(d) : area(d) + area(g) - both);
}

CocoEvaluator::CocoEvaluator(int num_categories, const CocoOptions& options)
    : CocoEvaluator(
          [num_categories] {
            check(num_categories >= 0, "coco_eval: ", num_categories, " categories");
            std::vector<std::int64_t> ids(num_categories);
            for (int i = 0; i < num_categories; ++i) ids[i] = i;
            return ids;
          }(),
          options) {}

CocoEvaluator::CocoEvaluator(std::vector<std::int64_t> categories, const CocoOptions& options)
    : options_(options), ids_(std::move(categories)) {
  const std::array<int, 3>& limits = options_.max_dets;
  check(Code::usage, limits[0] > 0 && limits[0] <= limits[1] && limits[1] <= limits[2], "coco_eval: max_dets ",
        limits[0], ", ", limits[1], ", ", limits[2], " are not positive and ascending");
  std::sort(ids_.begin(), ids_.end());
  ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
  categories_.resize(options_.use_categories ? ids_.size() : 1);
}

// The category's place in categories_, or -1.
int CocoEvaluator::slot(std::int64_t category) const {
  const auto at = std::lower_bound(ids_.begin(), ids_.end(), category);
  if (at == ids_.end() || *at != category) return -1;
  return options_.use_categories ? static_cast<int>(at - ids_.begin()) : 0;
}

void CocoEvaluator::add_image(std::int64_t image, const std::vector<CocoGroundTruth>& ground_truths,
                              const std::vector<CocoDetection>& detections) {
  std::vector<std::pair<int, const CocoGroundTruth*>> truths;
  for (const CocoGroundTruth& truth : ground_truths) {
    truths.emplace_back(slot(truth.category), &truth);
    check(Code::data, truths.back().first >= 0, "coco_eval: image ", image, ": ground truth ", truths.size() - 1,
          " has the unknown category ", truth.category);
    check(Code::data, finite(truth.box) && std::isfinite(area(truth)), "coco_eval: image ", image, ": ground truth ",
          truths.size() - 1, " is not finite: box ", show(truth.box), ", area ", area(truth));
  }
  std::vector<std::pair<int, const CocoDetection*>> found;
  for (const CocoDetection& detection : detections) {
    check(Code::data, finite(detection.box) && std::isfinite(detection.score), "coco_eval: image ", image,
          ": detection ", &detection - detections.data(), " is not finite: box ", show(detection.box), ", score ",
          detection.score);
    const int at = slot(detection.category);
    if (at >= 0) found.emplace_back(at, &detection);
  }
  check(Code::data, images_.insert(image).second, "coco_eval: image ", image, " was added before");
  unknown_category_ += static_cast<std::int64_t>(detections.size() - found.size());
  for (const CocoGroundTruth& truth : ground_truths) id_zero_ += truth.id == 0;

  // Pooled categories are read one after the other; equal scores stay in that order.
  std::stable_sort(truths.begin(), truths.end(),
                   [](const auto& a, const auto& b) { return a.second->category < b.second->category; });
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) {
    if (a.first != b.first) return a.first < b.first;
    if (a.second->score != b.second->score) return a.second->score > b.second->score;
    return a.second->category < b.second->category;
  });
  match_groups(image, truths, found);
}

void CocoEvaluator::match_groups(std::int64_t image, std::span<const std::pair<int, const CocoGroundTruth*>> truths,
                                 std::span<const std::pair<int, const CocoDetection*>> detections) {
  const std::size_t limit = options_.max_dets[2];
  std::vector<const CocoGroundTruth*> same_truths;
  std::vector<const CocoDetection*> same_detections;
  for (std::size_t g = 0, d = 0; g < truths.size() || d < detections.size();) {
    const int next_truth = g < truths.size() ? truths[g].first : std::numeric_limits<int>::max();
    const int next_detection = d < detections.size() ? detections[d].first : std::numeric_limits<int>::max();
    const int at = std::min(next_truth, next_detection);
    same_truths.clear();
    same_detections.clear();
    for (; g < truths.size() && truths[g].first == at; ++g) same_truths.push_back(truths[g].second);
    for (; d < detections.size() && detections[d].first == at; ++d)
      if (same_detections.size() < limit) same_detections.push_back(detections[d].second);
    match(categories_[at], image, same_truths, same_detections);
  }
}

void CocoEvaluator::match(Category& category, std::int64_t image, std::span<const CocoGroundTruth* const> ground_truths,
                          std::span<const CocoDetection* const> detections) const {
  std::vector<Candidate> candidates;
  std::vector<std::size_t> first{0};  // detection d has the candidates first[d] .. first[d + 1]
  for (const CocoDetection* detection : detections) {
    for (std::size_t g = 0; g < ground_truths.size(); ++g) {
      const double iou = coco_overlap(detection->box, *ground_truths[g]);
      if (iou >= coco_iou_thresholds[0]) candidates.push_back({static_cast<int>(g), iou});
    }
    first.push_back(candidates.size());
  }
  const std::size_t start = category.detections.size();
  for (std::size_t d = 0; d < detections.size(); ++d)
    category.detections.push_back({detections[d]->score, image, static_cast<int>(d)});

  std::vector<Truth> truths(ground_truths.size());
  for (int a = 0; a < coco_areas; ++a) {
    for (std::size_t g = 0; g < truths.size(); ++g) {
      const bool crowd = ground_truths[g]->crowd;
      truths[g] = {crowd, crowd || !ranges[a].has(area(*ground_truths[g]))};
      category.positives[a] += !truths[g].ignored;
    }
    for (std::size_t d = 0; d < detections.size(); ++d) {
      Scored& scored = category.detections[start + d];
      const std::span<const Candidate> near(candidates.data() + first[d], first[d + 1] - first[d]);
      const bool outside = !ranges[a].has(area(detections[d]->box));
      if (outside && near.empty()) scored.ignored[a] = all_thresholds;
      for (int t = 0; t < coco_ious && !near.empty(); ++t) {
        const int best = best_match(near, truths, t);
        const std::uint16_t bit = 1 << t;
        if (best >= 0) truths[best].taken |= bit;
        const bool matched = best >= 0 && !(options_.strict && ground_truths[best]->id == 0);
        const bool ignored = (best >= 0 && truths[best].ignored) || (!matched && outside);
        if (ignored) scored.ignored[a] |= bit;
        else if (matched) scored.hit[a] |= bit;
      }
    }
  }
}

// Fills the category's part of result.precision and result.recall.
void CocoEvaluator::accumulate(std::size_t category, CocoResult& result) const {
  const Category& c = categories_[category];
  std::vector<std::uint8_t> outcome;
  for (int a = 0; a < coco_areas; ++a) {
    if (c.positives[a] == 0) continue;
    const std::size_t row = category * coco_areas + a;
    for (int t = 0; t < coco_ious; ++t) {
      outcome.clear();
      std::array<std::int64_t, 3> found{};
      for (const Scored& scored : c.detections) {
        if (scored.ignored[a] >> t & 1) continue;
        const bool hit = scored.hit[a] >> t & 1;
        outcome.push_back(hit);
        for (int m = 0; m < 3; ++m) found[m] += hit && scored.rank < options_.max_dets[m];
      }
      interpolate(envelope(outcome), c.positives[a],
                  std::span(result.precision).subspan((row * coco_ious + t) * coco_recalls, coco_recalls));
      for (int m = 0; m < 3; ++m)
        result.recall[(row * 3 + m) * coco_ious + t] =
            static_cast<double>(found[m]) / static_cast<double>(c.positives[a]);
    }
  }
}

// The toolkit's first figure, for exactly this many detections an image; -1 where max_dets does not have the number.
double CocoEvaluator::literal_ap(int max_dets) const {
  if (std::find(options_.max_dets.begin(), options_.max_dets.end(), max_dets) == options_.max_dets.end()) return -1;
  Mean mean;
  std::vector<std::uint8_t> outcome;
  std::array<double, coco_recalls> curve{};
  for (const Category& c : categories_) {
    for (int t = 0; t < coco_ious && c.positives[0] > 0; ++t) {
      outcome.clear();
      for (const Scored& scored : c.detections)
        if (scored.rank < max_dets && !(scored.ignored[0] >> t & 1)) outcome.push_back(scored.hit[0] >> t & 1);
      interpolate(envelope(outcome), c.positives[0], curve);
      mean.add(curve);
    }
  }
  return mean.value();
}

CocoResult CocoEvaluator::summarize() {
  CocoResult result;
  result.categories = options_.use_categories ? ids_ : std::vector<std::int64_t>{-1};
  result.max_dets = options_.max_dets;
  result.strict = options_.strict;
  const std::size_t rows = categories_.size() * coco_areas;
  result.precision.assign(rows * coco_ious * coco_recalls, -1);
  result.recall.assign(rows * 3 * coco_ious, -1);
  for (std::size_t k = 0; k < categories_.size(); ++k) {
    std::vector<Scored>& detections = categories_[k].detections;
    std::sort(detections.begin(), detections.end(), [](const Scored& a, const Scored& b) {
      if (a.score != b.score) return a.score > b.score;
      return a.image != b.image ? a.image < b.image : a.rank < b.rank;
    });
    accumulate(k, result);
    Mean ap;
    for (int t = 0; t < coco_ious; ++t) ap.add(result.curve(k, t));
    result.category_ap.push_back(ap.value());
  }
  for (std::size_t i = 0; i < figures.size(); ++i) {
    const Figure& f = figures[i];
    Mean mean;
    for (std::size_t k = 0; k < categories_.size(); ++k) {
      for (int t = std::max(f.iou, 0); t < (f.iou < 0 ? coco_ious : f.iou + 1); ++t) {
        if (f.precision) mean.add(result.curve(k, t, f.area));
        else mean.add({&result.recall[((k * coco_areas + f.area) * 3 + f.max_dets) * coco_ious + t], 1});
      }
    }
    result.stats[i] = mean.value();
  }
  if (options_.strict && options_.max_dets[2] != 100) result.stats[0] = literal_ap(100);
  add_warnings(result);
  return result;
}

void CocoEvaluator::add_warnings(CocoResult& result) const {
  if (id_zero_)
    result.warnings.push_back(
        text(counted(id_zero_, "annotation"),
             " of the ground truth with the id 0, which the COCO toolkit never counts as found; ",
             options_.strict ? "neither does this strict evaluation" : "here such a one counts like any other"));
  if (unknown_category_)
    result.warnings.push_back(text("left out ", counted(unknown_category_, "detection"),
                                   " of categories that the ground truth does not have"));
}

std::string coco_table(const CocoResult& result) {
  std::string table;
  for (std::size_t i = 0; i < figures.size(); ++i) {
    const Figure& f = figures[i];
    const int limit = i == 0 && result.strict ? 100 : result.max_dets[f.max_dets];
    const std::string iou = f.iou < 0 ? "0.50:0.95" : f.iou == 0 ? "0.50" : "0.75";
    char line[160];
    std::snprintf(line, sizeof line, " %-18s %s @[ IoU=%-9s | area=%6s | maxDets=%3d ] = ",
                  f.precision ? "Average Precision" : "Average Recall", f.precision ? "(AP)" : "(AR)", iou.c_str(),
                  ranges[f.area].name, limit);
    table += line;
    char value[16] = "n/a";
    if (result.stats[i] > -1) std::snprintf(value, sizeof value, "%0.3f", result.stats[i]);
    table += std::string(value) + "\n";
  }
  return table;
}

}  // namespace fovea
