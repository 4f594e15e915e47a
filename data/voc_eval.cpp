// Matching and average precision of the VOC evaluator: one pass over the detections of an image by falling score.
#include "data/voc_eval.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fovea {
namespace {

bool finite(const Box<double>& b) {
  return std::isfinite(b.x1) && std::isfinite(b.y1) && std::isfinite(b.x2) && std::isfinite(b.y2);
}

template <class Entry>  // VocGroundTruth or VocDetection
void check_entry(std::int64_t image, const char* what, std::size_t index, const Entry& entry, std::size_t classes) {
  check(Code::data, entry.label >= 0 && static_cast<std::size_t>(entry.label) < classes, "voc_eval: image ", image,
        ": ", what, " ", index, " has label ", entry.label, ", but there are ", classes, " classes");
  check(Code::data, finite(entry.box), "voc_eval: image ", image, ": ", what, " ", index, " is not finite: box [",
        entry.box.x1, ", ", entry.box.y1, ", ", entry.box.x2, ", ", entry.box.y2, "]");
}

// The highest precision at this recall or more, by rising recall: right-to-left maximum.
std::vector<double> envelope(std::vector<double> precision) {
  for (std::size_t i = precision.size(); i-- > 1;) precision[i - 1] = std::max(precision[i - 1], precision[i]);
  return precision;
}

// Mean over t = 0, 0.1 .. 1 of the envelope at recall t; 0 where no such recall is reached.
double eleven_point_ap(const std::vector<double>& recall, const std::vector<double>& precision) {
  double sum = 0;
  for (int t = 0; t <= 10; ++t) {
    const auto at = std::lower_bound(recall.begin(), recall.end(), t / 10.0);
    if (at != recall.end()) sum += precision[at - recall.begin()];
  }
  return sum / 11;
}

// Area under the envelope, a step function of recall.
double all_point_ap(const std::vector<double>& recall, const std::vector<double>& precision) {
  double sum = 0, last = 0;
  for (std::size_t i = 0; i < recall.size(); ++i) {
    sum += (recall[i] - last) * precision[i];
    last = recall[i];
  }
  return sum;
}

}  // namespace

VocEvaluator::VocEvaluator(int num_classes, const VocOptions& options) : options_(options) {
  check(num_classes >= 0, "voc_eval: ", num_classes, " classes");
  classes_.resize(num_classes);
}

double VocEvaluator::overlap(const Box<double>& a, const Box<double>& b) const {
  const double one = options_.inclusive ? 1 : 0;
  return iou(Box<double>{a.x1, a.y1, a.x2 + one, a.y2 + one}, Box<double>{b.x1, b.y1, b.x2 + one, b.y2 + one});
}

void VocEvaluator::add_image(std::int64_t image, const std::vector<VocGroundTruth>& ground_truths,
                             const std::vector<VocDetection>& detections) {
  for (std::size_t i = 0; i < ground_truths.size(); ++i)
    check_entry(image, "ground truth", i, ground_truths[i], classes_.size());
  std::vector<std::size_t> order(detections.size());
  for (std::size_t i = 0; i < detections.size(); ++i) {
    check_entry(image, "detection", i, detections[i], classes_.size());
    check(Code::data, std::isfinite(detections[i].score), "voc_eval: image ", image, ": detection ", i, " has score ",
          detections[i].score);
    order[i] = i;
  }
  check(Code::data, images_.insert(image).second, "voc_eval: image ", image, " was added before");
  for (const VocGroundTruth& truth : ground_truths) classes_[truth.label].positives += !truth.difficult;

  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return detections[a].score > detections[b].score; });
  std::vector<bool> taken(ground_truths.size());
  for (const std::size_t d : order) {
    const VocDetection& detection = detections[d];
    double best_iou = 0;
    std::size_t best = ground_truths.size();
    for (std::size_t g = 0; g < ground_truths.size(); ++g) {
      if (ground_truths[g].label != detection.label) continue;
      const double iou = overlap(detection.box, ground_truths[g].box);
      if (iou > best_iou) best_iou = iou, best = g;
    }
    // Only the best overlap is asked: a second choice that is still free does not help.
    const bool found = best < ground_truths.size() && best_iou >= options_.iou;
    if (found && ground_truths[best].difficult) continue;
    classes_[detection.label].detections.push_back({detection.score, image, d, found && !taken[best]});
    if (found) taken[best] = true;
  }
}

VocResult VocEvaluator::summarize() {
  VocResult result;
  double sum = 0;
  int defined = 0;
  for (Class& c : classes_) {
    std::sort(c.detections.begin(), c.detections.end(), [](const Scored& a, const Scored& b) {
      if (a.score != b.score) return a.score > b.score;
      return a.image != b.image ? a.image < b.image : a.index < b.index;
    });
    std::vector<double> precision, recall;
    double found = 0, seen = 0;
    for (const Scored& scored : c.detections) {
      found += scored.hit;
      precision.push_back(found / ++seen);
      recall.push_back(c.positives ? found / static_cast<double>(c.positives) : 0);
    }
    const std::vector<double> best = envelope(precision);
    const double ap = options_.eleven_points ? eleven_point_ap(recall, best) : all_point_ap(recall, best);
    result.ap.push_back(c.positives ? ap : -1);
    if (c.positives) sum += ap, ++defined;
    result.precision.push_back(std::move(precision));
    result.recall.push_back(std::move(recall));
  }
  if (defined) result.map = sum / defined;
  return result;
}

}  // namespace fovea
