// Collects one event an op, and sums them when asked.
#include "core/profile.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <map>
#include <mutex>
#include <thread>

#include "core/scope.h"
#include "core/words.h"

namespace fovea {

namespace {

struct Event {
  std::string op, path;
  double start_us, us;
  int64_t bytes;
  size_t thread;
};

std::atomic<bool> running_now{false};
std::mutex events_mutex;
std::vector<Event> events;

double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Events by what `key` says of them, slowest first.
template <class Key> std::vector<OpStats> summed(Key key) {
  std::lock_guard lock(events_mutex);
  std::map<std::string, OpStats> sums;
  for (auto& e : events) {
    OpStats& s = sums[key(e)];
    s.calls++, s.ms += e.us / 1e3, s.bytes += e.bytes;
  }
  std::vector<OpStats> list;
  for (auto& [name, s] : sums) list.push_back(s), list.back().op = name;
  std::stable_sort(list.begin(), list.end(), [](const OpStats& a, const OpStats& b) { return a.ms > b.ms; });
  return list;
}

std::string lines(const char* head, const std::vector<OpStats>& list, size_t rows) {
  char line[160];
  std::snprintf(line, sizeof line, "%-30s %6s %10s %8s\n", head, "calls", "ms", "MiB");
  std::string out = line;
  for (size_t i = 0; i < std::min(rows, list.size()); ++i) {
    std::snprintf(line, sizeof line, "%-30s %6lld %10.2f %8.1f\n", list[i].op.c_str(),
                  static_cast<long long>(list[i].calls), list[i].ms, static_cast<double>(list[i].bytes) / (1 << 20));
    out += line;
  }
  return out;
}

}  // namespace

void Profiler::start() {
  std::lock_guard lock(events_mutex);
  events.clear();
  running_now = true;
}
void Profiler::stop() { running_now = false; }
bool Profiler::running() { return running_now.load(std::memory_order_relaxed); }
std::vector<OpStats> Profiler::by_op() {
  return summed([](const Event& e) { return e.op; });
}
std::vector<OpStats> Profiler::by_module(int depth) {
  return summed([depth](const Event& e) {
    size_t end = 0;
    for (int i = 0; i < depth && end < e.path.size(); ++i)
      end = std::min(e.path.find('.', end + (i > 0)), e.path.size());
    return e.path.empty() ? "(no module)" : e.path.substr(0, end);
  });
}
std::string Profiler::table(size_t rows) { return lines("op", by_op(), rows); }
std::string Profiler::module_table(int depth) { return lines("module", by_module(depth), SIZE_MAX); }

std::string Profiler::chrome_trace() {
  std::lock_guard lock(events_mutex);
  std::string out = "{\"traceEvents\":[";
  for (size_t i = 0; i < events.size(); ++i) {
    const Event& e = events[i];
    // To the ns: many an op ends within the microsecond in which it began.
    out += text(i ? ",\n" : "\n", R"({"ph":"X","pid":1,"tid":)", e.thread % 1000, R"(,"name":)", quoted(e.op),
                R"(,"ts":)", fixed(e.start_us, 3), R"(,"dur":)", fixed(e.us, 3), R"(,"args":{"module":)",
                quoted(e.path), R"(,"bytes":)", e.bytes, "}}");
  }
  return out + "\n]}\n";
}

thread_local OpTimer::Running OpTimer::innermost;
std::string running_op() {
  const auto [op, pass] = OpTimer::innermost;
  return op ? text(op, pass == OpTimer::Pass::backward ? ".backward" : "") : "";
}

void reject_type(DType t) {
  const std::string op = running_op();
  fail(Code::failure,
       text(op, op.empty() ? "" : ": ", "expected a tensor of f32 or f64, got ", name_of(t), type_hint(t, t)));
}

void OpTimer::begin(const char* op, Pass pass) { op_ = op, pass_ = pass, start_ = now_us(); }
void OpTimer::end(int64_t bytes) {
  const double us = now_us() - start_;
  const size_t thread = std::hash<std::thread::id>{}(std::this_thread::get_id());
  std::lock_guard lock(events_mutex);
  events.push_back(
      {pass_ == Pass::forward ? op_ : std::string(op_) + ".backward", Scope::path(), start_, us, bytes, thread});
  op_ = nullptr;
}

}  // namespace fovea
