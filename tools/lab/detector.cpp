// One cell of a detection experiment: a training with the program's own Trainer, watched at thirteen moments.
#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/autograd.h"
#include "tools/anchor_fit.h"
#include "tools/evaluate.h"
#include "tools/lab/bench.h"
#include "tools/lab/probe.h"
#include "tools/trainer.h"

namespace fovea::lab {
namespace {

// The fastest of nine, in ms: one picture through the network to its boxes.
double time_picture(RetinaNet& model, const Dataset& data, const LoaderOptions& options) {
  const NoGrad no_grad;
  model.train(false);
  const Batch batch = make_batch(data, options, {0}, 0);
  using Clock = std::chrono::steady_clock;
  double best = 1e9;
  for (int i = 0; i < 9; ++i) {
    const auto start = Clock::now();
    model.detect(model(batch.images), sizes_of(batch));
    best = std::min(best, std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  return best;
}

// Share of the boxes that some anchor overlaps by 0.5.
double coverage(const Dataset& data, const Config& config) {
  const AnchorFit fit = fit_anchors(data, config);
  return 1 - fit.all.part(fit.all.weak);
}

void train(const Config& config, RetinaNet& model, Trainer& trainer, const Dataset& data, Metrics& m) {
  constexpr int kMoments = 12;
  Loader loader(data, loader_options(config, true));
  for (int64_t step = 0, moment = 0; step < config.train.steps; ++step) {
    const bool watched = step == moment * (config.train.steps - 1) / kMoments;
    Probe probe(config.model.loss);
    if (watched) model.observer = [&](const ClassTerms& terms) { probe.add(terms); };
    const StepResult result = trainer.step(*loader.next(), step);
    model.observer = nullptr;
    if (step == 0) {
      m["first_loss"] = {result.classification};
      m["expected_loss"] = {expected_initial_loss(config.model, result.stats)};
      m["anchors"] = {double(result.stats.anchors)};
      m["positives"] = {double(result.stats.total_positives()) / double(result.stats.images)};
    }
    if (!watched) continue;
    m["moment"].push_back(double(step) / double(config.train.steps - 1)), ++moment;
    probe.write_shares(m);
  }
  double easy = 0;
  for (double share : m["easy_negatives"]) easy += share / double(m["easy_negatives"].size());
  m["easy_mean"] = {easy};
}

}  // namespace

Metrics measure_detector(Bench& bench, const Keys& keys, uint64_t seed) {
  const Dataset &data = bench.train(keys), &val = bench.val(keys);
  Config config = bench.config(keys, seed);
  config.model.classes = int(data.classes().size());
  check_options(config.model);
  RetinaNet model(config.model, seed);
  Trainer trainer(config, model, config.train.steps);
  Metrics m{{"ap", {0}}, {"ap50", {0}}, {"diverged", {0}}};
  try {
    train(config, model, trainer, data, m);
    std::optional<Ema::Swap> averaged;
    if (trainer.ema()) averaged.emplace(*trainer.ema());
    Probe probe(config.model.loss);
    model.observer = [&](const ClassTerms& terms) { probe.add(terms); };
    const Evaluation e = evaluate(model, val, {.loader = loader_options(config, false)});
    model.observer = nullptr;
    probe.write_histograms(m);
    m["ap"] = {std::max(0.0, e.coco.stats[0])}, m["ap50"] = {std::max(0.0, e.coco.stats[1])};
  } catch (const Error& error) {
    if (error.code != Code::not_finite) throw;
    m["diverged"] = {1};
  }
  m["ms"] = {time_picture(model, val, loader_options(config, false))};
  m["coverage"] = {coverage(val, config)};
  return m;
}

}  // namespace fovea::lab
