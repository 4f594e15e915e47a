// Optimisers: one fused loop over all parameters; the learning rate is an argument of each step, never state.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "nn/module.h"

namespace fovea {

struct ParamGroup {
  std::vector<Module::Named> params;  // only those that want a gradient are kept
  double lr_scale = 1;                // this group's rate is lr * lr_scale
  double weight_decay = 0;
};

// The usual split: norms and biases (tensors of rank below 2) get `norm_decay`, everything else `decay`.
std::vector<ParamGroup> decay_groups(const Module& module, double decay, double norm_decay = 0);

// Each parameter goes into the group of the first rule whose pattern matches; a parameter without a rule: scale 1,
// `decay`.
struct GroupRule {
  std::string pattern;  // nn/pattern.h
  double lr_scale = 1;
  double weight_decay = 0;
};
std::vector<ParamGroup> groups_by_pattern(const Module& module, const std::vector<GroupRule>& rules, double decay);

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  // One step along the gradients; a parameter without one keeps its value and state.
  void step(double lr);
  void zero_grad();
  // What a checkpoint keeps: live tensors, so that loading is copy_from(). Names: "steps", "<slot>/<parameter>".
  const std::vector<Module::Named>& state() const { return state_; }
  int64_t steps() const;
  std::vector<Tensor> params() const;

 protected:
  // Throws for a parameter that comes twice, or is of bf16.
  Optimizer(std::vector<ParamGroup> groups, const std::vector<std::string>& slots);
  struct Update {  // what a step sees of one parameter
    Tensor p, g;
    const Module::Named* slots;
    double lr, weight_decay;
  };
  virtual void update(const std::vector<Update>& all) = 0;

 private:
  std::vector<ParamGroup> groups_;
  size_t slots_;
  std::vector<Module::Named> state_;
};

// torch.optim.SGD without dampening:  g += decay p;  v = momentum v + g;  p -= lr v  (nesterov: p -= lr (g + momentum
// v)).
class SGD : public Optimizer {
 public:
  struct Options {
    double momentum = 0.9;
    bool nesterov = false;
  };
  SGD(std::vector<ParamGroup> groups, const Options& options);
  explicit SGD(std::vector<ParamGroup> groups) : SGD(std::move(groups), Options{}) {}

 protected:
  void update(const std::vector<Update>& all) override;

 private:
  const Options options_;
};

// Loshchilov & Hutter 2019, algorithm 2, as torch.optim.AdamW:  p *= 1 - lr decay;  m, v: running means of g, g^2;
// p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps).
// t is the optimiser's step; torch counts for each parameter those in which it had a gradient.
class AdamW : public Optimizer {
 public:
  struct Options {
    double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  };
  AdamW(std::vector<ParamGroup> groups, const Options& options);
  explicit AdamW(std::vector<ParamGroup> groups) : AdamW(std::move(groups), Options{}) {}

 protected:
  void update(const std::vector<Update>& all) override;

 private:
  const Options options_;
};

// L2 norm of all gradients together, summed in f64 in a fixed order; infinite or NaN where a gradient is.
double grad_norm(const std::vector<Tensor>& params);
// Scales the gradients so that their norm is at most max_norm; returns the norm before. max_norm <= 0 only measures.
// A norm that is not finite scales nothing: the caller stops.
double clip_grad_norm(const std::vector<Tensor>& params, double max_norm);
void clip_grad_value(const std::vector<Tensor>& params, double limit);  // each element into [-limit, limit]

}  // namespace fovea
