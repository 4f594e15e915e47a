// Learning rates as pure functions of the step (0 is the first): nothing to save, and a resumed run cannot drift.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace fovea {

using Schedule = std::function<double(int64_t step)>;

Schedule constant(double lr);
// lr gamma^n, n: how many milestones are <= step.
Schedule multi_step(double lr, std::vector<int64_t> milestones, double gamma = 0.1);
// Half a cosine from lr at step 0 to `last` at step `steps`, and `last` from there on (Loshchilov & Hutter 2017).
Schedule cosine(double lr, int64_t steps, double last = 0);

struct OneCycleOptions {
  double warm_part = 0.3;     // of the steps, rising
  double start_divisor = 25;  // the first rate is lr / start_divisor
  double end_divisor = 1e4;   // the last is the first / end_divisor
};
// Smith & Topin 2018, as torch's OneCycleLR with its cosine: up to lr, then down; reached at step `steps` - 1.
Schedule one_cycle(double lr, int64_t steps, OneCycleOptions options = {});
// Linear warm-up in front of any schedule: for step < steps the rate is base(step) (factor + (1 - factor) step /
// steps).
Schedule warm_up(Schedule base, int64_t steps, double factor = 1e-3);

}  // namespace fovea
