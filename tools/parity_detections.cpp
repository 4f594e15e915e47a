// Two lists of detections that may differ in what rounding decides.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "tools/parity_case.h"

namespace fovea {
namespace {

constexpr float kScore = 1e-6f, kIou = 1e-5f;  // closer than this, rounding decides
constexpr double kSame = 1e-4;                 // of two detections: they are one

std::vector<Detection> reference_of(const ParityCase& c, size_t image) {
  const std::string name = text("expect/", image, "/");
  const Tensor boxes = c.file.at(name + "boxes").to(DType::f32), scores = c.file.at(name + "scores").to(DType::f32),
               labels = c.file.at(name + "labels");
  check(Code::model, boxes.size() == 4 * scores.size() && labels.size() == scores.size(), c.path, ": ", name,
        "* have different lengths");
  std::vector<Detection> out;
  for (int64_t i = 0; i < scores.size(); ++i) {
    const float* b = boxes.data<float>() + 4 * i;
    out.push_back({{b[0], b[1], b[2], b[3]}, scores.data<float>()[i], static_cast<int>(labels.data<int64_t>()[i])});
  }
  return out;
}

// Relative to the size of boxes and scores: the largest difference of two detections.
double apart(const Detection& a, const Detection& b, double size) {
  if (a.label != b.label) return std::numeric_limits<double>::infinity();
  double most = std::abs(a.score - b.score);
  for (double d : {a.box.x1 - b.box.x1, a.box.y1 - b.box.y1, a.box.x2 - b.box.x2, a.box.y2 - b.box.y2})
    most = std::max(most, std::abs(d) / size);
  return most;
}

// The best score of each level that just misses NMS; a candidate as close as rounding may change places with it.
std::vector<float> level_cuts(const ParityCase& c, size_t image) {
  const Tensor logits = c.file.at("expect/eval/cls_logits").to(DType::f32);
  std::vector<float> cuts;
  int64_t begin = 0;
  const int64_t h = c.images.dim(1), w = c.images.dim(2);
  for (int level = 3; level <= c.options.last_level; ++level) {
    const int64_t s = int64_t{1} << level, cells = ((h + s - 1) / s) * ((w + s - 1) / s);
    const int64_t count = cells * c.options.anchors.count() * c.options.classes;
    const float* first = logits.data<float>() + static_cast<int64_t>(image) * logits.size() / logits.dim(0) + begin;
    std::vector<float> scores(first, first + count);
    begin += count;
    if (count <= c.options.level_top) continue;
    std::nth_element(scores.begin(), scores.begin() + c.options.level_top, scores.end(), std::greater<>());
    cuts.push_back(1 / (1 + std::exp(-scores[static_cast<size_t>(c.options.level_top)])));
  }
  return cuts;
}

struct Side {
  std::vector<Detection> all, alone;  // alone: without a partner on the other side
};

bool at_cut(const ParityCase& c, const Detection& d, const Side& other, const std::vector<float>& cuts) {
  if (std::abs(d.score - static_cast<float>(c.options.score_threshold)) < kScore) return true;
  for (float cut : cuts)
    if (std::abs(d.score - cut) < kScore) return true;
  return static_cast<int>(other.all.size()) >= c.options.detections && d.score < other.all.back().score + kScore;
}

// Is there a better (or equal) box of its class on this side whose overlap is at the threshold?
bool at_threshold(const ParityCase& c, const Detection& d, const Side& side) {
  return std::any_of(side.all.begin(), side.all.end(), [&](const Detection& e) {
    return e.label == d.label && e.score > d.score - kScore &&
           std::abs(iou(e.box, d.box) - c.options.nms_threshold) < kIou;
  });
}

// Is there one on the other side that equals it in score, and suppresses it there?
bool equal_score(const ParityCase& c, const Detection& d, const Side& other) {
  return std::any_of(other.alone.begin(), other.alone.end(), [&](const Detection& e) {
    return e.label == d.label && std::abs(e.score - d.score) < kScore &&
           iou(e.box, d.box) > c.options.nms_threshold - kIou;
  });
}

// Removes what rounding explains from both lists of the lonely, until nothing more is explained.
void explain(const ParityCase& c, const std::vector<float>& cuts, Side& a, Side& b) {
  std::vector<Detection> explained;
  const auto find = [&](const Side& own, const Side& other) {
    std::vector<Detection> found;
    for (const Detection& d : own.alone) {
      bool ok =
          at_cut(c, d, other, cuts) || at_threshold(c, d, own) || at_threshold(c, d, other) || equal_score(c, d, other);
      for (const Detection& e : explained)
        ok = ok || (e.label == d.label && iou(e.box, d.box) > c.options.nms_threshold - kIou);
      if (ok) found.push_back(d);
    }
    return found;
  };
  const auto remove = [&](Side& side, const std::vector<Detection>& found) {
    for (const Detection& d : found)
      std::erase_if(side.alone, [&](const Detection& e) { return std::memcmp(&d, &e, sizeof d) == 0; });
    explained.insert(explained.end(), found.begin(), found.end());
  };
  for (;;) {
    const auto in_a = find(a, b), in_b = find(b, a);
    if (in_a.empty() && in_b.empty()) return;
    remove(a, in_a), remove(b, in_b);
  }
}

std::vector<Detection>::const_iterator nearest_to(const Detection& d, const std::vector<Detection>& list, double size) {
  return std::min_element(list.begin(), list.end(), [&](const Detection& a, const Detection& b) {
    return apart(a, d, size) < apart(b, d, size);
  });
}

}  // namespace

double detection_difference(const ParityCase& c, size_t image, const ParityEval& eval) {
  const std::vector<Detection>&found = eval.detections[image], &candidates = eval.candidates[image];
  Side ours{found, found}, theirs{reference_of(c, image), {}};
  const double size = static_cast<double>(std::max(c.images.dim(1), c.images.dim(2)));
  double most = 0;
  for (const Detection& d : theirs.all) {
    const auto candidate = nearest_to(d, candidates, size);
    if (candidate == candidates.end()) return std::numeric_limits<double>::infinity();
    most = std::max(most, apart(*candidate, d, size));
    const auto partner = nearest_to(d, ours.alone, size);
    if (partner != ours.alone.end() && apart(*partner, d, size) < kSame) ours.alone.erase(partner);
    else theirs.alone.push_back(d);
  }
  explain(c, level_cuts(c, image), ours, theirs);
  return ours.alone.empty() && theirs.alone.empty() ? most : std::numeric_limits<double>::infinity();
}

}  // namespace fovea
