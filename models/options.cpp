// The options of RetinaNet by name: as text, from text, and the checks that belong to them.
#include <algorithm>
#include <cmath>
#include <sstream>

#include "core/error.h"
#include "core/words.h"
#include "models/retinanet.h"

namespace fovea {
namespace {

// The part of visit() that makes the network.
template <class Options, class V> void visit_network(Options& o, V& v) {
  v("backbone", o.backbone,
    "tiny | resnet18 | resnet34 | resnet50 | resnet101 | resnext101_32x8d: what makes C3 to C5");
  v("width", o.width, "channels of the backbone's stem; 0: the usual number (tiny 32, others 64)");
  v("classes", o.classes, "number of classes");
  v("backbone_norm", o.backbone_norm,
    "batch | fixed | frozen | group: norms of the backbone (fixed: running statistics; frozen: nothing trained)");
  v("head_norm", o.head_norm, "none | batch | batch_per_level | group, after each convolution of the towers");
  v("norm_eps", o.norm_eps, "added to variances");
  v("stride_1x1", o.stride_1x1, "bottlenecks stride in their first 1x1 convolution (Caffe2's weights), not in the 3x3");
  v("freeze_stages", o.freeze_stages, "of stem, layer1 .. layer4, the first that are not trained (0 to 5)");
  v("p6_from", o.p6_from, "c5 | p5: the map that P6 is made of");
  v("last_level", o.last_level, "the pyramid is P3 to this level (5 to 7)");
  v("channels", o.channels, "of the pyramid and the towers");
  v("tower_depth", o.tower_depth, "hidden convolutions of each head");
  v("prior", o.prior, "probability of an object that the network starts with");
  v("final_std", o.final_std, "initial deviation of the weights of the last convolutions");
  v("anchors.style", o.anchors.style,
    "exact | detectron | detectron2 | torchvision: whose order and rounding of anchors");
  v("anchors.base", o.anchors.base, "side of a level's smallest anchor, in cells");
  v("anchors.scales", o.anchors.scales, "factors of that side");
  v("anchors.ratios", o.anchors.ratios, "heights divided by widths");
  v("anchors.offset", o.anchors.offset, "of the first anchor's centre, in cells (styles exact, detectron2)");
}
// visit(options, v) calls v(key, field, help) for every option, in the order of the struct.
template <class Options, class V> void visit(Options& o, V&& v) {
  visit_network(o, v);
  v("matcher.high", o.matcher.high, "anchors with at least this IoU are positive");
  v("matcher.low", o.matcher.low, "anchors below this IoU are background");
  v("matcher.low_quality", o.matcher.low_quality, "the best anchors of a box are positive too");
  v("matcher.floor", o.matcher.floor, "... with at least this IoU; negative: any (torchvision)");
  v("matcher.rule", o.matcher.rule, "argmax | last | background: whose a low-quality anchor is");
  v("matcher.ignore_ioa", o.matcher.ignore_ioa,
    "background with more inside an ignore region counts for nothing; > 1: off");
  v("ignore_outside", o.ignore_outside, "anchors centred in the padding count for nothing");
  v("coder.style", o.coder.style, "centre | corners: deltas of centre and log size, or of x1, y1, x2, y2");
  v("coder.wx", o.coder.wx, "weight of the deltas of x (x1)");
  v("coder.wy", o.coder.wy, "weight of the deltas of y (y1)");
  v("coder.ww", o.coder.ww, "weight of the deltas of log width (x2)");
  v("coder.wh", o.coder.wh, "weight of the deltas of log height (y2)");
  v("coder.least", o.coder.least, "style centre: sides below so many pixels count as that (yhenon: 1)");
  v("loss.kind", o.loss.kind,
    "focal | ce | alpha_ce | focal_star | hinge | softmax: of sigmoids, but for softmax, which has a background");
  v("loss.alpha", o.loss.alpha, "weight of positives; negative: no balancing");
  v("loss.gamma", o.loss.gamma, "focusing exponent; 0: cross entropy");
  v("loss.beta", o.loss.beta, "shift of focal_star");
  v("loss.margin", o.loss.margin, "of hinge: above this p_t there is no loss");
  v("sampler", o.sampler, "all | ohem | ohem_1_3: anchors that the losses are of");
  v("sampler_batch", o.sampler_batch, "of ohem: anchors of a picture, those of highest loss");
  v("sampler_nms", o.sampler_nms, "of ohem: a higher IoU with an anchor of higher loss leaves one out");
  v("sampler_boxes", o.sampler_boxes, "anchors | decoded: boxes of that IoU (decoded: where the network moves them)");
  v("box_loss", o.box_loss, "smooth_l1 | l1 | l2 | iou | giou | diou | ciou: the loss of boxes");
  v("box_beta", o.box_beta, "where smooth_l1 turns linear");
  v("box_weight", o.box_weight, "of the box loss");
  v("normaliser", o.normaliser,
    "per_image | batch | detectron | ema: loss divisor (an image's positives; the batch's; same + images; running "
    "mean of the training batches, in evaluation too)");
  v("score_threshold", o.score_threshold, "detections have a higher score");
  v("last_threshold", o.last_threshold, "the same for the last level (Detectron: 0); negative: as the others");
  v("level_top", o.level_top, "best scores of a level that reach NMS");
  v("nms", o.nms, "hard | linear | gaussian: overlaps suppress boxes, or lower their scores");
  v("nms_threshold", o.nms_threshold, "a higher IoU with a better box of its class suppresses a box");
  v("nms_at_threshold", o.nms_at_threshold, "an equal IoU does so too (Detectron)");
  v("nms_sigma", o.nms_sigma, "of nms gaussian: scores are multiplied by exp(-IoU^2 / sigma)");
  v("detections", o.detections, "of an image, at most");
  v("pixel_order", o.pixel_order, "rgb | bgr, as the network sees it (Caffe2's weights: bgr)");
  v("pixel_mean", o.pixel_mean, "of red, green, blue in 0..1");
  v("pixel_std", o.pixel_std, "of red, green, blue in 0..1");
}

std::string show(const std::string& v) { return v; }
std::string show(bool v) { return v ? "true" : "false"; }
std::string show(BoxCoder::Style v) { return v == BoxCoder::Style::centre ? "centre" : "corners"; }
std::string show(int v) { return std::to_string(v); }
std::string show(double v) { return shortest(v); }
template <class List> std::string show(const List& list) {
  std::vector<std::string> words;
  for (double v : list) words.push_back(show(v));
  return joined(words, ",");
}

bool read(const std::string& s, std::string& v) { return v = s, !s.empty(); }
bool read(const std::string& s, bool& v) { return v = s == "true" || s == "1", v || s == "false" || s == "0"; }
bool read(const std::string& s, BoxCoder::Style& v) {
  v = s == "centre" ? BoxCoder::Style::centre : BoxCoder::Style::corners;
  return s == show(v);
}
bool read(const std::string& s, int& v) { return read_number(s, v); }
bool read(const std::string& s, double& v) { return read_number(s, v) && std::isfinite(v); }
bool read(std::string s, std::vector<double>& list) {  // "1,2,3", also with brackets, and spaces at the commas
  std::erase_if(s, [](char c) { return c == '[' || c == ']'; });
  list.clear();
  for (const std::string& part : split(s, ','))
    if (!read(part, list.emplace_back())) return false;
  return !list.empty();
}
bool read(const std::string& s, std::array<double, 3>& three) {
  std::vector<double> list;
  if (!read(s, list) || list.size() != 3) return false;
  return std::copy(list.begin(), list.end(), three.begin()), true;
}

// Of "a | b | c, and why": is `value` one of the words?
bool offered(const std::string& help, const std::string& value) {
  std::istringstream words(help.substr(0, help.find_first_of(",:")));
  for (std::string word; words >> word;)
    if (word == value && word != "|") return true;
  return false;
}

const RetinaNetOptions kDefaults;

void need(bool ok, const std::string& message) { check(Code::usage, ok, message); }

}  // namespace

std::vector<std::pair<std::string, std::string>> to_text(const RetinaNetOptions& options) {
  std::vector<std::pair<std::string, std::string>> all;
  visit(options, [&](const char* key, const auto& field, const char*) { all.emplace_back(key, show(field)); });
  return all;
}

void set_option(RetinaNetOptions& options, const std::string& key, const std::string& value) {
  bool known = false;
  std::vector<std::string> keys;
  visit(options, [&](const char* name, auto& field, const char* help) {
    keys.emplace_back(name);
    if (key != name) return;
    known = true;
    auto changed = field;
    need(read(value, changed), text(key, " = '", value, "' is not a value for it\n  hint: ", help));
    field = changed;
  });
  if (!known) fail(Code::usage, "model option '" + key + "' is unknown" + suggestion(key, keys));
}

std::string help_of_option(const std::string& key) {
  std::string found;
  visit(kDefaults, [&](const char* name, const auto&, const char* help) {
    if (key == name) found = help;
  });
  return found;
}

void check_options(const RetinaNetOptions& o) {
  visit(o, [](const char* key, const auto& field, const char* help) {
    if constexpr (std::is_same_v<decltype(field), const std::string&>)
      need(offered(help, field), text(key, " = '", field, "' is unknown\n  hint: ", help));
  });
  const auto positive = [](const std::vector<double>& list) {
    return !list.empty() && std::all_of(list.begin(), list.end(), [](double v) { return v > 0; });
  };
  need(o.width >= 0 && o.width <= 1024, text("width = ", o.width, " is not in 0..1024"));
  need(o.classes >= 1, text("classes = ", o.classes, ": at least one class is needed"));
  need(o.freeze_stages >= 0 && o.freeze_stages <= 5, text("freeze_stages = ", o.freeze_stages, " is not in 0..5"));
  need(o.last_level >= 5 && o.last_level <= 7, text("last_level = ", o.last_level, " is not in 5..7"));
  need(o.channels >= 1, "channels must be at least 1");
  need(o.tower_depth >= 0 && o.tower_depth <= 100, text("tower_depth = ", o.tower_depth, " is not in 0..100"));
  need(o.prior > 0 && o.prior < 1, text("prior = ", o.prior, " is not a probability between 0 and 1"));
  need(positive(o.anchors.scales) && positive(o.anchors.ratios) && o.anchors.base > 0,
       "anchors: base, scales and ratios must be above 0");
  need(o.matcher.low <= o.matcher.high,
       text("matcher.low = ", o.matcher.low, " is above matcher.high = ", o.matcher.high));
  need(o.matcher.high > 0, "matcher.high must be above 0");
  need(o.loss.gamma >= 0, text("loss.gamma = ", o.loss.gamma, " is negative"));
  need(o.loss.kind != "focal_star" || o.loss.gamma > 0, "loss.kind = focal_star needs loss.gamma > 0");
  need(o.loss.kind != "softmax" || o.loss.gamma == 0 || o.loss.gamma >= 1,
       text("loss.kind = softmax needs loss.gamma = 0 or loss.gamma >= 1, not ", o.loss.gamma,
            ": its slope is infinite where an anchor is certain\n  hint: loss.kind = focal takes any gamma"));
  need(o.loss.alpha <= 1, text("loss.alpha = ", o.loss.alpha, " is above 1"));
  need(o.loss.kind != "alpha_ce" || o.loss.alpha >= 0, "loss.kind = alpha_ce needs loss.alpha in 0..1");
  need(o.loss.margin > 0 && o.loss.margin <= 1, text("loss.margin = ", o.loss.margin, " is not in 0..1"));
  need(o.sampler == "all" || o.loss.kind != "softmax", "sampler: ohem is for losses of sigmoids");
  need(o.sampler_batch >= 4, text("sampler_batch = ", o.sampler_batch, ": at least 4 anchors are needed"));
  need(o.sampler_nms > 0, text("sampler_nms = ", o.sampler_nms, " must be above 0"));
  need(o.box_beta >= 0 && o.box_weight >= 0, "box_beta and box_weight must be at least 0");
  need(o.norm_eps >= 0, "norm_eps must be at least 0");
  need(o.level_top >= 1 && o.detections >= 0, "level_top must be at least 1 and detections at least 0");
  need(o.coder.wx > 0 && o.coder.wy > 0 && o.coder.ww > 0 && o.coder.wh > 0, "coder: weights must be above 0");
  need(o.coder.least >= 0, "coder.least must be at least 0");
  need(o.coder.least == 0 || o.coder.style == BoxCoder::Style::centre,
       "coder.least is for coder.style = centre: corners have no logarithms\n  hint: leave it at 0");
  need(std::max(o.score_threshold, o.last_threshold) < 1,
       "score_threshold and last_threshold must be below 1: no score is higher");
  need(o.nms_threshold >= 0 && o.nms_threshold <= 1, text("nms_threshold = ", o.nms_threshold, " is not in 0..1"));
  need(o.nms_sigma > 0, "nms_sigma must be above 0");
  need(o.final_std >= 0, "final_std must be at least 0");
  for (double v : o.pixel_std) need(v > 0, "pixel_std must be above 0");
}

void check_from_scratch(const RetinaNetOptions& o) {
  const std::string hint =
      "\n  hint: load weights for the backbone, or train all of it: freeze_stages=0 and backbone_norm=group (or batch)";
  need(o.backbone_norm != "frozen" && o.backbone_norm != "fixed",
       "backbone_norm = " + o.backbone_norm +
           ", but no weights are loaded: norms that were never trained stay useless" + hint);
  need(o.freeze_stages == 0, text("freeze_stages = ", o.freeze_stages,
                                  ", but no weights are loaded: random convolutions would stay random", hint));
}

}  // namespace fovea
