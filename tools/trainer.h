// One training step: forward, loss, backward, clip, optimiser, average. A pure function of weights, batch and step
// number.
#pragma once
#include <memory>
#include <string>

#include "data/loader.h"
#include "models/retinanet.h"
#include "nn/checkpoint.h"
#include "nn/schedule.h"
#include "tools/config.h"

namespace fovea {

std::vector<Target> targets_of(const Batch& batch);
std::vector<std::pair<int, int>> sizes_of(const Batch& batch);  // height, width without padding
LoaderOptions loader_options(const Config& config, bool training);
Schedule make_schedule(const Config& config, int64_t total_steps);

struct StepResult {
  double classification = 0, box = 0, grad_norm = 0, lr = 0;
  LossStats stats;
  double loss() const { return classification + box; }
};

class Trainer {
 public:
  Trainer(const Config& config, RetinaNet& model, int64_t total_steps);

  // Step number `step` (0 is the first). Throws Code::not_finite, before any weight changes, where a loss or a gradient
  // is infinite or NaN; the message names the step, counted from 1 as in the log, the pictures, the term, and the level
  // or the parameter.
  StepResult step(const Batch& batch, int64_t step);
  // Throws Code::not_finite where a weight is infinite or NaN after `step` steps: nothing to keep or to go on from.
  void check_weights(int64_t step) const;
  RunState state() { return {&model_, optimizer_.get(), ema_.get()}; }
  Ema* ema() { return ema_.get(); }

 private:
  void check_losses(const Batch& batch, const RetinaNet::Output& output, const StepResult& result, int64_t step) const;
  void check_gradients(const Batch& batch, double norm, int64_t step) const;

  const Config& config_;
  RetinaNet& model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Ema> ema_;
  Schedule schedule_;
};

}  // namespace fovea
