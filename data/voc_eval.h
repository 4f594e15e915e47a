// The PASCAL VOC evaluator: average precision per class at one IoU, by all points or by eleven, as in the devkit
// (VOCevaldet.m, VOCap.m).
#pragma once
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "core/box.h"

namespace fovea {

struct VocGroundTruth {
  int label = 0;
  Box<double> box{};
  bool difficult = false;  // detections of it count neither for nor against
};

struct VocDetection {
  int label = 0;
  Box<double> box{};
  double score = 0;
};

struct VocOptions {
  double iou = 0.5;            // a detection with this overlap or more has found the object
  bool eleven_points = false;  // VOC 2007: mean of the precision at recall 0, 0.1 .. 1; else the area under the curve
  bool inclusive = true;       // x2 and y2 are the last pixels inside, so a width is x2 - x1 + 1, as in the devkit;
                               // false for boxes whose x2 and y2 are edges
};

struct VocResult {
  double map = -1;                             // mean of the classes that have ground truth; -1 without any
  std::vector<double> ap;                      // one per class; -1 where it has no ground truth (difficult ones aside)
  std::vector<std::vector<double>> precision;  // [class][detections that count, by falling score], not interpolated
  std::vector<std::vector<double>> recall;     // likewise
};

// Streaming, like CocoEvaluator: images in any order, each once. Labels are 0 .. num_classes - 1.
class VocEvaluator {
 public:
  explicit VocEvaluator(int num_classes, const VocOptions& options = {});
  // Throws Code::data for a label out of range, a number that is not finite, an image seen before.
  void add_image(std::int64_t image, const std::vector<VocGroundTruth>& ground_truths,
                 const std::vector<VocDetection>& detections);
  VocResult summarize();

 private:
  struct Scored {
    double score;
    std::int64_t image;
    std::size_t index;  // in the image's list
    bool hit;
  };
  struct Class {
    std::vector<Scored> detections;  // without those of difficult objects
    std::int64_t positives = 0;
  };
  double overlap(const Box<double>& a, const Box<double>& b) const;

  VocOptions options_;
  std::vector<Class> classes_;
  std::unordered_set<std::int64_t> images_;
};

}  // namespace fovea
