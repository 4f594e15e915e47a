// From a picture to the story of its detections and objects, in words.
#include <algorithm>

#include "core/autograd.h"
#include "core/error.h"
#include "tools/explain.h"
#include "tools/trainer.h"

namespace fovea {
namespace {

using Fate = TracedCandidate::Fate;

constexpr double kFits = 0.5;  // the IoU at which a box has found an object

std::string plain(double v) { return number(v, 2); }

// Of a score below the threshold: as many digits as tell it from that.
std::string too_low(double score, double threshold) {
  int digits = 2;
  while (digits < 9 && std::stod(number(score, digits)) >= threshold) ++digits;
  return text("its box has a score of ", number(score, digits), " only, below ", shortest(threshold));
}

CocoBox picture_box(const Explanation& e, const Box<float>& box) {
  const Detection d{box, 0, 0};
  const Box<float> b = to_picture({d}, e.transform, e.picture.width, e.picture.height)[0].box;
  return coco_box(b.x1, b.y1, b.x2, b.y2);
}

// The truths by label, and what training would look for.
Target take_truths(Explanation& e, const Annotation& annotation, const std::vector<int64_t>& ids) {
  Target target;
  e.labelled = true;
  for (CocoGroundTruth truth : annotation.truths) {
    const auto at = std::find(ids.begin(), ids.end(), truth.category);
    check(Code::data, at != ids.end(), annotation.path, ": an object of the category ", truth.category,
          ", which the network does not know");
    truth.category = at - ids.begin();
    if (!truth.crowd) target.labels.push_back(truth.category);
    e.truths.push_back(truth);
  }
  for (auto& box : annotation.boxes) target.boxes.push_back(e.transform(box));
  for (auto& box : annotation.ignore) target.ignore.push_back(e.transform(box));
  check(target.boxes.size() == target.labels.size(), annotation.path, ": ", target.boxes.size(), " boxes and ",
        target.labels.size(), " objects");
  return target;
}

// Of the candidates with this fate, the best that would have found the object.
const TracedCandidate* candidate_for(const Explanation& e, size_t object, Fate fate) {
  const CocoGroundTruth& truth = e.truths[object];
  for (const TracedCandidate& c : e.trace.candidates)
    if (c.fate == fate && c.detection.label == truth.category &&
        coco_overlap(picture_box(e, c.detection.box), truth) >= kFits)
      return &c;
  return nullptr;
}

std::string suppressed_words(const Explanation& e, size_t object, const TracedCandidate& c) {
  const TracedCandidate& by = e.trace.candidates[static_cast<size_t>(c.suppressed_by)];
  return text("a box that fits (IoU ", plain(coco_overlap(picture_box(e, c.detection.box), e.truths[object])),
              ", score ", plain(c.detection.score), ") was suppressed: it overlaps a better one (score ",
              plain(by.detection.score), ") by ", plain(iou(by.detection.box, c.detection.box)));
}

std::string anchors_words(const Explanation& e, const ObjectTrace& o) {
  const std::string best = text("best anchor on P", o.level, ", IoU ", plain(o.iou));
  if (o.positives == 0) return best + ": training looks for it nowhere";
  if (o.iou < e.matcher.high) return best + ": a poor fit, learnt by " + counted(o.positives, "anchor");
  return counted(o.positives, "anchor") + " of training; " + best;
}

// Why an object is not found, the nearest reason first.
std::string why_not(const Explanation& e, size_t object) {
  const int found = e.judged.found_by[object], nearly = e.judged.nearly_by[object];
  if (found >= 0) return too_low(e.detections[static_cast<size_t>(found)].score, e.threshold);
  std::vector<std::string> reasons;
  if (nearly >= 0) {
    const CocoDetection& d = e.detections[static_cast<size_t>(nearly)];
    const Judgement& j = e.judged.detections[static_cast<size_t>(nearly)];
    if (j.verdict == Verdict::classification)
      reasons.push_back(text("taken for ", e.classes[static_cast<size_t>(d.category)], " (score ", plain(d.score),
                             ", IoU ", plain(j.iou), ")"));
    else reasons.push_back(text("its box is off: IoU ", plain(j.iou), " (score ", plain(d.score), ")"));
  }
  if (const TracedCandidate* c = candidate_for(e, object, Fate::suppressed))
    reasons.push_back(suppressed_words(e, object, *c));
  if (const TracedCandidate* c = candidate_for(e, object, Fate::over_limit))
    reasons.push_back(
        text("its box (score ", plain(c->detection.score), ") came after the ", e.detections.size(), " that are kept"));
  if (reasons.empty())
    reasons.push_back("no box: its anchors score " + number(e.objects[object].score, 3) + " at best");
  return joined(reasons, "; ");
}

std::string verdict_words(const Explanation& e, const Judgement& j) {
  std::string words = verdict_name(j.verdict);
  if (j.verdict == Verdict::classification)
    words += ": is " + e.classes[static_cast<size_t>(e.truths[static_cast<size_t>(j.truth)].category)];
  return j.truth < 0 ? words : text(words, " (IoU ", plain(j.iou), ")");
}

}  // namespace

Box<float> Explanation::anchor(int level, int64_t place) const {
  return transform.inverse(box_data(anchors[static_cast<size_t>(level - 3)])[place]);
}
bool Explanation::found(size_t object) const {
  const int by = judged.found_by[object];
  return by >= 0 && detections[static_cast<size_t>(by)].score >= threshold;
}
int64_t Explanation::won_over(size_t detection) const {
  return std::count_if(trace.candidates.begin(), trace.candidates.end(), [&](const TracedCandidate& c) {
    return c.suppressed_by == static_cast<int64_t>(candidates[detection]);
  });
}

Explanation explain_picture(LoadedModel& loaded, const Image& picture, const std::string& path, double threshold,
                            const Annotation* annotation, const std::vector<int64_t>& ids) {
  const NoGrad no_grad;
  RetinaNet& model = *loaded.model;
  model.train(false);
  const Batch batch = make_batch(picture, loader_options(loaded.config, false));
  const auto output = model(batch.images.to(model.device()));
  Explanation e{.path = path, .picture = picture, .classes = names_of(loaded).names, .threshold = threshold};
  e.transform = batch.items[0].transform, e.matcher = model.options.matcher;
  e.trace = trace_detections(model.options, output, sizes_of(batch)[0]);
  for (const Tensor& level : output.anchors) e.anchors.push_back(level.to(Device::cpu));
  for (size_t i = 0; i < e.trace.candidates.size(); ++i) {
    const TracedCandidate& c = e.trace.candidates[i];
    if (c.fate != Fate::kept) continue;
    e.detections.push_back({c.detection.label, picture_box(e, c.detection.box), c.detection.score});
    e.candidates.push_back(i);
  }
  if (annotation) {
    const auto objects = trace_objects(model, output, take_truths(e, *annotation, ids));
    for (size_t g = 0, next = 0; g < e.truths.size(); ++g)
      e.objects.push_back(e.truths[g].crowd ? ObjectTrace{} : objects[next++]);
  }
  e.judged = judge_detections(e.truths, e.detections);
  return e;
}

const std::vector<std::string> kLevelHeads{"level",      "cells",     "anchors", "best score", "above score_threshold",
                                           "candidates", "detections"};
Rows level_rows(const Explanation& e) {
  Rows rows;
  for (const LevelTrace& l : e.trace.levels) {
    const float best = *std::max_element(l.best.begin(), l.best.end());
    rows.push_back({text("P", l.level), text(l.height, "x", l.width), count_text(l.anchors), number(best),
                    count_text(l.above), count_text(l.candidates), count_text(l.kept)});
  }
  return rows;
}

const std::vector<std::string> kDetectionHeads{"detection", "score", "anchor", "won over", "verdict"};
Rows detection_rows(const Explanation& e) {
  Rows rows;
  for (size_t d = 0; d < e.detections.size(); ++d) {
    if (e.detections[d].score < e.threshold) continue;
    const TracedCandidate& c = e.trace.candidates[e.candidates[d]];
    const Box<float>& anchor = box_data(e.anchors[static_cast<size_t>(c.level - 3)])[c.anchor];
    rows.push_back({e.classes[static_cast<size_t>(e.detections[d].category)], number(e.detections[d].score),
                    text("P", c.level, ", ", number(anchor.width(), 0), "x", number(anchor.height(), 0)),
                    count_text(e.won_over(d)), e.labelled ? verdict_words(e, e.judged.detections[d]) : "not known"});
  }
  return rows;
}

const std::vector<std::string> kObjectHeads{"object", "size", "found", "anchors", "how, or why not"};
Rows object_rows(const Explanation& e) {
  Rows rows;
  for (size_t g = 0; g < e.truths.size(); ++g) {
    const CocoGroundTruth& truth = e.truths[g];
    const std::string size = text(number(truth.box.w, 0), "x", number(truth.box.h, 0));
    const std::string& name = e.classes[static_cast<size_t>(truth.category)];
    if (truth.crowd) {
      rows.push_back({name, size, "-", "", "a crowd: neither object nor background"});
      continue;
    }
    std::string how = e.found(g) ? "" : why_not(e, g);
    if (e.found(g)) {
      const auto by = static_cast<size_t>(e.judged.found_by[g]);
      how = text("score ", plain(e.detections[by].score), ", IoU ", plain(e.judged.detections[by].iou));
    }
    rows.push_back({name, size, e.found(g) ? "yes" : "no", anchors_words(e, e.objects[g]), how});
  }
  return rows;
}

}  // namespace fovea
