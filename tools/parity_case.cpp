// Reads a case, builds the network that it names, and repeats its training step and its evaluation.
#include "tools/parity_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/autograd.h"
#include "core/error.h"
#include "models/presets.h"
#include "nn/checkpoint.h"
#include "nn/init.h"
#include "ops/shape.h"
#include "tools/parity_kinks.h"

namespace fovea {
namespace {

std::vector<Box<float>> boxes_of(const Tensor& any) {
  const Tensor t = any.to(DType::f32);
  std::vector<Box<float>> boxes(static_cast<size_t>(t.size() / 4));
  if (!boxes.empty()) std::memcpy(boxes.data(), t.data<float>(), boxes.size() * sizeof boxes[0]);
  return boxes;
}

RetinaNetOptions options_of(const std::string& arch, int classes) {
  RetinaNetOptions o = preset(arch == "v2" ? "tv_retinanet_r50_v2" : "tv_retinanet_r50").model;
  if (arch != "v2") o.backbone = arch;
  o.classes = classes, o.backbone_norm = "batch", o.norm_eps = 1e-5, o.freeze_stages = 0;
  return o;
}

// [N,A,..] of all levels -> one tensor a level.
std::vector<Tensor> split(const Tensor& all, const std::vector<Tensor>& levels) {
  std::vector<Tensor> parts;
  int64_t begin = 0;
  for (const Tensor& level : levels) {
    parts.push_back(slice(all, 1, begin, begin + level.dim(1)));
    begin += level.dim(1);
  }
  return parts;
}

using Values = std::vector<std::pair<std::string, Tensor>>;

Tensor here(const Tensor& t) { return t.detach().to(Device::cpu); }

void keep_boxes(Values& values, const std::string& prefix, const RetinaNet::Output& out) {
  values.emplace_back(prefix + "cls_logits", here(concat(out.logits, 1)));
  values.emplace_back(prefix + "bbox_regression", here(concat(out.deltas, 1)));
}

void load(RetinaNet& model, const ParityCase& c) {
  LoadOptions options;
  options.file_prefix = "param/";
  load_weights(model, c.file, options, c.path);
}

// Parameters take the type that is in force while they are built; all their numbers come from the case.
struct Built {
  Built(const RetinaNetOptions& options, DType type) : type(type), options(options) {}
  ParameterType type;
  Uninitialised loaded_below;
  const RetinaNetOptions& options;
};

// max|a - b| and max|b| of n elements; infinity where either is not finite.
template <class A, class B> std::pair<double, double> furthest(const A* as, const B* bs, int64_t n) {
  double most = 0, scale = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double a = static_cast<double>(as[i]), b = static_cast<double>(bs[i]);
    if (!std::isfinite(a) || !std::isfinite(b)) return {std::numeric_limits<double>::infinity(), 0};
    most = std::max(most, std::abs(a - b)), scale = std::max(scale, std::abs(b));
  }
  return {most, scale};
}

}  // namespace

ParityCase::ParityCase(const std::string& path) : file(read_safetensors(path)), path(path) {
  const auto& meta = file.metadata;
  check(Code::model, meta.count("arch") && meta.count("classes"), path,
        ": no parity case (arch and classes are missing)\n  hint: tools/parity_case.h says what a case holds");
  arch = meta.at("arch");
  int classes = 0;
  try {
    classes = std::stoi(meta.at("classes"));
  } catch (const std::exception&) { fail(Code::model, path + ": classes is not a number"); }
  options = options_of(arch, classes);
  images = permute(file.at("input/images"), {0, 2, 3, 1});
  for (int64_t i = 0; i < images.dim(0); ++i) {
    const Tensor labels = file.at(text("target/", i, "/labels"));
    targets.push_back({.boxes = boxes_of(file.at(text("target/", i, "/boxes"))), .labels = labels.values<int64_t>()});
  }
}

ParityStep::ParityStep(const ParityCase& c, DType type, Device device) : model(Built(c.options, type).options) {
  load(model, c);
  model.move_to(device);
  CallObserver observer([&](const Module& module, const std::vector<Tensor>& results) {
    outputs.insert(outputs.end(), results.begin(), results.end());
    for (size_t i = 0; i < results.size(); ++i)
      layers.emplace_back(results.size() > 1 ? text(module.path(), " [", i, "]") : module.path(), here(results[i]));
  });
  out = model(c.images.to(type).to(device));
  before = inputs_of_relus(outputs, model);
}

ParityRun finish(const ParityCase& c, ParityStep& step, const ParityStep& other) {
  ParityRun run;
  for (size_t level = 0; level < step.out.features.size(); ++level)
    run.values.emplace_back(text("features/", level), here(permute(step.out.features[level], {0, 3, 1, 2})));
  run.values.emplace_back("anchors", here(concat(step.out.anchors, 0)));
  keep_boxes(run.values, "", step.out);
  const auto matches = to_matches(step.model.assign(step.out, c.targets));
  for (size_t i = 0; i < matches.size(); ++i)
    run.values.emplace_back(text(i, "/matches"),
                            Tensor::from({static_cast<int64_t>(matches[i].box.size())}, matches[i].box));
  const auto losses = step.model.loss(step.out, c.targets);
  run.values.emplace_back("loss_classification", here(losses.classification));
  run.values.emplace_back("loss_bbox", here(losses.box));
  const bool exact = step.out.logits[0].dtype() == DType::f64 && c.type() == DType::f64;  // no side is left to chance
  const auto kinks = exact ? std::make_shared<Kinks>() : take_sides(step, other, c);
  backward(losses.total());
  run.near = kinks->near, run.moved = kinks->moved;
  for (const auto& p : step.model.parameters()) {
    check(bool(p.value.grad()), "parity: no gradient reached ", p.name);
    run.values.emplace_back("grad/" + p.name, to_file_layout(here(p.value.grad()), p.layout));
  }
  return run;
}

ParityEval evaluate(const ParityCase& c, DType type, Device device) {
  ParityEval result;
  RetinaNet model(Built(c.options, type).options);
  load(model, c);
  model.move_to(device);
  model.eval();
  NoGrad off;
  auto out = model(c.images.to(type).to(device));
  keep_boxes(result.values, "eval/", out);
  out.logits = split(c.file.at("expect/eval/cls_logits").to(device), out.logits);
  out.deltas = split(c.file.at("expect/eval/bbox_regression").to(device), out.deltas);
  result.detections = model.detect(out);
  RetinaNetOptions all = c.options;
  all.nms_threshold = 1, all.detections = all.level_top = 1 << 30;
  result.candidates = detect(all, out);
  return result;
}

double difference(const Tensor& value, const Tensor& reference) {
  if (!(value.shape() == reference.shape())) return std::numeric_limits<double>::infinity();
  const auto [most, scale] = dispatch_any(value.dtype(), [&]<class A>() {
    return dispatch_any(reference.dtype(),
                        [&]<class B>() { return furthest(value.data<A>(), reference.data<B>(), value.size()); });
  });
  return scale > 0 ? most / scale : most;
}

}  // namespace fovea
