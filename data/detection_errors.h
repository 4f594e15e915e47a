// Why detections are wrong, and what each kind of error costs: the error types of TIDE (Bolya et al. 2020,
// arXiv:2008.08115), mended one at a time under COCO's evaluator.
#pragma once
#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "data/coco_eval.h"

namespace fovea {

// Of a detection, by its IoU with the objects of its picture (section 2.2: t_f = 0.5, t_b = 0.1). In the order of the
// scores; the first that holds.
enum class Verdict {
  correct,         // IoU >= 0.5 with an object of its class that no better detection has
  ignored,         // inside a crowd of its class
  localisation,    // 0.1 <= IoU <= 0.5 with an object of its class, and more with none
  classification,  // IoU >= 0.5 with an object of another class
  duplicate,       // IoU > 0.5 with an object of its class that a better detection has
  background,      // IoU <= 0.1 with every object
  both,            // the rest: between the two with objects of other classes alone
  left_out,        // not among the 100 best of its picture
};

std::string verdict_name(Verdict verdict);  // "left out"

struct Judgement {
  Verdict verdict = Verdict::left_out;
  int truth = -1;  // the object that the verdict is about, by its place; -1: none
  double iou = 0;  // with that object
};

struct JudgedImage {
  std::vector<Judgement> detections;  // in the order given
  std::vector<int> found_by;          // of each object: the detection that is correct with it, or -1
  // ... the best detection that would be correct with it but for its place or its class: no other is mended; or -1.
  std::vector<int> nearly_by;
  // Neither found nor nearly: nothing speaks of it. Crowds are not objects.
  bool missed(const std::vector<CocoGroundTruth>& truths, std::size_t object) const {
    return !truths[object].crowd && found_by[object] < 0 && nearly_by[object] < 0;
  }
};

inline constexpr std::size_t kJudgedDetections = 100;  // of a picture, the best of all classes

JudgedImage judge_detections(const std::vector<CocoGroundTruth>& truths, const std::vector<CocoDetection>& detections);

// One row of the report.
struct ErrorKind {
  std::string name, meaning;
  std::int64_t count = 0;  // detections, or of the missed ones objects
  double gain = 0;         // AP50 that mending all of them would add
};

struct ErrorReport {
  double ap50 = -1;  // of what was judged; -1 without an object
  std::int64_t objects = 0, found = 0, detections = 0;
  std::int64_t left_out = 0;  // detections that were not judged: ap50 is without them, unlike COCO's
  // localisation, classification, both, duplicate, background, missed. They are mended one kind at a time, so that
  // their gains need not add up to 1 - ap50.
  std::array<ErrorKind, 6> kinds;
  double false_positives = 0, false_negatives = 0;  // the gain without any detection, or object, that has no partner
};

// Streaming, as CocoEvaluator, which it takes AP50 from; throws as that does.
class ErrorAnalysis {
 public:
  explicit ErrorAnalysis(std::vector<std::int64_t> categories);
  void add_image(std::int64_t image, const std::vector<CocoGroundTruth>& truths,
                 const std::vector<CocoDetection>& detections);
  ErrorReport report() const;

 private:
  struct Image {
    std::int64_t id;
    std::vector<CocoGroundTruth> truths;
    std::vector<CocoDetection> detections;
    JudgedImage judged;
  };
  template <class Mend> double ap50(Mend mend) const;
  std::vector<std::int64_t> categories_;
  std::set<std::int64_t> wanted_, claimed_;  // those with objects, and with detections that were judged
  std::vector<Image> images_;
};

}  // namespace fovea
