// From logits and deltas to boxes: threshold, the best of each level, decoding, non-maximum suppression.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/autograd.h"
#include "core/error.h"
#include "core/math.h"
#include "models/retinanet.h"
#include "ops/nms.h"
#include "ops/shape.h"
#include "ops/softmax.h"
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
};

// Decodes and clips the candidates of one level; boxes that are not finite are dropped.
template <class T>
void add_level(const RetinaNetOptions& o, const std::vector<Candidate>& found, const T* deltas, const float* anchors,
               std::pair<int, int> hw, Candidates& all) {
  const int64_t n = static_cast<int64_t>(found.size());
  Tensor rows({n, 4}, dtype_of<T>), cells({n, 4});
  for (int64_t i = 0; i < n; ++i) {
    const int64_t anchor = found[static_cast<size_t>(i)].index / o.classes;
    std::copy_n(deltas + 4 * anchor, 4, rows.data<T>() + 4 * i);
    std::copy_n(anchors + 4 * anchor, 4, cells.data<float>() + 4 * i);
  }
  const Tensor decoded = decode_boxes(rows, cells.to(dtype_of<T>), o.coder).to(DType::f32);
  const Tensor clipped = clip_boxes(decoded, hw.first, hw.second);
  for (int64_t i = 0; i < n; ++i) {
    Box<float> box;
    std::memcpy(&box, decoded.data<float>() + 4 * i, sizeof box);
    if (!std::isfinite(box.x1 + box.y1 + box.x2 + box.y2)) continue;
    std::memcpy(&box, clipped.data<float>() + 4 * i, sizeof box);
    all.boxes.push_back(box);
    all.scores.push_back(found[static_cast<size_t>(i)].score);
    all.labels.push_back(found[static_cast<size_t>(i)].index % o.classes);
  }
}

std::vector<Detection> suppress(const RetinaNetOptions& o, const Candidates& all) {
  const int64_t n = static_cast<int64_t>(all.boxes.size());
  Tensor boxes({n, 4});
  if (n > 0) std::memcpy(boxes.raw(), all.boxes.data(), all.boxes.size() * sizeof(Box<float>));
  const Tensor scores = Tensor::from({n}, all.scores), labels = Tensor::from({n}, all.labels);
  std::vector<int64_t> kept;
  std::vector<float> lowered;
  if (o.nms == "hard") {
    const float highest = static_cast<float>(o.nms_threshold);  // that a box may have: IoU > it suppresses
    const float limit = o.nms_at_threshold ? std::nextafter(highest, -1.0f) : highest;
    const Tensor order = limit >= 1 ? top_k(scores, n).indices : batched_nms(boxes, scores, labels, limit);
    kept = order.values<int64_t>();
  } else {
    const auto method = o.nms == "linear" ? SoftNmsMethod::linear : SoftNmsMethod::gaussian;
    const SoftNms soft = soft_nms(boxes, scores, labels, {method, o.nms_threshold, o.nms_sigma, kSoftFloor});
    kept = soft.indices.values<int64_t>(), lowered = soft.scores.values<float>();
  }
  std::vector<Detection> out;
  for (size_t i = 0; i < std::min(kept.size(), static_cast<size_t>(o.detections)); ++i) {
    const size_t k = static_cast<size_t>(kept[i]);
    out.push_back({all.boxes[k], lowered.empty() ? all.scores[k] : lowered[i], static_cast<int>(all.labels[k])});
  }
  return out;
}

}  // namespace

std::vector<std::vector<Detection>> RetinaNet::detect(const Output& output,
                                                      const std::vector<std::pair<int, int>>& image_hw) const {
  return fovea::detect(options, output, image_hw);
}

std::vector<std::vector<Detection>> detect(const RetinaNetOptions& options, const RetinaNet::Output& output,
                                           const std::vector<std::pair<int, int>>& image_hw) {
  const int64_t images = output.logits.at(0).dim(0);
  check(image_hw.empty() || static_cast<int64_t>(image_hw.size()) == images, "detect: ", image_hw.size(), " sizes for ",
        images, " images");
  NoGrad off;
  const bool softmaxed = options.loss.kind == "softmax";
  std::vector<std::vector<Detection>> found;
  for (int64_t i = 0; i < images; ++i) {
    const auto hw = image_hw.empty() ? output.input_hw : image_hw[static_cast<size_t>(i)];
    Candidates all;
    for (size_t level = 0; level < output.logits.size(); ++level) {
      const bool last = level + 1 == output.logits.size() && options.last_threshold >= 0;
      const double threshold = last ? options.last_threshold : options.score_threshold;
      Tensor values = output.logits[level].rows(i, i + 1).to(Device::cpu);
      const Tensor deltas = output.deltas[level].rows(i, i + 1).to(Device::cpu);
      if (softmaxed) values = slice(softmax(values), 2, 1, options.classes + 1);
      dispatch_float(values.dtype(), [&]<class T>() {
        add_level(options, best_scores(values.data<T>(), values.size(), !softmaxed, threshold, options.level_top),
                  deltas.data<T>(), output.anchors[level].data<float>(), hw, all);
      });
    }
    found.push_back(suppress(options, all));
  }
  return found;
}

}  // namespace fovea
