// Where we are: the path of the running module, for errors, traces and memory tags. One stack per thread.
#pragma once
#include <string>

namespace fovea {

class Scope {
 public:
  explicit Scope(const std::string& name);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  static const std::string& path();  // "backbone.layer1.0.conv1", empty outside every module

 private:
  size_t outer_;  // length of the path outside this scope
};

// The path as it was elsewhere, instead of the one here: for what an op recorded, wherever backward() is called.
class ScopeOf {
 public:
  explicit ScopeOf(std::string path);
  ~ScopeOf();
  ScopeOf(const ScopeOf&) = delete;
  ScopeOf& operator=(const ScopeOf&) = delete;

 private:
  std::string outer_;
};

}  // namespace fovea
