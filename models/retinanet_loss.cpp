// RetinaNet's losses: what each anchor has to find, the focal loss of all of them and the box loss of the positive
// ones.
#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/error.h"
#include "models/loss_targets.h"
#include "models/retinanet.h"
#include "ops/focal_loss.h"
#include "ops/iou_loss.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/regression_loss.h"
#include "ops/shape.h"
#include "ops/softmax.h"

namespace fovea {
namespace {

void check_target(const Target& target, size_t image, const RetinaNetOptions& options) {
  check(target.boxes.size() == target.labels.size(), "loss: image ", image, " has ", target.boxes.size(), " boxes and ",
        target.labels.size(), " labels");
  for (size_t b = 0; b < target.boxes.size(); ++b) {
    const int64_t label = target.labels[b];
    check(Code::data, label >= 0 && label < options.classes, "loss: label ", label, " of box ", b, " of image ", image,
          " is outside 0..", options.classes - 1, "\n  hint: was the network built for the classes of this data set?");
    const Box<float>& v = target.boxes[b];
    check(Code::data, std::isfinite(v.x1 + v.y1 + v.x2 + v.y2), "loss: box ", b, " of image ", image, " is not finite");
    check(Code::data, v.x1 <= v.x2 && v.y1 <= v.y2, "loss: box ", b, " of image ", image, " is ", v.x1, ", ", v.y1,
          ", ", v.x2, ", ", v.y2,
          ": it ends before it begins\n  hint: a box is x1, y1, x2, y2, not x, y, width, height");
    check(Code::data, options.matcher.floor >= 0 || v.area() > 0, "loss: box ", b, " of image ", image,
          " has no area, and with matcher.floor below 0 every anchor would be trained to find it",
          "\n  hint: drop such boxes");
  }
}

}  // namespace

Assignment RetinaNet::assign(const Output& output, const std::vector<Target>& targets) const {
  check(!output.logits.empty(), "loss: the output is empty\n  hint: it is what model(images) returns");
  const int64_t images = output.logits[0].dim(0);
  check(static_cast<int64_t>(targets.size()) == images, "loss: ", targets.size(), " targets for ", images, " images");
  for (size_t i = 0; i < targets.size(); ++i) check_target(targets[i], i, options);
  std::vector<int64_t> levels;
  for (const Tensor& level : output.anchors) levels.push_back(level.dim(0));
  const Tensor anchors =
      output.anchors_there ? output.anchors_there : concat(output.anchors, 0).to(output.logits[0].device());
  return fovea::assign(anchors, levels, targets, options.matcher, options.ignore_outside);
}

// The boxes of one picture's anchors, by level, as the suppression of hard examples sees them.
std::vector<Tensor> RetinaNet::sampler_boxes(const Output& output, int64_t image) const {
  if (options.sampler_boxes == "anchors") return output.anchors;
  std::vector<Tensor> boxes;
  for (size_t l = 0; l < output.anchors.size(); ++l) {
    const Tensor deltas = output.deltas[l].rows(image, image + 1).to(Device::cpu).to(DType::f32);
    boxes.push_back(decode_boxes(reshape(deltas, {deltas.dim(1), 4}), output.anchors[l], options.coder));
  }
  return boxes;
}

// What is told of an image's positives, of those that were kept.
static void recount(const Box<float>* anchors, const std::vector<Box<float>>& boxes, float high, Matches& m) {
  std::vector<bool> found(boxes.size());
  m.low_quality = 0;
  for (size_t a = 0; a < m.box.size(); ++a) {
    if (m.box[a] < 0) continue;
    const auto b = static_cast<size_t>(m.box[a]);
    found[b] = true, m.low_quality += iou(boxes[b], anchors[a]) < high;
  }
  m.unmatched = std::count(found.begin(), found.end(), false);
}

// The anchors that are not kept count for nothing, as those between the thresholds do; the normaliser sees the kept.
// The processor does it, whatever the device.
void RetinaNet::sample_hard(const Output& output, const std::vector<Target>& targets, Assignment& assignment) const {
  const NoGrad no_grad;
  std::vector<Matches> matches = to_matches(assignment);
  const Tensor anchors = concat(output.anchors, 0);
  for (size_t i = 0; i < targets.size(); ++i) {
    const Tensor boxes = concat(sampler_boxes(output, static_cast<int64_t>(i)), 0);
    std::vector<double> loss;  // cross entropy of each anchor
    for (const Tensor& level : output.logits) {
      const int64_t n = level.dim(1), image = static_cast<int64_t>(i);
      const Tensor logits = level.rows(image, image + 1).to(DType::f64);
      Tensor labels({n, 1}, DType::i64);  // an image an anchor: the op's sums are then each anchor's
      for (int64_t a = 0; a < n; ++a) {
        const int64_t box = matches[i].box[loss.size() + static_cast<size_t>(a)];
        labels.data<int64_t>()[a] = box >= 0 ? targets[i].labels[static_cast<size_t>(box)] : box;
      }
      const Tensor rows = reshape(logits, {n, 1, level.dim(2)});
      const auto each = sigmoid_focal_loss(rows, labels, {.alpha = {}, .gamma = 0}).values<double>();
      loss.insert(loss.end(), each.begin(), each.end());
    }
    keep_hard({box_data(boxes), loss.size()}, loss,
              {options.sampler_batch, options.sampler_nms, options.sampler == "ohem_1_3"}, matches[i]);
    recount(box_data(anchors), targets[i].boxes, float(options.matcher.high), matches[i]);
  }
  replace(assignment, matches);
}

int64_t LossStats::total_positives() const {
  int64_t total = 0;
  for (int64_t n : positives) total += n;
  return total;
}

LossStats RetinaNet::Losses::stats() const {
  const std::vector<int64_t> values = counts.values<int64_t>();
  const int64_t columns = counts.dim(1);
  LossStats s{.images = counts.dim(0), .boxes = boxes, .anchors = anchors, .image_scale = scale.values<double>()};
  s.positives.resize(static_cast<size_t>(columns - Assignment::kLevels));
  for (const int64_t* of = values.data(); of < values.data() + values.size(); of += columns) {
    int64_t own = 0;
    for (int64_t l = Assignment::kLevels; l < columns; ++l)
      own += of[l], s.positives[static_cast<size_t>(l - Assignment::kLevels)] += of[l];
    s.image_positives.push_back(own), s.image_ignored.push_back(of[Assignment::kIgnored]);
    s.low_quality += of[Assignment::kLowQuality], s.unmatched += of[Assignment::kUnmatched];
  }
  return s;
}

namespace {

// Of softmax probabilities p_t: -alpha_t (1 - p_t)^gamma log p_t. logits [N,R,K+1], the background first; labels [N,R]
// as for sigmoid_focal_loss. Returns [N].
Tensor softmax_focal_loss(const Tensor& logits, const Tensor& labels, FocalOptions o) {
  const auto [place, weight] = softmax_targets(labels.to(logits.device()), o.alpha, logits.dtype());
  const Tensor log_p =
      reshape(pick(reshape(log_softmax(logits), {labels.size(), logits.dim(2)}), place), labels.shape());
  const Tensor loss = log_p * weight * -1;
  return sum(o.gamma == 0 ? loss : loss * pow(1 - exp(log_p), o.gamma), {1});
}

}  // namespace

Tensor class_loss_of(const ClassLossOptions& o, const Tensor& logits, const Tensor& labels) {
  const std::optional<double> alpha = o.alpha < 0 ? std::nullopt : std::optional<double>(o.alpha);
  if (o.kind == "softmax") return softmax_focal_loss(logits, labels, {.alpha = alpha, .gamma = o.gamma});
  if (o.kind == "focal") return sigmoid_focal_loss(logits, labels, {.alpha = alpha, .gamma = o.gamma});
  if (o.kind == "ce") return sigmoid_focal_loss(logits, labels, {.alpha = {}, .gamma = 0});
  if (o.kind == "alpha_ce") return sigmoid_focal_loss(logits, labels, {.alpha = alpha, .gamma = 0});
  if (o.kind == "hinge") return sigmoid_hinge_loss(logits, labels, {.alpha = alpha, .margin = o.margin});
  return focal_loss_star(logits, labels, {.alpha = alpha, .gamma = o.gamma, .beta = o.beta});
}

// Level by level, so that no copy of all logits is made.
Tensor RetinaNet::class_loss(const Output& output, const Assignment& assignment, const Tensor& scale) const {
  Tensor sums;  // [N]
  for (size_t l = 0; l < output.logits.size(); ++l) {
    const Tensor &logits = output.logits[l], labels = labels_of(assignment, l);
    const Tensor level = class_loss_of(options.loss, logits, labels);
    if (observer) {
      const Tensor x = logits.detach().set_requires_grad();
      const Tensor own = class_loss_of(options.loss, x, labels);  // without a tape: no gradient either
      if (own.requires_grad()) backward(own, scale.to(x.dtype()));
      observer({x.detach(), labels, x.grad()});
    }
    sums = sums ? sums + level : level;
  }
  return sum(sums * scale.to(sums.dtype()));
}

namespace {

// Distance of anchors' predictions deltas [R,4] from their boxes, a value a row.
Tensor box_distance(const RetinaNetOptions& o, const Tensor& deltas, const Tensor& anchors, const Tensor& boxes) {
  const std::string& kind = o.box_loss;
  if (kind == "smooth_l1" || kind == "l1" || kind == "l2") {
    const Tensor target = encode_boxes(boxes, anchors, o.coder);
    return kind == "l2" ? l2_loss(deltas, target) : smooth_l1(deltas, target, kind == "l1" ? 0 : o.box_beta);
  }
  const Tensor found = decode_boxes(deltas, anchors, o.coder);
  if (kind == "giou") return giou_loss(found, boxes);
  if (kind == "diou") return diou_loss(found, boxes);
  if (kind == "ciou") return ciou_loss(found, boxes);
  return iou_loss(found, boxes);
}

}  // namespace

Tensor RetinaNet::box_loss(const Output& output, const Assignment& assignment, const Tensor& scale) const {
  const BoxRows rows = box_rows(assignment, scale, options.box_weight, output.deltas.at(0).dtype());
  std::vector<Tensor> parts;
  for (size_t l = 0; l < output.deltas.size(); ++l) {
    const Tensor& deltas = output.deltas[l];
    const Tensor all = reshape(deltas, {deltas.dim(0) * deltas.dim(1), 4});
    parts.push_back(rows.index.empty() ? all : gather(all, rows.index[l], 0));
  }
  return sum(box_distance(options, concat(parts, 0), rows.anchors, rows.boxes) * rows.weight);
}

RetinaNet::Losses RetinaNet::loss(const Output& output, const std::vector<Target>& targets) {
  Assignment assignment = assign(output, targets);
  if (options.sampler != "all") sample_hard(output, targets, assignment);
  Losses losses;
  losses.counts = assignment.counts, losses.boxes = assignment.truths, losses.anchors = assignment.count();
  losses.scale = loss_scales(assignment, options.normaliser, normaliser_, training());
  losses.classification = class_loss(output, assignment, losses.scale);
  losses.box = box_loss(output, assignment, losses.scale);
  return losses;
}

double expected_initial_loss(const RetinaNetOptions& o, const LossStats& stats) {
  const bool balanced = o.loss.alpha >= 0 && o.loss.kind != "ce";
  const double alpha = balanced ? o.loss.alpha : 1, other = balanced ? 1 - o.loss.alpha : 1, beta = o.loss.beta;
  const double gamma = o.loss.kind == "ce" || o.loss.kind == "alpha_ce" ? 0 : o.loss.gamma;
  const double p = o.prior, x = std::log(p / (1 - p));
  double positive = -alpha * std::pow(1 - p, gamma) * std::log(p);
  double negative = -other * std::pow(p, gamma) * std::log1p(-p);
  if (o.loss.kind == "focal_star") {
    positive = alpha * std::log1p(std::exp(-gamma * x - beta)) / gamma;
    negative = other * std::log1p(std::exp(gamma * x - beta)) / gamma;
  }
  if (o.loss.kind == "hinge") {
    positive = alpha * std::max(0.0, o.loss.margin - p);
    negative = other * std::max(0.0, o.loss.margin - (1 - p));
  }
  const bool softmax = o.loss.kind == "softmax";  // p / K a class, 1 - p for the background
  if (softmax) positive = -alpha * std::pow(1 - p / o.classes, gamma) * std::log(p / o.classes);
  const size_t images = stats.image_scale.size();
  check(images > 0 && stats.image_positives.size() == images && stats.image_ignored.size() == images,
        "expected_initial_loss: image_scale, image_positives and image_ignored are of ", images, ", ",
        stats.image_positives.size(), " and ", stats.image_ignored.size(),
        " images, expected as many, and one at least");
  double loss = 0;
  for (size_t i = 0; i < images; ++i) {
    const double found = static_cast<double>(stats.image_positives[i]);
    const double terms = static_cast<double>(stats.anchors - stats.image_ignored[i]) * (softmax ? 1 : o.classes);
    loss += stats.image_scale[i] * (found * positive + (terms - found) * negative);
  }
  return loss;
}

}  // namespace fovea
