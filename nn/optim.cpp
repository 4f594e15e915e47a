// Optimisers: an update is one loop over the elements of all parameters.
#include "nn/optim.h"

#include <cmath>
#include <numeric>
#include <set>

#include "nn/many.h"
#include "nn/pattern.h"
#include "ops/columns.h"

namespace fovea {

std::vector<ParamGroup> decay_groups(const Module& module, double decay, double norm_decay) {
  std::vector<ParamGroup> groups(2);
  groups[0].weight_decay = decay, groups[1].weight_decay = norm_decay;
  for (auto& p : module.parameters()) groups[p.value.rank() < 2].params.push_back(p);
  return groups;
}

std::vector<ParamGroup> groups_by_pattern(const Module& module, const std::vector<GroupRule>& rules, double decay) {
  std::vector<ParamGroup> groups(rules.size() + 1);
  for (size_t i = 0; i < rules.size(); ++i)
    groups[i].lr_scale = rules[i].lr_scale, groups[i].weight_decay = rules[i].weight_decay;
  groups.back().weight_decay = decay;
  for (auto& p : module.parameters()) {
    size_t i = 0;
    while (i < rules.size() && !matches(rules[i].pattern, p.name)) ++i;
    groups[i].params.push_back(p);
  }
  for (size_t i = 0; i < rules.size(); ++i)
    check(Code::usage, !groups[i].params.empty(), "groups_by_pattern: '", rules[i].pattern,
          "' matches no parameter that no rule before it has");
  return groups;
}

Optimizer::Optimizer(std::vector<ParamGroup> groups, const std::vector<std::string>& slots)
    : groups_(std::move(groups)), slots_(slots.size()) {
  state_.push_back({"steps", Tensor::zeros({}, DType::i64)});
  std::set<const Record*> seen;
  for (auto& group : groups_) {
    check(Code::usage, group.weight_decay >= 0, "optimizer: weight decay ", group.weight_decay, " is negative");
    std::erase_if(group.params, [](const Module::Named& p) { return !p.value.requires_grad(); });
    for (auto& p : group.params) {
      check(seen.insert(p.value.record().get()).second, "optimizer: the parameter ", p.name,
            " is given twice: each step would move it twice\n  hint: a tensor that two modules share belongs into one "
            "group, once");
      check(p.value.dtype() != DType::bf16, "optimizer: the parameter ", p.name, " is bf16, expected f32 or f64");
      for (auto& slot : slots) state_.push_back({slot + "/" + p.name, zeros_like(p.value)});
    }
  }
}

void Optimizer::step(double lr) {
  check(std::isfinite(lr), "optimizer: a learning rate of ", lr);
  Tensor& steps = state_[0].value;
  steps.fill(steps.item() + 1);
  std::vector<Update> all;
  const Module::Named* slots = state_.data() + 1;
  for (auto& group : groups_)
    for (auto& p : group.params) {
      check(slots_ == 0 || slots->value.device() == p.value.device(), "optimizer: the parameter ", p.name, " is on ",
            name_of(p.value.device()),
            ", what a step remembers of it is not\n  hint: move_to() before the optimiser is made");
      if (const Tensor g = p.value.grad()) all.push_back({p.value, g, slots, lr * group.lr_scale, group.weight_decay});
      slots += slots_;
    }
  update(all);
  for (Update& u : all) {
    u.p.touch();
    for (size_t i = 0; i < slots_; ++i) Tensor(u.slots[i].value).touch();
  }
}

void Optimizer::zero_grad() {
  for (auto& group : groups_)
    for (auto& p : group.params) p.value.set_grad({});
}
int64_t Optimizer::steps() const { return *state_[0].value.data<int64_t>(); }
std::vector<Tensor> Optimizer::params() const {
  std::vector<Tensor> all;
  for (auto& group : groups_)
    for (auto& p : group.params) all.push_back(p.value);
  return all;
}

namespace {

template <class T> struct SgdStep {
  T *p, *v;  // v is null without momentum
  const T* g;
  T lr, decay, momentum;
  bool nesterov;
  HD void operator()(int64_t i) const {
    T d = g[i] + decay * p[i];
    if (v) {
      v[i] = momentum * v[i] + d;
      d = nesterov ? d + momentum * v[i] : v[i];
    }
    p[i] -= lr * d;
  }
};

template <class T> struct AdamWStep {
  T *p, *m, *v;
  const T* g;
  T keep, beta1, rest1, beta2, rest2;  // keep = 1 - lr decay; rest = 1 - beta, not that of a beta rounded to T
  T rate, root, eps;                   // rate = lr / (1 - beta1^t), root = sqrt(1 - beta2^t)
  HD void operator()(int64_t i) const {
    m[i] = beta1 * m[i] + rest1 * g[i];
    v[i] = beta2 * v[i] + rest2 * g[i] * g[i];
    p[i] = keep * p[i] - rate * m[i] / (std::sqrt(v[i]) / root + eps);
  }
};

template <class T> struct SquaresInColumns {  // element r * 16 + c, squared; 0 past the end
  const T* x;
  int64_t n;
  HD double operator()(int64_t r, int64_t c) const {
    const int64_t i = r * 16 + c;
    return i < n ? static_cast<double>(x[i]) * static_cast<double>(x[i]) : 0.0;
  }
};
template <class T> struct Scale {
  T* x;
  T factor;
  HD void operator()(int64_t i) const { x[i] *= factor; }
};
template <class T> struct Clamp {  // NaN stays NaN
  T* x;
  T limit;
  HD void operator()(int64_t i) const { x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i]; }
};

template <class Update> std::vector<Tensor> params_of(const std::vector<Update>& all) {
  std::vector<Tensor> params;
  for (auto& u : all) params.push_back(u.p);
  return params;
}

void sum_squares(const Tensor& g, double* columns) {  // 16 of them, on the device of g
  dispatch_float(g.dtype(), [&]<class T>() {
    sum_columns<double>(g.device(), (g.size() + 15) / 16, 16, SquaresInColumns<T>{g.data<T>(), g.size()}, columns);
  });
}

}  // namespace

SGD::SGD(std::vector<ParamGroup> groups, const Options& options)
    : Optimizer(std::move(groups),
                options.momentum > 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{}),
      options_(options) {
  check(Code::usage, options.momentum >= 0 && options.momentum < 1, "sgd: momentum ", options.momentum,
        " is not in [0, 1)");
  check(Code::usage, !options.nesterov || options.momentum > 0, "sgd: nesterov needs a momentum above 0");
}
void SGD::update(const std::vector<Update>& all) {
  for_many(params_of(all), [&]<class T>(size_t i) {
    const Update& u = all[i];
    T* v = options_.momentum > 0 ? u.slots[0].value.data<T>() : nullptr;
    return SgdStep<T>{u.p.data<T>(),    v, u.g.data<T>(), T(u.lr), T(u.weight_decay), T(options_.momentum),
                      options_.nesterov};
  });
}

AdamW::AdamW(std::vector<ParamGroup> groups, const Options& options)
    : Optimizer(std::move(groups), {"m", "v"}), options_(options) {
  const auto fraction = [](double b) { return b >= 0 && b < 1; };
  check(Code::usage, fraction(options.beta1) && fraction(options.beta2), "adamw: the betas ", options.beta1, " and ",
        options.beta2, " are not in [0, 1)");
  check(Code::usage, options.eps >= 0, "adamw: eps ", options.eps, " is negative");
}
void AdamW::update(const std::vector<Update>& all) {
  const double t = static_cast<double>(steps()), mean = 1 - std::pow(options_.beta1, t),
               root = std::sqrt(1 - std::pow(options_.beta2, t));
  for_many(params_of(all), [&]<class T>(size_t i) {
    const Update& u = all[i];
    return AdamWStep<T>{u.p.data<T>(),
                        u.slots[0].value.data<T>(),
                        u.slots[1].value.data<T>(),
                        u.g.data<T>(),
                        T(1 - u.lr * u.weight_decay),
                        T(options_.beta1),
                        T(1 - options_.beta1),
                        T(options_.beta2),
                        T(1 - options_.beta2),
                        T(u.lr / mean),
                        T(root),
                        T(options_.eps)};
  });
}

static std::vector<Tensor> grads_of(const std::vector<Tensor>& params) {
  std::vector<Tensor> grads;
  for (auto& p : params)
    if (const Tensor g = p.grad()) grads.push_back(g);
  return grads;
}
double grad_norm(const std::vector<Tensor>& params) {
  const std::vector<Tensor> grads = grads_of(params);
  if (grads.empty()) return 0;
  const int64_t n = static_cast<int64_t>(grads.size());
  const Tensor columns({n, 16}, DType::f64, grads[0].device());  // read once, after the last
  for (int64_t i = 0; i < n; ++i) sum_squares(grads[static_cast<size_t>(i)], columns.data<double>() + 16 * i);
  const std::vector<double> parts = columns.values<double>();
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += std::accumulate(parts.begin() + 16 * i, parts.begin() + 16 * (i + 1), 0.0);
  return std::sqrt(total);
}

template <template <class> class Body> static void each_gradient(const std::vector<Tensor>& params, double argument) {
  std::vector<Tensor> grads = grads_of(params);
  for_many(grads, [&]<class T>(size_t i) { return Body<T>{grads[i].data<T>(), T(argument)}; });
  for (Tensor& g : grads) g.touch();
}

double clip_grad_norm(const std::vector<Tensor>& params, double max_norm) {
  const double norm = grad_norm(params);
  if (max_norm > 0 && norm > max_norm && std::isfinite(norm)) each_gradient<Scale>(params, max_norm / norm);
  return norm;
}
void clip_grad_value(const std::vector<Tensor>& params, double limit) {
  check(Code::usage, limit > 0, "clip_grad_value: the limit ", limit, " is not above 0");
  each_gradient<Clamp>(params, limit);
}

}  // namespace fovea
