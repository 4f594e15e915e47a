// Module: a network part that names itself, its parameters, buffers and children where they are declared.
#pragma once
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/random.h"
#include "core/scope.h"
#include "core/tensor.h"

namespace fovea {

// How a weight lies in a file, where that differs from how it lies in memory:
// conv: file OIHW, memory HWIO. linear: file [out,in], memory [in,out].
// conv_transpose: file [in,out/groups,kh,kw], memory [kh,kw,out/groups,in]. Norms, biases: plain.
enum class Layout { plain, conv, linear, conv_transpose };

class Module;

// While one lives on this thread, `seen` runs after each call of a module, with the tensors that the call returned
// (none where it returned something else). Calls nest: children report before their parents, a shared module once a
// call.
class CallObserver {
 public:
  using Seen = std::function<void(const Module& module, const std::vector<Tensor>& outputs)>;
  explicit CallObserver(Seen seen);
  ~CallObserver();
  CallObserver(const CallObserver&) = delete;
  CallObserver& operator=(const CallObserver&) = delete;
  static bool active();  // on this thread: modules that could be computed together are then called one by one

 private:
  Seen outer_;
};

// The element type of parameters and buffers of modules built while one lives on this thread: f32, unless said
// otherwise.
class ParameterType {
 public:
  explicit ParameterType(DType type);
  ~ParameterType();
  ParameterType(const ParameterType&) = delete;
  ParameterType& operator=(const ParameterType&) = delete;
  static DType current();

 private:
  DType outer_;
};

// A part of a network. Never moves: children point at their parents. A model writes
//   class Block : public Layer<Block> {
//     Conv2d conv1{*this, "conv1", {.in = 64, .out = 64, .kernel = 3, .pad = 1, .bias = false}};
//     Norm bn1{*this, "bn1", {.kind = NormKind::batch, .channels = 64}};
//     Tensor forward(const Tensor& x) { return relu(bn1(conv1(x))); }
//   };
// and its names follow from the declarations: conv1.weight, bn1.weight, bn1.bias, bn1.running_mean, ...
class Module {
 public:
  // A root, with an empty name. `seed` and a parameter's full name decide its initial values (not the order of
  // building).
  explicit Module(uint64_t seed = 0) : seed_(seed) {}
  // A child. Throws on a name that the parent already uses, that is empty or holds a '.'.
  Module(Module& parent, std::string name);
  virtual ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  const std::string& name() const { return name_; }
  const std::string& path() const { return path_; }  // from the root: "backbone.layer1.0.conv1"; empty for the root
  const std::vector<Module*>& children() const { return children_; }  // in the order of declaration

  // Training mode is on at first. It reaches the children.
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }

  struct Named {
    std::string name;  // from the module that was asked
    Tensor value;      // the handle shares storage, gradient and version with the module's own
    Layout layout = Layout::plain;
    bool on_host = false;  // the processor reads it: move_to() leaves it there
  };
  // This module's and its children's, in the order of declaration, its own first. Names are torchvision's.
  std::vector<Named> parameters() const;
  std::vector<Named> buffers() const;  // running statistics, and the weights of frozen norms: not trained
  std::vector<Named> state() const;    // both: what a file of weights holds

  // Switches the gradients of the parameters whose name matches (nn/pattern.h); returns how many tensors matched.
  int set_trainable(const std::string& pattern, bool on);
  int64_t parameter_count() const;  // elements
  void zero_grad() const;

  // Moves parameters and buffers to a device, for all handles to them, and drops gradients: before an optimiser or
  // an Ema is made.
  void move_to(Device device) const;
  Device device() const;  // where they are

  // The random numbers of a parameter of this module: a function of the root's seed and the full name alone.
  Philox random(const std::string& parameter) const;

 protected:
  // Registers and returns the tensor; a parameter wants a gradient. Throws on a name in use and an undefined tensor.
  Tensor parameter(const std::string& name, Tensor value, Layout layout = Layout::plain);
  Tensor buffer(const std::string& name, Tensor value, Layout layout = Layout::plain);
  Tensor host_buffer(const std::string& name, Tensor value);  // such as a counter
  // Registers another tensor, without a gradient, under the name of a parameter, and returns it. Throws without one.
  Tensor replace_parameter(const std::string& name, Tensor value);

 private:
  friend class ModuleCall;
  std::vector<Named> collect(bool parameters, bool buffers) const;
  void collect(std::vector<Named>& all, const std::string& prefix, bool parameters, bool buffers) const;
  void check_name(const std::string& name) const;
  const Tensor* first_moved() const;  // of what move_to() moves; null where that is nothing

  Module* parent_ = nullptr;
  std::string name_, path_;
  uint64_t seed_ = 0;
  bool training_ = true;
  std::vector<Module*> children_;
  std::vector<Named> parameters_, buffers_;
};

// One running call: the scope of errors and traces, and the report to the observer.
class ModuleCall {
 public:
  explicit ModuleCall(const Module& module);
  ~ModuleCall();
  template <class R> void finished(const R& result) {
    if (!CallObserver::active()) return;
    if constexpr (std::is_same_v<R, Tensor>) report({result});
    else if constexpr (std::is_same_v<R, std::vector<Tensor>>) report(result);
    else report({});
  }

 private:
  static std::string segment(const Module& module);
  void report(const std::vector<Tensor>& outputs);
  const Module& module_;
  const Module* outer_;
  Scope scope_;
};

// Gives Self, which derives from it, its call: module(x...) is Self::forward(x...) inside the module's scope.
// Typed and not virtual: any arguments, any result.
template <class Self> class Layer : public Module {
 public:
  using Module::Module;
  template <class... A> decltype(auto) operator()(A&&... arguments) {
    ModuleCall call(*this);
    using R = decltype(static_cast<Self*>(this)->forward(std::forward<A>(arguments)...));
    if constexpr (std::is_void_v<R>) {
      static_cast<Self*>(this)->forward(std::forward<A>(arguments)...);
    } else {
      R result = static_cast<Self*>(this)->forward(std::forward<A>(arguments)...);
      call.finished(result);
      return result;
    }
  }
};

}  // namespace fovea
