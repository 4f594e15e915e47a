// RetinaNet's losses: what each anchor has to find, the focal loss of all of them and the box loss of the positive
// ones.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/autograd.h"
#include "core/error.h"
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

Tensor boxes_tensor(const std::vector<Box<float>>& boxes) {
  Tensor t({static_cast<int64_t>(boxes.size()), 4});
  if (!boxes.empty()) std::memcpy(t.raw(), boxes.data(), boxes.size() * sizeof(Box<float>));
  return t;
}

std::vector<Box<float>> join(const std::vector<Tensor>& levels) {
  std::vector<Box<float>> all;
  for (const Tensor& level : levels) {
    const auto* begin = reinterpret_cast<const Box<float>*>(level.data<float>());
    all.insert(all.end(), begin, begin + level.dim(0));
  }
  return all;
}

void check_target(const Target& target, size_t image, int classes) {
  check(target.boxes.size() == target.labels.size(), "loss: image ", image, " has ", target.boxes.size(), " boxes and ",
        target.labels.size(), " labels");
  for (size_t b = 0; b < target.boxes.size(); ++b) {
    const int64_t label = target.labels[b];
    check(Code::data, label >= 0 && label < classes, "loss: label ", label, " of box ", b, " of image ", image,
          " is outside 0..", classes - 1, "\n  hint: was the network built for the classes of this data set?");
    const Box<float>& v = target.boxes[b];
    check(Code::data, std::isfinite(v.x1 + v.y1 + v.x2 + v.y2), "loss: box ", b, " of image ", image, " is not finite");
  }
}

// keras-retinanet: anchors centred in the padding are neither positive nor background.
void ignore_padding(const std::vector<Box<float>>& anchors, std::pair<int, int> size, Matches& m) {
  for (size_t a = 0; a < anchors.size(); ++a) {
    const float x = (anchors[a].x1 + anchors[a].x2) / 2, y = (anchors[a].y1 + anchors[a].y2) / 2;
    if (x < static_cast<float>(size.second) && y < static_cast<float>(size.first)) continue;
    m.positives -= m.box[a] >= 0, m.counted -= m.box[a] >= 0;
    m.box[a] = Matches::ignored;
  }
}

// What the host has made, in the type and on the device of x.
Tensor like(const Tensor& made, const Tensor& x) { return made.to(x.dtype()).to(x.device()); }

}  // namespace

std::vector<Matches> RetinaNet::assign(const std::vector<Tensor>& anchors, const std::vector<Target>& targets) const {
  const std::vector<Box<float>> all = join(anchors);
  std::vector<Matches> matches;
  for (size_t i = 0; i < targets.size(); ++i) {
    const Target& t = targets[i];
    check_target(t, i, options.classes);
    matches.push_back(match<float>(all, t.boxes, t.ignore, options.matcher));
    if (options.ignore_outside && t.size.first > 0) ignore_padding(all, t.size, matches.back());
  }
  return matches;
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

// The anchors that are not kept count for nothing, as those between the thresholds do; the normaliser sees the kept.
void RetinaNet::sample_hard(const Output& output, const std::vector<Target>& targets,
                            std::vector<Matches>& matches) const {
  const NoGrad no_grad;
  for (size_t i = 0; i < targets.size(); ++i) {
    const std::vector<Box<float>> boxes = join(sampler_boxes(output, static_cast<int64_t>(i)));
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
    keep_hard(boxes, loss, {options.sampler_batch, options.sampler_nms, options.sampler == "ohem_1_3"}, matches[i]);
  }
}

int64_t LossStats::total_positives() const {
  int64_t total = 0;
  for (int64_t n : positives) total += n;
  return total;
}

void RetinaNet::set_scales(const std::vector<Matches>& matches, LossStats& stats) {
  const double images = static_cast<double>(matches.size());
  int64_t total = 0;
  for (const Matches& m : matches) total += m.counted;
  double common = 1 / std::max<double>(1, static_cast<double>(total));  // batch
  if (options.normaliser == "detectron") common = 1 / (static_cast<double>(total) + images);
  if (options.normaliser == "ema") {
    const double average = 0.9 * normaliser_.item() + 0.1 * std::max<double>(1, static_cast<double>(total));
    if (training()) normaliser_.fill(average);
    common = 1 / (training() ? average : normaliser_.item());
  }
  for (const Matches& m : matches) {
    stats.image_positives.push_back(m.positives);
    stats.image_ignored.push_back(std::count(m.box.begin(), m.box.end(), Matches::ignored));
    const double own = 1 / (std::max<double>(1, static_cast<double>(m.counted)) * images);
    stats.image_scale.push_back(options.normaliser == "per_image" ? own : common);
    stats.low_quality += m.low_quality, stats.unmatched += m.unmatched;
    stats.boxes += static_cast<int64_t>(m.best.size());
  }
}

namespace {

// Of softmax probabilities p_t: -alpha_t (1 - p_t)^gamma log p_t. logits [N,R,K+1], the background first; labels [N,R]
// as for sigmoid_focal_loss. Returns [N].
Tensor softmax_focal_loss(const Tensor& logits, const Tensor& labels, FocalOptions o) {
  const int64_t rows = labels.size(), classes = logits.dim(2);
  const std::vector<int64_t> label_of = labels.values<int64_t>();
  Tensor place({rows}, DType::i64), weight(labels.shape());
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t label = label_of[static_cast<size_t>(r)];
    place.data<int64_t>()[r] = r * classes + std::max(label, Matches::background) + 1;
    const double alpha = o.alpha.value_or(0), one = label >= 0 ? alpha : 1 - alpha;
    weight.data<float>()[r] = label == Matches::ignored ? 0 : o.alpha ? static_cast<float>(one) : 1;
  }
  const Tensor all = reshape(log_softmax(logits), {rows * classes});
  const Tensor log_p = reshape(gather(all, place, 0), labels.shape());
  const Tensor loss = log_p * weight.to(logits.dtype()).to(logits.device()) * -1;
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
Tensor RetinaNet::class_loss(const Output& output, const std::vector<Matches>& matches,
                             const std::vector<Target>& targets, const LossStats& stats) const {
  const int64_t images = static_cast<int64_t>(targets.size());
  Tensor sums;  // [N]
  size_t first = 0;
  for (const Tensor& logits : output.logits) {
    const size_t rows = static_cast<size_t>(logits.dim(1));
    Tensor labels({images, logits.dim(1)}, DType::i64);
    int64_t* out = labels.data<int64_t>();
    for (size_t i = 0; i < targets.size(); ++i)
      for (size_t a = first; a < first + rows; ++a) {
        const int64_t box = matches[i].box[a];
        *out++ = box >= 0 ? targets[i].labels[static_cast<size_t>(box)] : box;  // -1 background, -2 ignored
      }
    first += rows;
    const Tensor level = class_loss_of(options.loss, logits, labels);
    if (observer) {
      const Tensor x = logits.detach().set_requires_grad();
      const Tensor own = class_loss_of(options.loss, x, labels);  // without a tape: no gradient either
      if (own.requires_grad()) backward(own, like(Tensor::from({images}, stats.image_scale), x));
      observer({x.detach(), labels, x.grad()});
    }
    sums = sums ? sums + level : level;
  }
  return sum(sums * like(Tensor::from({images}, stats.image_scale), sums));
}

namespace {

// Distance of the positive anchors' predictions deltas [P,4] from their boxes, a value a row.
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

Tensor RetinaNet::box_loss(const Output& output, const std::vector<Matches>& matches,
                           const std::vector<Target>& targets, LossStats& stats) const {
  std::vector<Tensor> rows;  // of positive anchors, a level each
  std::vector<Box<float>> anchors, boxes;
  std::vector<double> scales;
  size_t first = 0;
  for (size_t level = 0; level < output.deltas.size(); ++level) {
    const Tensor& deltas = output.deltas[level];
    const size_t count = static_cast<size_t>(deltas.dim(1));
    const auto* level_anchors = reinterpret_cast<const Box<float>*>(output.anchors[level].data<float>());
    std::vector<int64_t> index;
    for (size_t i = 0; i < targets.size(); ++i)
      for (size_t a = 0; a < count; ++a)
        if (const int64_t box = matches[i].box[first + a]; box >= 0) {
          index.push_back(static_cast<int64_t>(i * count + a));
          anchors.push_back(level_anchors[a]), boxes.push_back(targets[i].boxes[static_cast<size_t>(box)]);
          scales.push_back(stats.image_scale[i] * options.box_weight);
        }
    first += count;
    const int64_t positives = static_cast<int64_t>(index.size());
    stats.positives.push_back(positives);
    rows.push_back(gather(reshape(deltas, {deltas.dim(0) * deltas.dim(1), 4}), Tensor::from({positives}, index), 0));
  }
  const Tensor deltas = concat(rows, 0);
  const Tensor distance =
      box_distance(options, deltas, like(boxes_tensor(anchors), deltas), like(boxes_tensor(boxes), deltas));
  return sum(distance * like(Tensor::from({static_cast<int64_t>(scales.size())}, scales), distance));
}

RetinaNet::Losses RetinaNet::loss(const Output& output, const std::vector<Target>& targets) {
  const int64_t images = output.logits.at(0).dim(0);
  check(static_cast<int64_t>(targets.size()) == images, "loss: ", targets.size(), " targets for ", images, " images");
  std::vector<Matches> matches = assign(output.anchors, targets);
  if (options.sampler != "all") sample_hard(output, targets, matches);
  Losses losses;
  losses.stats.images = images;
  for (const Tensor& level : output.anchors) losses.stats.anchors += level.dim(0);
  set_scales(matches, losses.stats);
  losses.classification = class_loss(output, matches, targets, losses.stats);
  losses.box = box_loss(output, matches, targets, losses.stats);
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
  double loss = 0;
  for (size_t i = 0; i < stats.image_scale.size(); ++i) {
    const double found = static_cast<double>(stats.image_positives[i]);
    const double terms = static_cast<double>(stats.anchors - stats.image_ignored[i]) * (softmax ? 1 : o.classes);
    loss += stats.image_scale[i] * (found * positive + (terms - found) * negative);
  }
  return loss;
}

}  // namespace fovea
