// A profiler of ops: time, calls and bytes written; and a trace, with modules, that chrome://tracing opens.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace fovea {

struct OpStats {
  std::string op;  // "conv2d", or "conv2d.backward"; or a module
  int64_t calls = 0;
  double ms = 0;
  int64_t bytes = 0;  // of the results
};

// Off by default; one profile a process. On a device an op's time is that of queueing it, unless FOVEA_SYNC is set.
class Profiler {
 public:
  static void start();
  static void stop();
  static bool running();
  static std::vector<OpStats> by_op();  // slowest first
  // The same, with their gradients, by the first `depth` names of the module that they ran in: "backbone.body".
  static std::vector<OpStats> by_module(int depth = 2);
  static std::string table(size_t rows = 30);
  static std::string module_table(int depth = 2);
  static std::string chrome_trace();  // JSON
};

// "conv2d", "conv2d.backward": the op that runs on this thread, for errors that know no better. Empty outside ops.
std::string running_op();

// Marks an op as running, and times it while a profile runs.
class OpTimer {
 public:
  enum class Pass { forward, backward };
  explicit OpTimer(const char* op, Pass pass = Pass::forward) : outer_(innermost) {
    innermost = {op, pass};
    if (Profiler::running()) begin(op, pass);
  }
  ~OpTimer() { innermost = outer_; }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;
  void stop(const Tensor& result) {
    if (op_) end(result ? static_cast<int64_t>(result.bytes()) : 0);
  }
  void stop(const std::vector<Tensor>& results) {
    if (!op_) return;
    int64_t bytes = 0;
    for (auto& t : results) bytes += t ? static_cast<int64_t>(t.bytes()) : 0;
    end(bytes);
  }

 private:
  void begin(const char* op, Pass pass);
  void end(int64_t bytes);
  struct Running {
    const char* op = nullptr;
    Pass pass = Pass::forward;
  };
  friend std::string running_op();
  static thread_local Running innermost;
  const Running outer_;
  const char* op_ = nullptr;
  Pass pass_ = Pass::forward;
  double start_ = 0;
};

}  // namespace fovea
