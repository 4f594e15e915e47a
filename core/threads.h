// A thread pool with fixed chunks: what a chunk is depends on the work alone, so results do not depend on the threads.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea {

// Those that the calling thread may run on: fewer than the machine has under taskset, and in a container with a cpuset
// or a limit on time (docker --cpus). At least 1.
int processors();
// How many such a limit is, rounded up: 2 for "150000 100000", the microseconds of all threads in each period of so
// many. INT_MAX where the text is no limit: "max 100000", "-1 100000".
int processors_in(std::string_view quota);
// Where such limits of a control group and of those that it is in are, the outermost first, by a line of
// /proc/self/cgroup: "4:cpu,cpuacct:/a/b" of version 1, "0::/a/b" of version 2. None where it is of something else.
std::vector<std::string> groups_with_limits(const std::string& line);

int num_threads();
// The caller counts as one. Throws below 1, above 256, and where the system starts no more. Not while another thread
// computes: what has memory for each thread throws then.
void set_num_threads(int threads);
// While one lives, so many threads; then as many as before, also where an error passes.
class ThreadCount {
 public:
  ThreadCount() = default;  // as many as there are: for a scope that sets several numbers itself
  explicit ThreadCount(int threads) { set_num_threads(threads); }
  ~ThreadCount();  // where the system starts no more, those that there are stay
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  const int outer_ = num_threads();
};
// Which of them this thread is. 0: the caller, and whatever thread is not of the pool.
int thread_number();

// While one lives, this thread and the chunks that it starts take f32 and f64 numbers too small for a full significand
// as 0: such numbers appear late in training and slow a loop down many times. No effect on machines other than x86.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned outer_;
};

namespace detail {
void run_chunks(int64_t chunks, void (*run)(void*, int64_t), void* context);
}

// f(begin, end) for consecutive chunks of `grain` indices of [0, n), on all threads, in no fixed order.
// The first exception is rethrown in the caller once the running chunks are done; no others begin. Nested calls run
// inline.
template <class F> void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  if (grain < 1) grain = 1;
  if (n <= grain) return f(int64_t{0}, n);
  struct Context {
    F& f;
    int64_t n, grain;
  } context{f, n, grain};
  detail::run_chunks((n + grain - 1) / grain,
                     [](void* p, int64_t chunk) {
                       auto& c = *static_cast<Context*>(p);
                       const int64_t begin = chunk * c.grain, end = begin + c.grain;
                       c.f(begin, end < c.n ? end : c.n);
                     },
                     &context);
}

// The same for loop(body, begin, end), which alone knows the body's type: one code for all bodies.
using Loop = void (*)(const void* body, int64_t begin, int64_t end);
void parallel_loop(int64_t n, int64_t grain, Loop loop, const void* body);

}  // namespace fovea
