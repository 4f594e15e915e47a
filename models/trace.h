// How detections came about: every candidate of an image on its way through detect(), how each level scored its cells,
// and what the anchors of an object were worth. Plain loops that keep what detect() throws away; they end in the same
// detections.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "models/retinanet.h"

namespace fovea {

// A class of an anchor with a score above the threshold, among the `level_top` best of its level.
struct TracedCandidate {
  Detection detection;  // box decoded and clipped, as detect() has it
  int level = 3;        // of the pyramid
  int64_t anchor = 0;   // its place among the level's anchors
  // over_limit: neither suppressed nor among the best `detections`
  enum class Fate { kept, suppressed, over_limit } fate = Fate::kept;
  int64_t suppressed_by = -1;  // the best one that stayed, of its class, with an IoU above nms_threshold; or -1
};

struct LevelTrace {
  int level = 3;
  int64_t height = 0, width = 0;  // of the map
  int64_t anchors = 0;
  int64_t above = 0;        // classes of anchors with a score above the threshold
  int64_t candidates = 0;   // ... of which the best level_top with a finite box went on
  int64_t kept = 0;         // ... and that many are detections
  std::vector<float> best;  // [height * width]: the highest score of each cell
};

struct Trace {
  std::vector<LevelTrace> levels;           // P3 first
  std::vector<TracedCandidate> candidates;  // in the order of suppression: best first
};

// Of an output of one image. image_hw: its height and width without padding. Throws as detect() does, and Code::usage
// for soft-NMS, which lowers scores and suppresses nothing.
Trace trace_detections(const RetinaNetOptions& options, const RetinaNet::Output& output, std::pair<int, int> image_hw);

// What became of an object in training's eyes.
struct ObjectTrace {
  int level = 3;          // of the anchor with the highest IoU
  int64_t anchor = 0;     // ... its place among the level's
  float iou = 0;          // ... and that IoU
  int64_t positives = 0;  // anchors that the matcher gives to it
  float score = 0;        // the highest of its class among those; without any, that of the anchor above
};
// Of each box of the target, in an output of one image. Throws as RetinaNet::assign() does.
std::vector<ObjectTrace> trace_objects(const RetinaNet& model, const RetinaNet::Output& output, const Target& target);

}  // namespace fovea
