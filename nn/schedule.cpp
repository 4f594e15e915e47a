// Learning rates as functions of the step.
#include "nn/schedule.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fovea {

static constexpr double kPi = 3.14159265358979323846;
// From `a` at t = 0 to `b` at t = 1 along half a cosine.
static double half_cosine(double a, double b, double t) { return b + (a - b) * (1 + std::cos(kPi * t)) / 2; }

Schedule constant(double lr) {
  return [lr](int64_t) { return lr; };
}

Schedule multi_step(double lr, std::vector<int64_t> milestones, double gamma) {
  check(Code::usage, std::is_sorted(milestones.begin(), milestones.end()),
        "multi_step: the milestones are not in order");
  return [=](int64_t step) {
    const auto passed = std::upper_bound(milestones.begin(), milestones.end(), step) - milestones.begin();
    return lr * std::pow(gamma, static_cast<double>(passed));
  };
}

Schedule cosine(double lr, int64_t steps, double last) {
  check(Code::usage, steps > 0, "cosine: ", steps, " steps");
  return [=](int64_t step) {
    return half_cosine(lr, last, static_cast<double>(std::clamp<int64_t>(step, 0, steps)) / static_cast<double>(steps));
  };
}

Schedule one_cycle(double lr, int64_t steps, OneCycleOptions options) {
  check(Code::usage, steps > 1, "one_cycle: needs at least 2 steps, got ", steps);
  check(Code::usage, options.warm_part > 0 && options.warm_part < 1, "one_cycle: the rising part ", options.warm_part,
        " is not between 0 and 1");
  const double first = lr / options.start_divisor, last = first / options.end_divisor;
  const double end = static_cast<double>(steps - 1), top = options.warm_part * static_cast<double>(steps) - 1;
  check(Code::usage, top > 0 && top < end, "one_cycle: ", steps, " steps are too few for a rising part of ",
        options.warm_part);
  return [=](int64_t step) {
    const double t = std::clamp(static_cast<double>(step), 0.0, end);
    return t <= top ? half_cosine(first, lr, t / top) : half_cosine(lr, last, (t - top) / (end - top));
  };
}

Schedule warm_up(Schedule base, int64_t steps, double factor) {
  check(Code::usage, steps >= 0, "warm_up: ", steps, " steps");
  return [=, base = std::move(base)](int64_t step) {
    if (step >= steps) return base(step);
    const double t = static_cast<double>(step) / static_cast<double>(steps);
    return base(step) * (factor * (1 - t) + t);
  };
}

}  // namespace fovea
