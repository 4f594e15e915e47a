// The training step, and the search for the cause where a number is not finite.
#include "tools/trainer.h"

#include <cmath>

#include "core/autograd.h"
#include "core/threads.h"
#include "nn/layers.h"

namespace fovea {

std::vector<Target> targets_of(const Batch& batch) {
  std::vector<Target> targets;
  for (auto& item : batch.items)
    targets.push_back({item.boxes, {item.labels.begin(), item.labels.end()}, item.ignore, {item.height, item.width}});
  return targets;
}

std::vector<std::pair<int, int>> sizes_of(const Batch& batch) {
  std::vector<std::pair<int, int>> sizes;
  for (auto& item : batch.items) sizes.push_back({item.height, item.width});
  return sizes;
}

LoaderOptions loader_options(const Config& config, bool training) {
  LoaderOptions options;
  options.batch = static_cast<int>(training ? config.train.batch : config.eval.batch);
  options.threads = static_cast<int>(config.train.loader_threads);
  options.shuffle = options.drop_last = training;
  options.group_by_aspect = config.data.group_by_aspect && training;
  options.aspect_groups = static_cast<int>(config.data.aspect_groups);
  options.one_side = config.data.multi_scale == "batch", options.bgr = config.model.pixel_order == "bgr";
  options.seed = config.train.seed;
  options.divisor = static_cast<int>(config.data.divisor);
  for (size_t c = 0; c < 3; ++c) {
    options.mean[c] = static_cast<float>(config.model.pixel_mean[c]);
    options.std[c] = static_cast<float>(config.model.pixel_std[c]);
  }
  options.augment = config.augment;
  options.augment.short_sides.clear();
  for (int64_t side : config.data.short_side)
    if (side > 0) options.augment.short_sides.push_back(static_cast<int>(side));
  options.augment.long_side = static_cast<int>(config.data.max_side);
  if (!training || config.train.overfit > 0) options.augment = options.augment.without_random();
  if (!training) options.epochs = 1;
  return options;
}

Schedule make_schedule(const Config& config, int64_t total_steps) {
  const auto& t = config.train;
  Schedule base = constant(t.lr);
  if (t.schedule == "cosine") base = cosine(t.lr, total_steps, t.lr * t.final_lr);
  if (t.schedule == "onecycle") {  // warms up by itself
    OneCycleOptions options;
    if (t.final_lr > 0) options.end_divisor = 1 / (options.start_divisor * t.final_lr);
    return one_cycle(t.lr, total_steps, options);
  }
  if (t.schedule == "multistep") {
    std::vector<int64_t> milestones;
    for (double part : t.milestones) milestones.push_back(std::llround(part * static_cast<double>(total_steps)));
    base = multi_step(t.lr, milestones, t.decay);
  }
  return warm_up(base, t.warmup, t.warmup_factor);
}

Trainer::Trainer(const Config& config, RetinaNet& model, int64_t total_steps)
    : config_(config), model_(model), schedule_(make_schedule(config, total_steps)) {
  const auto& t = config.train;
  auto groups = decay_groups(model, t.weight_decay, t.norm_weight_decay);
  if (t.optimizer == "sgd")
    optimizer_ = std::make_unique<SGD>(std::move(groups), SGD::Options{.momentum = t.momentum, .nesterov = t.nesterov});
  else optimizer_ = std::make_unique<AdamW>(std::move(groups), AdamW::Options{.beta1 = t.beta1, .beta2 = t.beta2});
  if (t.ema > 0) ema_ = std::make_unique<Ema>(model, t.ema);
}

StepResult Trainer::step(const Batch& batch, int64_t step) {
  const FlushDenormals flush;
  model_.train(true);
  Dropout::set_step(step);
  StepResult result;
  result.lr = schedule_(step);
  optimizer_->zero_grad();
  {
    const auto output = model_(batch.images);
    const auto losses = model_.loss(output, targets_of(batch));
    backward(losses.total());  // before anything is read: a device does not wait for the processor
    result.classification = losses.classification.item(), result.box = losses.box.item();
    result.stats = losses.stats();
    check_losses(batch, output, result, step);
  }
  const auto params = optimizer_->params();
  if (config_.train.clip_value > 0) clip_grad_value(params, config_.train.clip_value);
  result.grad_norm = clip_grad_norm(params, config_.train.clip_norm);
  check_gradients(batch, result.grad_norm, step);
  optimizer_->step(result.lr);
  if (ema_) ema_->update(step);
  return result;
}

namespace {

bool all_finite(const Tensor& there) {
  const Tensor t = there.to(DType::f32).to(Device::cpu);  // maps may be bf16
  const float* x = t.data<float>();
  for (int64_t i = 0; i < t.size(); ++i)
    if (!std::isfinite(x[i])) return false;
  return true;
}

std::string pictures(const Batch& batch, const std::vector<int64_t>& which) {
  std::string s;
  for (int64_t i : which) {
    auto& item = batch.items[static_cast<size_t>(i)];
    s += (s.empty() ? "" : ", ") + std::to_string(item.id) + " (" + item.path + ")";
  }
  return s;
}

// The images of a batch whose part of `t` [N,..] is not finite.
std::vector<int64_t> bad_images(const Tensor& t) {
  std::vector<int64_t> bad;
  for (int64_t i = 0; i < t.dim(0); ++i)
    if (!all_finite(t.rows(i, i + 1))) bad.push_back(i);
  return bad;
}

std::vector<int64_t> everything(const Batch& batch) {
  std::vector<int64_t> all(batch.items.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  return all;
}

const char* const kAdvice = "\n  hint: a lower train.lr, a longer train.warmup or a smaller train.clip_norm (0: off)";

}  // namespace

void Trainer::check_losses(const Batch& batch, const RetinaNet::Output& output, const StepResult& result,
                           int64_t step) const {
  if (std::isfinite(result.classification) && std::isfinite(result.box)) return;
  const std::string head =
      text("step ", step + 1, ": the ", std::isfinite(result.classification) ? "box" : "classification", " loss is ",
           std::isfinite(result.classification) ? result.box : result.classification);
  if (!all_finite(batch.images))
    fail(Code::not_finite,
         head + "; already the pixels of image " + pictures(batch, bad_images(batch.images)) + " are not finite");
  struct Part {
    const char* name;
    const std::vector<Tensor>& levels;
  };
  for (auto& part :
       {Part{"pyramid map", output.features}, Part{"class logits", output.logits}, Part{"box deltas", output.deltas}})
    for (size_t l = 0; l < part.levels.size(); ++l)
      if (auto bad = bad_images(part.levels[l]); !bad.empty())
        fail(Code::not_finite,
             text(head, "; first in the ", part.name, " of P", l + 3, ", image ", pictures(batch, bad), kAdvice));
  fail(Code::not_finite, text(head, "; the network's outputs are finite, so the loss itself overflowed; images ",
                              pictures(batch, everything(batch)), kAdvice));
}

void Trainer::check_weights(int64_t step) const {
  for (auto& w : model_.state())
    if (is_float(w.value.dtype()) && !all_finite(w.value))
      fail(Code::not_finite,
           text("after step ", step, ": ", w.name, " is no longer finite: the step was too long", kAdvice));
}

void Trainer::check_gradients(const Batch& batch, double norm, int64_t step) const {
  if (std::isfinite(norm)) return;
  std::string where = "their norm overflows";
  for (auto& p : model_.parameters())
    if (Tensor g = p.value.grad(); g && !all_finite(g)) {
      where = "the first is that of " + p.name;
      break;
    }
  fail(Code::not_finite, text("step ", step + 1, ": the losses are finite but gradients are not; ", where, "; images ",
                              pictures(batch, everything(batch)), kAdvice));
}

}  // namespace fovea
