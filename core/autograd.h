// The tape: apply() runs an op and keeps the op object itself as the node; backward() walks the nodes, newest first.
#pragma once
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/profile.h"
#include "core/tensor.h"

namespace fovea {

// What an op's backward() fills: g[i] is dL/d(input i). An input that wants none may be left alone.
// Inputs are counted in the order of apply()'s arguments, the tensors of a vector one by one.
struct Grads {
  std::vector<bool> wanted;
  std::vector<Tensor> value;
  bool last = true;  // the op is not asked again: it may change what it saved, and hand it out
  bool wants(size_t i) const { return check_input(i), wanted[i]; }
  Tensor& operator[](size_t i) { return check_input(i), value[i]; }

 private:
  void check_input(size_t i) const {
    check(i < value.size(), "backward: there is no input ", i, ": the op has ", value.size(), ", counted from 0");
  }
};

// A tensor that an op keeps for its gradient: using it after it was changed in place is an error.
class Saved {
 public:
  Saved& operator=(const Tensor& t) { return tensor_ = t.detach(), version_ = t.version(), *this; }
  const Tensor& operator*() const { return check_version(), tensor_; }
  const Tensor* operator->() const { return check_version(), &tensor_; }
  operator const Tensor&() const { return check_version(), tensor_; }
  explicit operator bool() const { return bool(tensor_); }

 private:
  void check_version() const {
    check(tensor_.version() == version_, "backward: a tensor of shape ", tensor_.shape(),
          " that the gradient needs was changed in place after it was used\n  hint: clone() it before the change");
  }
  Tensor tensor_;
  uint64_t version_ = 0;
};

// What a node knows of an input: enough to check and deliver its gradient. The elements stay with who saved them.
struct Edge {
  Shape shape;
  DType dtype;
  std::shared_ptr<Record> record;  // null for an input outside the graph
  bool wanted() const { return record && record->requires_grad; }
};

// One recorded op. `order` counts nodes as they are made: descending order is a reverse topological order.
struct Node {
  Node();
  virtual ~Node();
  virtual const char* name() const = 0;
  virtual void backward(const std::vector<Tensor>& dy, Grads& g) = 0;  // dy[slot], undefined where nothing flowed
  virtual void release() = 0;                                          // drops what the op saved
  const int64_t order;
  std::string path;  // of the module that ran the op
  std::vector<Edge> inputs;
  std::vector<Shape> outputs;  // their shapes, by slot
  bool released = false;
};

// While one lives on this thread, apply() records nothing.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;
  static bool active();

 private:
  bool outer_;
};

struct BackwardOptions {
  bool retain_graph = false;  // keep what the ops saved, so that backward() may run again
};

// Fills grad() of every leaf that `loss` depends on, adding to what is there. `seed` is dL/d(loss); ones if undefined,
// which then needs a loss of one element. Throws if the graph was released by an earlier call.
void backward(const Tensor& loss, Tensor seed = {}, BackwardOptions options = {});

void add_into(Tensor& sum, const Tensor& x);  // sum += x, in place; same shape and floating-point type

namespace detail {

template <class Op> struct OpNode final : Node {
  explicit OpNode(Op&& o) : op(std::make_unique<Op>(std::move(o))) {}
  const char* name() const override { return Op::name; }
  __attribute__((cold)) void backward(const std::vector<Tensor>& dy, Grads& g) override {
    if constexpr (requires { op->backward(dy[0], g); }) op->backward(dy[0], g);
    else op->backward(dy, g);
  }
  void release() override { op.reset(); }
  std::unique_ptr<Op> op;
};

inline Tensor strip(const Tensor& t) { return t.detach(); }
inline std::vector<Tensor> strip(const std::vector<Tensor>& list) {
  std::vector<Tensor> out;
  for (auto& t : list) out.push_back(t.detach());
  return out;
}
// Throws unless the defined inputs of an op are on one device; `first` is the first of them.
void check_device(const char* op, const Tensor*& first, const Tensor& t);
inline void check_device(const char* op, const Tensor*& first, const std::vector<Tensor>& list) {
  for (auto& t : list) check_device(op, first, t);
}
inline void collect(std::vector<Edge>& all, const Tensor& t) { all.push_back({t.shape(), t.dtype(), t.record()}); }
inline void collect(std::vector<Edge>& all, const std::vector<Tensor>& list) {
  for (auto& t : list) collect(all, t);
}
void link(std::unique_ptr<Node> node, std::vector<Edge> inputs, std::vector<Tensor*> outputs);

}  // namespace detail

// Runs op.forward on detached tensors (it never sees the tape, so what it saves cannot point back at the graph) and, if
// an input wants a gradient, makes the op the node of what it returns: a Tensor, or a vector of them.
//   struct Op {
//     static constexpr auto name = "...";
//     Tensor forward(const Tensor& x, ...);
//     void backward(const Tensor& dy, Grads& g) const;
//   };
// An op with several outputs has backward(const std::vector<Tensor>& dy, Grads& g). An op without backward() is for
// values only. Inputs are Tensors (may be undefined: an absent bias) or vectors of them, all on one device. Neither
// they nor dy may be changed: other ops share them. Cold, as is a node's backward(): made small, not fast. What takes
// time are the loops that an op calls.
template <class Op, class... In> __attribute__((cold)) auto apply(Op op, const In&... in) {
  const Tensor* first = nullptr;
  (detail::check_device(Op::name, first, in), ...);
  OpTimer timer(Op::name);
  auto y = op.forward(detail::strip(in)...);
  timer.stop(y);
  constexpr bool differentiable = requires(Grads & g, const Tensor& t) { op.backward(t, g); }
  || requires(Grads & g, const std::vector<Tensor>& t) { op.backward(t, g); };
  constexpr bool named = requires { &Op::backward; };
  static_assert(differentiable || !named, "backward takes (const Tensor& dy, Grads& g)");
  if constexpr (differentiable) {
    if (NoGrad::active()) return y;
    std::vector<Edge> inputs;
    (detail::collect(inputs, in), ...);
    bool wanted = false;
    for (auto& edge : inputs) wanted = wanted || edge.wanted();
    if (!wanted) return y;
    std::vector<Tensor*> outputs;
    if constexpr (std::is_same_v<decltype(y), Tensor>) outputs = {&y};
    else
      for (auto& t : y) outputs.push_back(&t);
    detail::link(std::make_unique<detail::OpNode<Op>>(std::move(op)), std::move(inputs), outputs);
  }
  return y;
}

}  // namespace fovea
