// The pool. Each thread takes the chunks of its own share first: from loop to loop much the same part of a map, which
// its core's caches hold. Then it helps with the others, so a core that another process takes away costs little.
#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/words.h"
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace fovea {

namespace {

constexpr int kMostThreads = 256;  // also where there are more processors: who asks for as many as there are gets them

thread_local bool inside = false;  // a chunk is running on this thread: nested loops stay on it
thread_local int number = 0;       // of this thread in the pool

// How this thread treats denormal numbers (x86's MXCSR): workers take over their caller's mode.
unsigned float_mode() {
#if defined(__x86_64__)
  return _mm_getcsr();
#else
  return 0;
#endif
}
void set_float_mode([[maybe_unused]] unsigned mode) {
#if defined(__x86_64__)
  _mm_setcsr(mode);
#endif
}

struct alignas(64) Share {  // a line of its own
  std::atomic<int64_t> next{0};
};

struct Job {
  void (*run)(void*, int64_t);
  void* context;
  int64_t chunks;
  Share* share = nullptr;
  int64_t shares = 1;
  unsigned mode = float_mode();
  std::atomic<int> helpers{0};  // workers that may still touch this job
  std::exception_ptr error;
  std::mutex error_mutex;

  // A thread takes the chunks of its own share, then what is left of the others.
  void work() {
    const bool outer = std::exchange(inside, true);
    for (int64_t s = 0; s < shares; ++s) {
      const int64_t i = (number + s) % shares, end = (i + 1) * chunks / shares;
      std::atomic<int64_t>& next = share[i].next;
      // An empty share is only read: the threads then need not wait for each other's writes to it.
      for (int64_t c; next.load(std::memory_order_relaxed) < end && (c = next.fetch_add(1)) < end;) {
        try {
          run(context, c);
        } catch (...) {
          for (int64_t all = 0; all < shares; ++all) share[all].next = chunks;
          std::lock_guard lock(error_mutex);
          if (!error) error = std::current_exception();
        }
      }
    }
    inside = outer;
  }
};

class Pool {
 public:
  explicit Pool(int threads) : shares_(size_t(threads)) {
    try {
      for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { serve(i); });
    } catch (const std::exception& error) {
      stop();  // no destructor runs for what was not made
      fail(Code::resource, text("threads: the system started only ", size(), " of ", threads, ": ", error.what(),
                                "\n  hint: ask for fewer, e.g. FOVEA_THREADS=", size()));
    }
  }
  ~Pool() { stop(); }
  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void run(Job& job) {
    job.share = shares_.data(), job.shares = std::min<int64_t>(size(), job.chunks);
    for (int64_t i = 0; i < job.shares; ++i) shares_[size_t(i)].next = i * job.chunks / job.shares;
    {
      std::lock_guard lock(mutex_);
      job_ = &job;
      ticket_.fetch_add(1);
    }
    wake_.notify_all();
    job.work();
    {
      std::lock_guard lock(mutex_);
      job_ = nullptr;  // late workers find nothing
    }
    while (job.helpers.load(std::memory_order_acquire) > 0) std::this_thread::yield();
  }

 private:
  void serve(int its_number) {
    number = its_number;
    uint64_t seen = 0;
    while (true) {
      for (int spin = 0; spin < 2000 && ticket_.load(std::memory_order_acquire) == seen; ++spin) pause();
      Job* job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return ticket_.load() != seen; });
        seen = ticket_.load();
        if (stop_) return;
        job = job_;
        if (job) job->helpers.fetch_add(1);
      }
      if (!job) continue;
      set_float_mode(job->mode);
      job->work();
      job->helpers.fetch_sub(1, std::memory_order_release);
    }
  }
  void stop() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      ticket_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& w : workers_) w.join();
  }
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  std::vector<Share> shares_;  // of the running job
  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> ticket_{0};
  Job* job_ = nullptr;
  bool stop_ = false;
};

int default_threads() {
  if (const char* s = std::getenv("FOVEA_THREADS")) {
    int n = 0;
    check(Code::usage, read_number(s, n) && n >= 1 && n <= kMostThreads, "FOVEA_THREADS=", s,
          ": expected a number from 1 to ", kMostThreads);
    return n;
  }
  return std::min(processors(), kMostThreads);
}

std::mutex caller_mutex;  // one job at a time; loader threads that call loops meanwhile run them inline
std::atomic<int> pool_size{0};
std::unique_ptr<Pool>& pool() {  // never destroyed: threads that outlive main() may still run loops
  static auto* p = [] {
    auto* first = new std::unique_ptr<Pool>(std::make_unique<Pool>(default_threads()));
    pool_size = (*first)->size();
    return first;
  }();
  return *p;
}

#if defined(__linux__)
std::string line_of(const std::string& path) {  // the first one; "" where there is no such file
  std::string line;
  std::getline(std::ifstream(path), line);
  return line;
}
#endif

}  // namespace

int processors_in(std::string_view quota) {
  const size_t space = quota.find(' ');
  int64_t time = 0, period = 0;
  if (space == quota.npos || !read_number(quota.substr(0, space), time) ||
      !read_number(quota.substr(space + 1), period) || time <= 0 || period <= 0)
    return INT_MAX;
  return static_cast<int>(std::min<int64_t>((time - 1) / period + 1, INT_MAX));
}
std::vector<std::string> groups_with_limits(const std::string& line) {
  const size_t kinds = line.find(':') + 1, path = line.find(':', kinds) + 1;
  if (kinds == 0 || path == 0) return {};
  const bool second = path == kinds + 1;
  const std::vector<std::string> all = split(line.substr(kinds, path - 1 - kinds), ',');
  if (!second && std::find(all.begin(), all.end(), "cpu") == all.end()) return {};
  std::vector<std::string> folders{second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu"};
  for (const std::string& name : split(line.substr(path), '/'))
    if (!name.empty()) folders.push_back(folders.back() + "/" + name);
  return folders;
}
int processors() {
  int n = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t allowed;  // fails on machines of more than it can hold
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) n = CPU_COUNT(&allowed);
  std::ifstream groups("/proc/self/cgroup");  // a service of systemd sees its own below those of all others
  std::set<std::string> folders{"/sys/fs/cgroup", "/sys/fs/cgroup/cpu"};  // a container may see its own as these
  for (std::string line; std::getline(groups, line);)
    for (std::string& folder : groups_with_limits(line)) folders.insert(std::move(folder));
  for (const std::string& folder : folders) {
    const std::string first = folder + "/cpu.cfs_";
    n = std::min(n, processors_in(line_of(folder + "/cpu.max")));
    n = std::min(n, processors_in(line_of(first + "quota_us") + " " + line_of(first + "period_us")));
  }
#endif
  return std::max(n, 1);
}
int num_threads() { return pool(), pool_size.load(); }
int thread_number() { return number; }

void set_num_threads(int threads) {
  check(Code::usage, threads >= 1 && threads <= kMostThreads, "threads: expected 1 to ", kMostThreads, ", got ",
        threads);
  check(!inside, "set_num_threads: called by a chunk of a loop, which would wait for itself");
  std::lock_guard lock(caller_mutex);
  if (threads == pool()->size()) return;
  pool() = std::make_unique<Pool>(threads);
  pool_size = threads;
}

ThreadCount::~ThreadCount() {
  try {
    set_num_threads(outer_);
  } catch (...) {}  // a destructor throws nothing
}

FlushDenormals::FlushDenormals() : outer_(float_mode()) {
  set_float_mode(outer_ | 0x8040);  // flush to zero, denormals are zero
}
FlushDenormals::~FlushDenormals() { set_float_mode(outer_); }

void parallel_loop(int64_t n, int64_t grain, Loop loop, const void* body) {
  parallel_for(n, grain, [=](int64_t begin, int64_t end) { loop(body, begin, end); });
}

void detail::run_chunks(int64_t chunks, void (*run)(void*, int64_t), void* context) {
  Job job;
  job.run = run, job.context = context, job.chunks = chunks;
  std::unique_lock lock(caller_mutex, std::defer_lock);
  Share all;
  job.share = &all;
  if (inside || !lock.try_lock() || pool()->size() == 1) job.work();
  else pool()->run(job);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace fovea
