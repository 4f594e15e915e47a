// TIDE's error types, by the matching of COCO's evaluator at an IoU of 0.5.
#include "data/detection_errors.h"

#include <algorithm>
#include <numeric>

namespace fovea {
namespace {

constexpr double kForeground = 0.5, kBackground = 0.1;  // t_f and t_b

// Whom a detection overlaps most: of its class, of its class and still free, of other classes.
struct Nearest {
  int truth = -1;
  double iou = 0;
  void offer(int other, double other_iou) {  // of equals the later, as the evaluator has it
    if (other_iou > 0 && other_iou >= iou) truth = other, iou = other_iou;
  }
};

class Judge {
 public:
  Judge(const std::vector<CocoGroundTruth>& truths, const std::vector<CocoDetection>& detections)
      : truths_(truths), detections_(detections) {
    judged_.detections.resize(detections.size());
    judged_.found_by.assign(truths.size(), -1), judged_.nearly_by.assign(truths.size(), -1);
    order_.resize(detections.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(),
                     [&](int a, int b) { return detections[size_t(a)].score > detections[size_t(b)].score; });
    order_.resize(std::min(order_.size(), kJudgedDetections));
  }
  JudgedImage judge() {
    for (const int d : order_) match(d);
    for (const int d : order_)  // who has which object decides what the others did wrong
      if (of(d).verdict != Verdict::correct) find_fault(d);
    return std::move(judged_);
  }

 private:
  Judgement& of(int d) { return judged_.detections[size_t(d)]; }
  template <class Wanted> Nearest nearest(int d, Wanted wanted) const {
    Nearest best;
    const CocoDetection& detection = detections_[size_t(d)];
    for (size_t g = 0; g < truths_.size(); ++g)
      if (!truths_[g].crowd && wanted(g, truths_[g].category == detection.category))
        best.offer(int(g), coco_overlap(detection.box, truths_[g]));
    return best;
  }
  void match(int d) {
    const Nearest free = nearest(d, [&](size_t g, bool same) { return same && judged_.found_by[g] < 0; });
    if (free.truth < 0 || free.iou < kForeground) return;
    of(d) = {Verdict::correct, free.truth, free.iou};
    judged_.found_by[size_t(free.truth)] = d;
  }
  bool in_crowd(const CocoDetection& detection) const {
    return std::any_of(truths_.begin(), truths_.end(), [&](const CocoGroundTruth& truth) {
      return truth.crowd && truth.category == detection.category && coco_overlap(detection.box, truth) >= kForeground;
    });
  }
  void find_fault(int d) {
    const Nearest own = nearest(d, [](size_t, bool same) { return same; });
    const Nearest other = nearest(d, [](size_t, bool same) { return !same; });
    if (in_crowd(detections_[size_t(d)])) of(d) = {Verdict::ignored};
    else if (own.iou >= kBackground && own.iou <= kForeground) of(d) = {Verdict::localisation, own.truth, own.iou};
    else if (other.iou >= kForeground) of(d) = {Verdict::classification, other.truth, other.iou};
    else if (own.iou > kForeground) of(d) = {Verdict::duplicate, own.truth, own.iou};
    else if (other.iou <= kBackground) of(d) = {Verdict::background};
    else of(d) = {Verdict::both, other.truth, other.iou};
    const bool mendable = of(d).verdict == Verdict::localisation || of(d).verdict == Verdict::classification;
    if (!mendable) return;
    const auto truth = size_t(of(d).truth);
    if (judged_.found_by[truth] < 0 && judged_.nearly_by[truth] < 0) judged_.nearly_by[truth] = d;
  }

  const std::vector<CocoGroundTruth>& truths_;
  const std::vector<CocoDetection>& detections_;
  std::vector<int> order_;  // by score
  JudgedImage judged_;
};

struct Kind {
  Verdict verdict;  // correct: an object that was missed
  const char* meaning;
};
constexpr std::array<Kind, 6> kKinds{{{Verdict::localisation, "right class, box off: IoU 0.1 to 0.5"},
                                      {Verdict::classification, "right box, wrong class"},
                                      {Verdict::both, "wrong class, and box off"},
                                      {Verdict::duplicate, "of an object that was found better"},
                                      {Verdict::background, "on nothing: IoU below 0.1"},
                                      {Verdict::correct, "object without any of these near it"}}};

}  // namespace

std::string verdict_name(Verdict verdict) {
  static const char* const names[] = {"correct",   "ignored",    "localisation", "classification",
                                      "duplicate", "background", "both",         "left out"};
  return names[static_cast<int>(verdict)];
}

JudgedImage judge_detections(const std::vector<CocoGroundTruth>& truths, const std::vector<CocoDetection>& detections) {
  return Judge(truths, detections).judge();
}

ErrorAnalysis::ErrorAnalysis(std::vector<std::int64_t> categories) : categories_(std::move(categories)) {}

void ErrorAnalysis::add_image(std::int64_t image, const std::vector<CocoGroundTruth>& truths,
                              const std::vector<CocoDetection>& detections) {
  std::vector<CocoDetection> known;  // the others are left out, as by the evaluator
  for (const CocoDetection& d : detections)
    if (std::find(categories_.begin(), categories_.end(), d.category) != categories_.end()) known.push_back(d);
  JudgedImage judged = judge_detections(truths, known);
  for (const CocoGroundTruth& truth : truths)
    if (!truth.crowd) wanted_.insert(truth.category);
  for (size_t d = 0; d < known.size(); ++d)
    if (const Verdict v = judged.detections[d].verdict; v != Verdict::ignored && v != Verdict::left_out)
      claimed_.insert(known[d].category);
  images_.push_back({image, truths, std::move(known), std::move(judged)});
}

// AP50 of what mend() makes of each picture: the objects and the detections that it adds. As in TIDE a category that
// has lost all its objects, but not its detections, does not leave the mean: its AP is 0.
template <class Mend> double ErrorAnalysis::ap50(Mend mend) const {
  CocoEvaluator evaluator(categories_);
  std::vector<CocoGroundTruth> truths;
  std::vector<CocoDetection> detections;
  for (const Image& image : images_) {
    truths.clear(), detections.clear();
    mend(image, truths, detections);
    evaluator.add_image(image.id, truths, detections);
  }
  const CocoResult result = evaluator.summarize();
  double left = 0, lost = 0;
  for (size_t k = 0; k < result.categories.size(); ++k)
    if (result.category_ap[k] >= 0) ++left;
    else lost += double(wanted_.count(result.categories[k]) * claimed_.count(result.categories[k]));
  return left + lost > 0 ? std::max(result.stats[1], 0.0) * left / (left + lost) : -1;
}

ErrorReport ErrorAnalysis::report() const {
  // Keeps the objects for which keep(image, g) holds, and of the detections those that mended() does not leave out.
  const auto with = [this](auto keep, auto mended) {
    return ap50([&](const Image& image, auto& truths, auto& detections) {
      for (size_t g = 0; g < image.truths.size(); ++g)
        if (keep(image, g)) truths.push_back(image.truths[g]);
      for (size_t d = 0; d < image.detections.size(); ++d) {
        CocoDetection detection = image.detections[d];
        if (image.judged.detections[d].verdict != Verdict::left_out && mended(image, d, detection))
          detections.push_back(detection);
      }
    });
  };
  const auto every = [](const Image&, size_t) { return true; };
  const auto as_it_is = [](const Image&, size_t, CocoDetection&) { return true; };
  ErrorReport r;
  r.ap50 = with(every, as_it_is);
  const auto gain = [&](double mended) { return r.ap50 < 0 || mended < 0 ? 0 : std::max(mended - r.ap50, 0.0); };
  for (size_t k = 0; k < kKinds.size(); ++k) {
    const Verdict wrong = kKinds[k].verdict;
    r.kinds[k] = {wrong == Verdict::correct ? "missed" : verdict_name(wrong), kKinds[k].meaning};
    if (wrong == Verdict::correct) {
      r.kinds[k].gain =
          gain(with([](const Image& image, size_t g) { return !image.judged.missed(image.truths, g); }, as_it_is));
      continue;
    }
    // The best error at an object that was not found becomes that object; all others of the kind go.
    r.kinds[k].gain = gain(with(every, [wrong](const Image& image, size_t d, CocoDetection& detection) {
      const Judgement& j = image.judged.detections[d];
      if (j.verdict != wrong) return true;
      if (j.truth < 0 || image.judged.nearly_by[size_t(j.truth)] != int(d)) return false;
      const CocoGroundTruth& truth = image.truths[size_t(j.truth)];
      detection.category = truth.category, detection.box = truth.box;
      return true;
    }));
  }
  r.false_positives = gain(with(every, [](const Image& image, size_t d, CocoDetection&) {
    return image.judged.detections[d].verdict == Verdict::correct;
  }));
  r.false_negatives = gain(with(
      [](const Image& image, size_t g) { return image.truths[g].crowd || image.judged.found_by[g] >= 0; }, as_it_is));
  for (const Image& image : images_) {
    for (size_t g = 0; g < image.truths.size(); ++g) {
      r.objects += !image.truths[g].crowd, r.found += image.judged.found_by[g] >= 0;
      r.kinds.back().count += image.judged.missed(image.truths, g);
    }
    for (const Judgement& j : image.judged.detections) {
      ++(j.verdict == Verdict::left_out ? r.left_out : r.detections);
      for (size_t k = 0; k + 1 < kKinds.size(); ++k) r.kinds[k].count += j.verdict == kKinds[k].verdict;
    }
  }
  return r;
}

}  // namespace fovea
