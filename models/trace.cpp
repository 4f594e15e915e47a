// detect() in plain loops, with nothing thrown away.
#include "models/trace.h"

#include <algorithm>

#include "core/autograd.h"
#include "core/error.h"
#include "core/math.h"
#include "models/detect_rules.h"

namespace fovea {
namespace {

using Fate = TracedCandidate::Fate;

// [A*K] scores of one level, on the processor.
std::vector<float> level_scores(const RetinaNetOptions& o, const Tensor& logits) {
  std::vector<float> scores = detail::logits_or_probabilities(o, logits.to(Device::cpu)).to(DType::f32).values<float>();
  if (o.loss.kind != "softmax")
    for (float& s : scores) s = math::sigmoid(s);
  return scores;
}

// Places of the scores above the threshold, the best `top` of them; NaN is above none.
std::vector<int64_t> best_places(const std::vector<float>& scores, float threshold, int64_t top, int64_t& above) {
  std::vector<int64_t> places;
  for (size_t i = 0; i < scores.size(); ++i)
    if (scores[i] > threshold) places.push_back(static_cast<int64_t>(i));
  above = static_cast<int64_t>(places.size());
  std::stable_sort(places.begin(), places.end(), [&](int64_t a, int64_t b) {
    return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
  });
  places.resize(static_cast<size_t>(std::min(top, above)));
  return places;
}

// The candidates of one level, decoded and clipped.
LevelTrace trace_level(const RetinaNetOptions& o, const RetinaNet::Output& output, size_t l, std::pair<int, int> hw,
                       std::vector<TracedCandidate>& all) {
  LevelTrace level{.level = static_cast<int>(l) + 3, .anchors = output.logits[l].dim(1)};
  const int64_t stride = int64_t{1} << level.level;
  level.height = (output.input_hw.first + stride - 1) / stride;
  level.width = level.anchors / (level.height * o.anchors.count());
  check(level.height * level.width * o.anchors.count() == level.anchors, "trace: P", level.level, " has ",
        level.anchors, " anchors, which are no map of ", level.height, " rows");
  const std::vector<float> scores = level_scores(o, output.logits[l]);
  const int64_t of_cell = o.anchors.count() * o.classes;
  level.best.assign(static_cast<size_t>(level.height * level.width), 0);
  for (size_t i = 0; i < scores.size(); ++i) {
    float& best = level.best[i / static_cast<size_t>(of_cell)];
    best = std::max(best, scores[i]);
  }
  const auto threshold = static_cast<float>(detail::threshold_of(o, output, l));
  const std::vector<int64_t> places = best_places(scores, threshold, o.level_top, level.above);
  const Tensor deltas = output.deltas[l].to(Device::cpu).to(DType::f32), anchors = output.anchors[l].to(Device::cpu);
  std::vector<int64_t> at;
  for (const int64_t place : places) at.push_back(place / o.classes);
  const auto boxes = detail::boxes_of(o, at, deltas.data<float>(), anchors.data<float>(), hw);
  for (size_t i = 0; i < places.size(); ++i) {
    if (!boxes[i]) continue;
    const Detection detection{*boxes[i], scores[static_cast<size_t>(places[i])],
                              static_cast<int>(places[i] % o.classes)};
    all.push_back({.detection = detection, .level = level.level, .anchor = at[i]});
    ++level.candidates;
  }
  return level;
}

// Non-maximum suppression as the paper's reader would write it: each candidate against those that stayed before it.
void suppress(const RetinaNetOptions& o, std::vector<TracedCandidate>& candidates) {
  const float limit = detail::nms_limit(o);
  std::vector<size_t> stayed;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const Detection& d = candidates[i].detection;
    const auto by = std::find_if(stayed.begin(), stayed.end(), [&](size_t j) {
      const Detection& better = candidates[j].detection;
      return better.label == d.label && iou(better.box, d.box) > limit;
    });
    if (by != stayed.end()) {
      candidates[i].fate = Fate::suppressed, candidates[i].suppressed_by = static_cast<int64_t>(*by);
      continue;
    }
    if (static_cast<int64_t>(stayed.size()) >= o.detections) candidates[i].fate = Fate::over_limit;
    stayed.push_back(i);
  }
}

void check_output(const RetinaNet::Output& output) {
  check(!output.logits.empty(), "trace: the output is empty\n  hint: it is what model(images) returns");
  check(output.logits[0].dim(0) == 1, "trace: ", output.logits[0].dim(0), " images\n  hint: trace one at a time");
}

}  // namespace

Trace trace_detections(const RetinaNetOptions& options, const RetinaNet::Output& output, std::pair<int, int> image_hw) {
  check_options(options), check_output(output);
  check(Code::usage, options.nms == "hard", "trace: soft-NMS suppresses nothing\n  hint: --set model.nms=hard");
  const NoGrad off;
  Trace trace;
  for (size_t l = 0; l < output.logits.size(); ++l)
    trace.levels.push_back(trace_level(options, output, l, image_hw, trace.candidates));
  // Of equal scores the lower level stays first, as each level was in order.
  std::stable_sort(trace.candidates.begin(), trace.candidates.end(),
                   [](const auto& a, const auto& b) { return a.detection.score > b.detection.score; });
  suppress(options, trace.candidates);
  for (const TracedCandidate& c : trace.candidates)
    trace.levels[static_cast<size_t>(c.level - 3)].kept += c.fate == Fate::kept;
  return trace;
}

std::vector<ObjectTrace> trace_objects(const RetinaNet& model, const RetinaNet::Output& output, const Target& target) {
  check_output(output);
  const NoGrad off;
  const Matches matches = to_matches(model.assign(output, {target}))[0];
  std::vector<ObjectTrace> objects(target.boxes.size());
  std::vector<float> own(objects.size());  // the score of the best anchor
  size_t first = 0;                        // anchors of the levels before
  for (size_t l = 0; l < output.anchors.size(); ++l) {
    const Tensor there = output.anchors[l].to(Device::cpu);
    const auto anchors = static_cast<size_t>(there.dim(0)), classes = static_cast<size_t>(model.options.classes);
    const std::vector<float> scores = level_scores(model.options, output.logits[l]);
    for (size_t b = 0; b < objects.size(); ++b) {
      ObjectTrace& o = objects[b];
      for (size_t a = 0; a < anchors; ++a) {
        const float score = scores[a * classes + static_cast<size_t>(target.labels[b])];
        if (const float overlap = iou(box_data(there)[a], target.boxes[b]); overlap > o.iou)
          o.iou = overlap, o.level = static_cast<int>(l) + 3, o.anchor = static_cast<int64_t>(a), own[b] = score;
        if (matches.box[first + a] == static_cast<int64_t>(b)) ++o.positives, o.score = std::max(o.score, score);
      }
    }
    first += anchors;
  }
  for (size_t b = 0; b < objects.size(); ++b)
    if (objects[b].positives == 0) objects[b].score = own[b];
  return objects;
}

}  // namespace fovea
