// From logits and deltas to boxes: threshold, the best of each level, decoding, non-maximum suppression.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/autograd.h"
#include "core/error.h"
#include "core/math.h"
#include "models/detect_rules.h"
#include "models/retinanet.h"
#include "ops/cuda/best.h"
#include "ops/cuda/detections.h"
#include "ops/nms.h"
#include "ops/topk.h"

namespace fovea {
namespace {

constexpr double kSoftFloor = 1e-4;  // Detectron's: soft-NMS may lower a score below the threshold, down to this

struct Candidate {
  float score;
  int64_t index;  // anchor * classes + class
  bool operator<(const Candidate& o) const { return score > o.score || (score == o.score && index < o.index); }
};

// The best `top` scores above the threshold among n logits (or probabilities), in order. NaN is below every threshold.
template <class T>
std::vector<Candidate> best_scores(const T* values, int64_t n, bool logits, double threshold, int64_t top) {
  std::vector<Candidate> found;
  const float limit = static_cast<float>(threshold);
  // Most logits are far below: a comparison, with room for rounding, spares their sigmoid.
  const bool bound = logits && threshold > 0 && threshold < 1;
  const T low = bound ? static_cast<T>(std::log(threshold / (1 - threshold)) - 0.01) : T(-INFINITY);
  for (int64_t i = 0; i < n; ++i)
    if (values[i] > low) {
      const float score = static_cast<float>(logits ? math::sigmoid(values[i]) : values[i]);
      if (score > limit) found.push_back({score, i});
    }
  const int64_t keep = std::min(top, static_cast<int64_t>(found.size()));
  std::partial_sort(found.begin(), found.begin() + keep, found.end());
  found.resize(static_cast<size_t>(keep));
  return found;
}

// Candidates of one image, all levels one after another.
struct Candidates {
  std::vector<Box<float>> boxes;
  std::vector<float> scores;
  std::vector<int64_t> labels;
  void add(const Box<float>& box, float score, int64_t label) {
    boxes.push_back(box), scores.push_back(score), labels.push_back(label);
  }
  Detection operator[](size_t i) const { return {boxes[i], scores[i], static_cast<int>(labels[i])}; }
};

// Decodes and clips the candidates of one level; boxes that are not finite are dropped.
template <class T>
void add_level(const RetinaNetOptions& o, const std::vector<Candidate>& found, const T* deltas, const float* anchors,
               std::pair<int, int> hw, Candidates& all) {
  std::vector<int64_t> places;
  for (const Candidate& c : found) places.push_back(c.index / o.classes);
  const auto boxes = detail::boxes_of(o, places, deltas, anchors, hw);
  for (size_t i = 0; i < found.size(); ++i)
    if (boxes[i]) all.add(*boxes[i], found[i].score, found[i].index % o.classes);
}

std::optional<SoftNmsOptions> soft_nms_options(const RetinaNetOptions& o) {
  if (o.nms == "hard") return {};
  const auto method = o.nms == "linear" ? SoftNmsMethod::linear : SoftNmsMethod::gaussian;
  return SoftNmsOptions{method, o.nms_threshold, o.nms_sigma, kSoftFloor};
}

std::vector<Detection> suppress(const RetinaNetOptions& o, const Candidates& all) {
  const int64_t n = static_cast<int64_t>(all.boxes.size());
  Tensor boxes({n, 4});
  if (n > 0) std::memcpy(boxes.raw(), all.boxes.data(), all.boxes.size() * sizeof(Box<float>));
  const Tensor scores = Tensor::from({n}, all.scores), labels = Tensor::from({n}, all.labels);
  std::vector<int64_t> kept;
  std::vector<float> lowered;
  if (const auto options = soft_nms_options(o)) {
    const SoftNms soft = soft_nms(boxes, scores, labels, *options);
    kept = soft.indices.values<int64_t>(), lowered = soft.scores.values<float>();
  } else {
    const float limit = detail::nms_limit(o);
    const Tensor order = limit >= 1 ? top_k(scores, n).indices : batched_nms(boxes, scores, labels, limit);
    kept = order.values<int64_t>();
  }
  std::vector<Detection> out;
  for (size_t i = 0; i < std::min(kept.size(), static_cast<size_t>(o.detections)); ++i) {
    out.push_back(all[static_cast<size_t>(kept[i])]);
    if (!lowered.empty()) out.back().score = lowered[i];
  }
  return out;
}

// All of it on the device of the outputs, and one copy back.
std::vector<std::vector<Detection>> detect_there(const RetinaNetOptions& o, const RetinaNet::Output& output,
                                                 const std::vector<std::pair<int, int>>& image_hw) {
  std::vector<cuda::DetectionLevel> levels;
  int64_t first = 0;
  for (size_t l = 0; l < output.logits.size(); ++l) {
    const int64_t end = first + output.anchors[l].dim(0);
    const Tensor anchors = output.anchors_there ? output.anchors_there.rows(first, end) : output.anchors[l];
    levels.push_back({detail::logits_or_probabilities(o, output.logits[l]), output.deltas[l], anchors,
                      static_cast<float>(detail::threshold_of(o, output, l))});
    first = end;
  }
  const float limit = detail::nms_limit(o) < 1 ? detail::nms_limit(o) : 2;  // 2: none
  const Tensor rows = cuda::detections(levels, image_hw,
                                       {.logits = o.loss.kind != "softmax",
                                        .top = o.level_top,
                                        .coder = o.coder,
                                        .iou = limit,
                                        .most = o.detections,
                                        .soft = soft_nms_options(o)})
                          .to(Device::cpu);
  std::vector<std::vector<Detection>> found(image_hw.size());
  const float* row = rows.data<float>();
  for (auto& image : found)
    for (int64_t i = 0; i < rows.dim(1); ++i, row += 6)
      if (row[5] >= 0) image.push_back({{row[0], row[1], row[2], row[3]}, row[4], static_cast<int>(row[5])});
  return found;
}

}  // namespace

std::vector<std::vector<Detection>> RetinaNet::detect(const Output& output,
                                                      const std::vector<std::pair<int, int>>& image_hw) const {
  return fovea::detect(options, output, image_hw);
}

std::vector<std::vector<Detection>> detect(const RetinaNetOptions& options, const RetinaNet::Output& output,
                                           const std::vector<std::pair<int, int>>& image_hw) {
  check_options(options);
  check(!output.logits.empty(), "detect: the output is empty\n  hint: it is what model(images) returns");
  const int64_t images = output.logits[0].dim(0);
  check(image_hw.empty() || static_cast<int64_t>(image_hw.size()) == images, "detect: ", image_hw.size(), " sizes for ",
        images, " images");
  const int64_t own = output.logits[0].dim(2), wanted = options.classes + (options.loss.kind == "softmax");
  check(own == wanted, "detect: the network gives each anchor ", own, " logits, these options are for ", wanted);
  NoGrad off;
  std::vector<std::pair<int, int>> sizes = image_hw;
  if (sizes.empty()) sizes.assign(static_cast<size_t>(images), output.input_hw);
  if (output.logits[0].device() == Device::cuda && options.level_top <= cuda::kBest && images > 0)
    return detect_there(options, output, sizes);
  std::vector<std::vector<Detection>> found;
  for (int64_t i = 0; i < images; ++i) {
    Candidates all;
    for (size_t level = 0; level < output.logits.size(); ++level) {
      const Tensor values =
          detail::logits_or_probabilities(options, output.logits[level].rows(i, i + 1).to(Device::cpu));
      const Tensor deltas = output.deltas[level].rows(i, i + 1).to(Device::cpu);
      dispatch_float(values.dtype(), [&]<class T>() {
        const auto best = best_scores(values.data<T>(), values.size(), options.loss.kind != "softmax",
                                      detail::threshold_of(options, output, level), options.level_top);
        add_level(options, best, deltas.data<T>(), output.anchors[level].data<float>(), sizes[static_cast<size_t>(i)],
                  all);
      });
    }
    found.push_back(suppress(options, all));
  }
  return found;
}

}  // namespace fovea
