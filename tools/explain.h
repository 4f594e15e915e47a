// How the detections of a picture came about, and what became of each of its objects: for `fovea explain`.
#pragma once
#include <string>
#include <vector>

#include "data/augment.h"
#include "data/dataset.h"
#include "data/detection_errors.h"
#include "models/trace.h"
#include "tools/evaluate.h"
#include "tools/weights.h"

namespace fovea {

struct Explanation {
  std::string path;
  Image picture;
  std::vector<std::string> classes;  // by label
  double threshold = 0;              // scores below it are not shown
  Trace trace;                       // in pixels of the network's input
  std::vector<Tensor> anchors;       // by level, there too
  Transform transform;               // from the picture to there
  // Without a crop: in pixels of the picture. The categories of both are labels.
  std::vector<CocoDetection> detections;  // the candidates that were kept, best first
  std::vector<size_t> candidates;         // ... and which they are in the trace
  bool labelled = false;                  // the objects are known
  std::vector<CocoGroundTruth> truths;
  std::vector<ObjectTrace> objects;  // of each truth; nothing is known of a crowd
  JudgedImage judged;
  MatcherOptions matcher;

  Box<float> anchor(int level, int64_t place) const;  // in pixels of the picture
  bool found(size_t object) const;                    // by a detection that is shown
  int64_t won_over(size_t detection) const;           // candidates that it suppressed
};

// `annotation`: of the picture, where it is known; its categories are `ids` by label.
Explanation explain_picture(LoadedModel& loaded, const Image& picture, const std::string& path, double threshold,
                            const Annotation* annotation, const std::vector<int64_t>& ids);

// What was seen of a picture, as rows of tables. The heads:
extern const std::vector<std::string> kLevelHeads, kDetectionHeads, kObjectHeads;
Rows level_rows(const Explanation& e);      // from anchors to detections, a level a row
Rows detection_rows(const Explanation& e);  // those that are shown
Rows object_rows(const Explanation& e);     // found or not, and why not

// One HTML file. `report`: of the whole data set, or nullptr.
std::string explain_page(const std::string& weights, const std::string& where, const ErrorReport* report,
                         const std::vector<Explanation>& explanations);

}  // namespace fovea
