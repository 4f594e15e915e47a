// Module: names, registration, and the walk over children.
#include "nn/module.h"

#include <algorithm>

#include "core/words.h"
#include "nn/pattern.h"

namespace fovea {

namespace {
thread_local const Module* running = nullptr;
thread_local CallObserver::Seen observer;
thread_local DType parameter_type = DType::f32;

std::string join(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }
}  // namespace

CallObserver::CallObserver(Seen seen) : outer_(std::move(observer)) { observer = std::move(seen); }
CallObserver::~CallObserver() { observer = std::move(outer_); }

ParameterType::ParameterType(DType type) : outer_(parameter_type) {
  check(type == DType::f32 || type == DType::f64, "parameters are f32 or f64, not ", name_of(type));
  parameter_type = type;
}
ParameterType::~ParameterType() { parameter_type = outer_; }
DType ParameterType::current() { return parameter_type; }

Module::Module(Module& parent, std::string name)
    : parent_(&parent),
      name_(std::move(name)),
      path_(join(parent.path_, name_)),
      seed_(parent.seed_),
      training_(parent.training_) {
  parent.check_name(name_);
  parent.children_.push_back(this);
}
Module::~Module() {
  if (parent_) std::erase(parent_->children_, this);
  for (Module* child : children_) child->parent_ = nullptr;
}

static void check_defined(const std::string& name, const Tensor& value) {
  check(bool(value), "module: the tensor \"", name, "\" is undefined: give it a shape and first values");
}
void Module::check_name(const std::string& name) const {
  const std::string where = path_.empty() ? "" : " of " + path_;
  check(!name.empty() && name.find('.') == std::string::npos, "module: \"", name, "\" is no name for a part", where);
  const auto is = [&](const Named& n) { return n.name == name; };
  const bool used = std::any_of(children_.begin(), children_.end(), [&](Module* m) { return m->name_ == name; }) ||
                    std::any_of(parameters_.begin(), parameters_.end(), is) ||
                    std::any_of(buffers_.begin(), buffers_.end(), is);
  check(!used, "module: the name \"", name, "\"", where, " is used twice");
}

Tensor Module::parameter(const std::string& name, Tensor value, Layout layout) {
  check_name(name), check_defined(name, value);
  value.set_requires_grad();
  parameters_.push_back({name, value, layout});
  return value;
}
Tensor Module::buffer(const std::string& name, Tensor value, Layout layout) {
  check_name(name), check_defined(name, value);
  buffers_.push_back({name, value, layout});
  return value;
}

Tensor Module::host_buffer(const std::string& name, Tensor value) {
  buffer(name, value);
  buffers_.back().on_host = true;
  return value;
}

Tensor Module::replace_parameter(const std::string& name, Tensor value) {
  for (Named& n : parameters_)
    if (n.name == name) return n.value = value.set_requires_grad(false);
  fail(Code::failure, "module: no parameter \"" + name + "\" in " + path_);
}

void Module::train(bool on) {
  training_ = on;
  for (Module* child : children_) child->train(on);
}

void Module::collect(std::vector<Named>& all, const std::string& prefix, bool parameters, bool buffers) const {
  const auto add = [&](const std::vector<Named>& own) {
    for (const Named& n : own) all.push_back({prefix + n.name, n.value, n.layout, n.on_host});
  };
  if (parameters) add(parameters_);
  if (buffers) add(buffers_);
  for (const Module* child : children_) child->collect(all, prefix + child->name_ + ".", parameters, buffers);
}
std::vector<Module::Named> Module::collect(bool parameters, bool buffers) const {
  std::vector<Named> all;
  collect(all, "", parameters, buffers);
  return all;
}
std::vector<Module::Named> Module::parameters() const { return collect(true, false); }
std::vector<Module::Named> Module::buffers() const { return collect(false, true); }
std::vector<Module::Named> Module::state() const { return collect(true, true); }

int Module::set_trainable(const std::string& pattern, bool on) {
  int matched = 0;
  for (Named& n : parameters()) {
    if (!matches(pattern, n.name)) continue;
    n.value.set_requires_grad(on);  // the record is shared with the module's own handle
    if (!on) n.value.set_grad({});
    ++matched;
  }
  return matched;
}
int64_t Module::parameter_count() const {
  int64_t count = 0;
  for (const Named& n : parameters()) count += n.value.size();
  return count;
}
void Module::move_to(Device device) const {
  zero_grad();
  for (auto& s : state())
    if (!s.on_host) s.value.move_to(device);
}
const Tensor* Module::first_moved() const {
  for (const auto* own : {&parameters_, &buffers_})
    for (const Named& n : *own)
      if (!n.on_host) return &n.value;
  for (const Module* child : children_)
    if (const Tensor* found = child->first_moved()) return found;
  return nullptr;
}
Device Module::device() const {
  const Tensor* first = first_moved();
  return first ? first->device() : Device::cpu;
}
void Module::zero_grad() const {
  for (Named& n : parameters()) n.value.set_grad({});
}

Philox Module::random(const std::string& parameter) const { return {seed_, hash64(join(path_, parameter))}; }

// The path from the running module down to this one. Called while an unrelated module runs, it appears with its name
// alone; outside all modules, with its whole path.
std::string ModuleCall::segment(const Module& module) {
  for (const Module* up = module.parent_; up && running; up = up->parent_)
    if (up == running) return module.path_.substr(up->path_.empty() ? 0 : up->path_.size() + 1);
  return running ? module.name_ : module.path_;
}
ModuleCall::ModuleCall(const Module& module) : module_(module), outer_(running), scope_(segment(module)) {
  running = &module;
}
ModuleCall::~ModuleCall() { running = outer_; }
bool CallObserver::active() { return bool(observer); }
void ModuleCall::report(const std::vector<Tensor>& outputs) { observer(module_, outputs); }

}  // namespace fovea
