// An exponential moving average of a model's weights, which often scores better than the weights themselves.
#pragma once
#include <vector>

#include "nn/module.h"

namespace fovea {

// average += (1 - d) (weight - average), d = min(decay, (1 + step) / (10 + step)): the decay warms up, so that the
// random first weights are forgotten. Running statistics are averaged too, counters copied.
class Ema {
 public:
  explicit Ema(const Module& model, double decay = 0.999, bool warm_up = true);
  void update(int64_t step);  // after the optimiser's step number `step`
  // What a checkpoint keeps, under the model's names: live tensors.
  const std::vector<Module::Named>& state() const { return average_; }

  // While one lives, the model holds the averages (and the Ema the weights); then they change back, to the bit.
  class Swap {
   public:
    explicit Swap(Ema& ema) : ema_(ema) { ema_.exchange(); }
    ~Swap() { ema_.exchange(); }
    Swap(const Swap&) = delete;
    Swap& operator=(const Swap&) = delete;

   private:
    Ema& ema_;
  };

 private:
  void exchange();
  std::vector<Module::Named> weights_, average_;
  const double decay_;
  const bool warm_up_;
};

}  // namespace fovea
