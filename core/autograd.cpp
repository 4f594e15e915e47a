// backward(): from the newest node to the oldest, without recursion; memory falls as it runs.
#include "core/autograd.h"

#include <atomic>
#include <set>
#include <unordered_map>
#include <utility>

#include "core/loops.h"
#include "core/scope.h"

namespace fovea {

namespace {

std::atomic<int64_t> node_count{0};
thread_local bool no_grad = false;

template <class T> struct Add {  // sum = a + b
  const T *a, *b;
  T* sum;
  static constexpr int kWidth = kLaneWidth<T>;
  bool aligned() const { return all_aligned(a, b, sum); }
  const void* result() const { return sum; }
  template <class At> HD void operator()(const At& at) const {
    const auto u = at.load(a), v = at.load(b);
    auto out = at.fresh(sum);
    at.each([&](int64_t i) { out[i] = T(compute_t<T>(u[i]) + compute_t<T>(v[i])); });
    at.store(sum, out);
  }
};

template <class T> struct AddInto {  // sum += x
  T* sum;
  const T* x;
  static constexpr int kWidth = kLaneWidth<T>;
  bool aligned() const { return all_aligned(sum, x); }
  template <int kFew> HD void operator()(const Few<kFew>& at) const {
    auto s = at.load(sum);
    const auto v = at.load(x);
    at.each([&](int64_t i) { s[i] = T(compute_t<T>(s[i]) + compute_t<T>(v[i])); });
    at.store(sum, s);
  }
};

// A gradient may share storage with another (add returns dy twice), so a sum is written in place only into storage
// that nobody else holds.
struct Sum {
  Tensor value;
  void add(Tensor g) {
    if (!value) return void(value = std::move(g));
    if (value.sole_owner()) return add_into(value, g);
    const Tensor a = value, b = std::move(g);
    value = empty_like(a);
    dispatch_storage(a.dtype(), [&]<class T>() {
      for_each(a.device(), a.size(), Add<T>{a.data<T>(), b.data<T>(), value.data<T>()});
    });
  }
};

struct NewerFirst {
  bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const { return a->order > b->order; }
};

class Walk {
 public:
  explicit Walk(BackwardOptions options) : options_(options) {}

  void deliver(const std::shared_ptr<Record>& to, Tensor g) {
    const Record& record = *to;
    if (record.node) {
      auto& slots = pending_[record.node.get()];
      slots.resize(record.node->outputs.size());
      slots[record.slot].sum.add(std::move(g));
      slots[record.slot].record = to;
      todo_.insert(record.node);
    } else {  // a leaf: its gradient is complete when the walk ends
      auto [at, fresh] = leaves_.try_emplace(to.get(), leaf_order_.size());
      if (fresh) leaf_order_.push_back({{}, to});
      leaf_order_[at->second].sum.add(std::move(g));
    }
  }
  void run() {
    while (!todo_.empty()) {
      auto node = *todo_.begin();
      todo_.erase(todo_.begin());
      step(*node);
    }
    for (auto& slot : leaf_order_) finish_leaf(*slot.record, slot.sum);
  }

 private:
  struct Slot {
    Sum sum;
    std::shared_ptr<Record> record;
  };

  static void run_hooks(Record& record, Tensor& g) {
    auto hook = record.hooks.begin();
    for (size_t left = record.hooks.size(); left-- > 0; ++hook) {  // those that there were: one may add others
      if (!g.sole_owner()) g = g.clone();                          // a hook may change it in place
      const Shape before = g.shape();
      const DType type = g.dtype();
      const Device device = g.device();
      (*hook)(g);
      check(g && g.shape() == before, "hook: the gradient had shape ", before, ", the hook left ", g.shape());
      check(g.dtype() == type && g.device() == device, "hook: the gradient was ", name_of(type), " on ",
            name_of(device), ", the hook left ", name_of(g.dtype()), " on ", name_of(g.device()));
    }
  }
  static void finish_leaf(Record& record, Sum& sum) {
    run_hooks(record, sum.value);
    if (record.grad) add_into(*record.grad, sum.value);
    else  // a gradient that other tensors may share is copied
      record.grad = std::make_unique<Tensor>(sum.value.sole_owner() ? sum.value : sum.value.clone());
  }
  void step(Node& node) {
    const ScopeOf scope(node.path);
    check(!node.released, node.name(), ": backward ran through this op before and released what it had saved",
          "\n  hint: pass {.retain_graph = true} to the first backward()");
    std::vector<Tensor> dy;
    auto own = pending_.extract(&node);
    for (auto& slot : own.mapped()) {
      if (slot.record && slot.sum.value) run_hooks(*slot.record, slot.sum.value);
      dy.push_back(slot.sum.value);
    }
    Grads g{{}, std::vector<Tensor>(node.inputs.size()), !options_.retain_graph};
    for (auto& x : node.inputs) g.wanted.push_back(x.wanted());
    {
      OpTimer timer(node.name(), OpTimer::Pass::backward);
      node.backward(dy, g);
      timer.stop(g.value);
    }
    dy.clear();
    own = {};
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (!g.wants(i)) continue;
      const Edge& x = node.inputs[i];
      check(bool(g[i]), node.name(), ": backward() gave input ", i, " no gradient\n  hint: fill g[", i,
            "] where g.wants(", i, ")");
      check(g[i].shape() == x.shape, node.name(), ": the gradient of input ", i, " has shape ", g[i].shape(),
            ", the input has ", x.shape);
      check(g[i].dtype() == x.dtype, node.name(), ": the gradient of input ", i, " is ", name_of(g[i].dtype()),
            ", the input is ", name_of(x.dtype));
      Tensor dx = std::exchange(g[i], Tensor());
      dx.set_record(nullptr);
      deliver(x.record, std::move(dx));
    }
    if (options_.retain_graph) return;
    node.released = true;
    node.release();
    node.inputs.clear();
  }

  BackwardOptions options_;
  std::set<std::shared_ptr<Node>, NewerFirst> todo_;
  std::unordered_map<Node*, std::vector<Slot>> pending_;
  std::unordered_map<Record*, size_t> leaves_;
  std::vector<Slot> leaf_order_;  // as the walk reached them: hooks run in the same order every time
};

}  // namespace

Node::Node() : order(++node_count) {}

// A node may hold the last handle to the node before it, and so on down a chain of any length: without recursion.
Node::~Node() {
  thread_local std::vector<Edge>* doomed = nullptr;  // of the outermost destructor that runs
  if (doomed) {
    for (auto& x : inputs) doomed->push_back(std::move(x));
    return;
  }
  std::vector<Edge> list = std::move(inputs);
  doomed = &list;
  while (!list.empty()) {
    const Edge last = std::move(list.back());
    list.pop_back();
  }
  doomed = nullptr;
}

NoGrad::NoGrad() : outer_(no_grad) { no_grad = true; }
NoGrad::~NoGrad() { no_grad = outer_; }
bool NoGrad::active() { return no_grad; }

void add_into(Tensor& sum, const Tensor& x) {
  check(sum.shape() == x.shape() && sum.dtype() == x.dtype(), "add_into: ", name_of(sum.dtype()), " ", sum.shape(),
        " += ", name_of(x.dtype()), " ", x.shape());
  check(sum.device() == x.device(), "add_into: one is on ", name_of(sum.device()), ", the other on ",
        name_of(x.device()));
  dispatch_storage(sum.dtype(), [&]<class T>() {
    for_each(sum.device(), sum.size(), AddInto<T>{sum.data<T>(), x.data<T>()});
  });
  sum.touch();
}

void detail::check_device(const char* op, const Tensor*& first, const Tensor& t) {
  if (!t) return;
  if (!first) first = &t;
  check(t.device() == first->device(), op, ": an input ", first->shape(), " is on ", name_of(first->device()),
        ", another one ", t.shape(), " on ", name_of(t.device()), kMoveHint);
}

void detail::link(std::unique_ptr<Node> made, std::vector<Edge> inputs, std::vector<Tensor*> outputs) {
  const std::shared_ptr<Node> node = std::move(made);
  node->path = Scope::path();
  node->inputs = std::move(inputs);
  for (size_t slot = 0; slot < outputs.size(); ++slot) {
    node->outputs.push_back(outputs[slot]->shape());
    if (!is_float(outputs[slot]->dtype())) continue;  // indices have no gradient
    auto record = std::make_shared<Record>();
    record->requires_grad = true;
    record->node = node;
    record->slot = static_cast<int>(slot);
    outputs[slot]->set_record(std::move(record));
  }
}

void backward(const Tensor& loss, Tensor seed, BackwardOptions options) {
  check(loss.requires_grad(), "backward: the tensor depends on nothing that requires a gradient\n  hint: ",
        "set_requires_grad() on a leaf; reshape(), slice() and cast() stay on the tape, but view(), rows(), to(), ",
        "clone(), detach() and whatever runs under NoGrad leave it");
  if (!seed) {
    check(loss.size() == 1, "backward: a loss of shape ", loss.shape(), " needs a seed of the same shape");
    seed = Tensor::full(loss.shape(), 1, loss.dtype(), loss.device());
  }
  check(seed.shape() == loss.shape(), "backward: the seed has shape ", seed.shape(), ", the loss ", loss.shape());
  check(seed.dtype() == loss.dtype(), "backward: the seed is ", name_of(seed.dtype()), ", the loss ",
        name_of(loss.dtype()));
  check(seed.device() == loss.device(), "backward: the seed is on ", name_of(seed.device()), ", the loss on ",
        name_of(loss.device()), "\n  hint: move it with .to(device)");
  NoGrad quiet;
  Walk walk(options);
  walk.deliver(loss.record(), seed.detach());
  walk.run();
}

}  // namespace fovea
