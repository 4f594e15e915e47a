// The thread pool and the loops on it: exceptions, nesting, callers at once, equal bits for any number of threads.
#include "core/threads.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <cmath>
#include <fstream>
#include <thread>
#include <vector>

#include "core/random.h"
#include "ops/columns.h"
#include "tests/catch.h"
#if defined(__linux__)
#include <sched.h>
#endif

using namespace fovea;

namespace {

struct Square {
  const float* x;
  float* y;
  HD void operator()(int64_t i) const { y[i] = x[i] * x[i]; }
};
struct RowSum {
  const float* x;
  float* y;
  int64_t n;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const float* row = x + r * n;
    float *out = y + r, sum = team.reduce(
                            n, 0.0f, [=](int64_t i) { return row[i]; }, Plus{});
    team.each(1, [=](int64_t) { *out = sum; });
  }
};
struct At {
  const float* x;
  int64_t cols;
  HD float operator()(int64_t r, int64_t c) const { return x[r * cols + c]; }
};

std::vector<float> noise(int64_t n) {
  std::vector<float> v(n);
  Dice dice(5);
  for (auto& x : v) x = float(dice.normal());
  return v;
}

}  // namespace

TEST_CASE("every index runs once, in chunks that depend on the work alone") {
  const ThreadCount restored;
  for (int threads : {1, 2, 3, 8}) {
    set_num_threads(threads);
    CHECK(num_threads() == threads);
    std::vector<std::atomic<int>> seen(1000);
    std::atomic<int> odd{0};
    parallel_for(1000, 7, [&](int64_t begin, int64_t end) {
      if (begin % 7 != 0 || (end - begin != 7 && end != 1000)) odd++;
      for (int64_t i = begin; i < end; ++i) seen[i]++;
    });
    CHECK(odd == 0);
    for (auto& s : seen) CHECK(s == 1);
  }
  parallel_for(0, 1, [](int64_t, int64_t) { FAIL("no work"); });
  CHECK_THROWS_AS(set_num_threads(0), Error);
  CHECK_THROWS_AS(set_num_threads(257), Error);
}

TEST_CASE("a number of threads ends with its scope, also where an error passes") {
  const ThreadCount outer(2);
  const auto within = [](bool error) {
    const ThreadCount inner(3);
    CHECK(num_threads() == 3);
    if (error) fail(Code::failure, "passes");
  };
  within(false);
  CHECK(num_threads() == 2);
  CHECK_THROWS_AS(within(true), Error);
  CHECK(num_threads() == 2);
  CHECK_THROWS_AS(ThreadCount(0), Error);
  CHECK(num_threads() == 2);
}

TEST_CASE("the first exception reaches the caller, and no chunk begins after it") {
  const ThreadCount restored;
  for (int threads : {1, 3}) {
    set_num_threads(threads);
    std::atomic<int> ran{0};
    CHECK_THROWS_AS(parallel_for(64, 1,
                                 [&](int64_t i, int64_t) {
                                   ran++;
                                   if (i % 10 == 3) fail(Code::data, "chunk");
                                 }),
                    Error);
    // the threads' shares begin at 0, 21 and 42, and throw at 3, 23 and 43
    CHECK(ran <= (threads == 1 ? 4 : 4 + 3 + 2));
    ran = 0;
    parallel_for(64, 1, [&](int64_t, int64_t) { ran++; });  // the pool still works
    CHECK(ran == 64);
  }
}

TEST_CASE("a thread knows its number, and takes chunks of its own share before those of others") {
  const ThreadCount restored;
  for (int threads : {1, 2, 5}) {
    set_num_threads(threads);
    CHECK(thread_number() == 0);
    std::vector<std::vector<int64_t>> taken(static_cast<size_t>(threads));
    std::atomic<int> wrong{0};
    parallel_for(100, 1, [&](int64_t chunk, int64_t) {
      const int number = thread_number();
      if (number < 0 || number >= threads) wrong++;
      else taken[static_cast<size_t>(number)].push_back(chunk);
      parallel_for(3, 1, [&](int64_t, int64_t) { wrong += thread_number() != number; });  // inline
    });
    CHECK(wrong == 0);
    for (int64_t t = 0; t < threads; ++t)  // others may have taken it all before a thread came
      if (const auto& mine = taken[static_cast<size_t>(t)]; !mine.empty() && mine[0] / (100 / threads) != t)
        CHECK(std::none_of(mine.begin(), mine.end(), [&](int64_t c) { return c / (100 / threads) == t; }));
  }
  std::thread([] { CHECK(thread_number() == 0); }).join();
}

#if defined(__linux__)
TEST_CASE("threads that the system refuses are an error, and the pool stays as it was") {
  const ThreadCount restored(2);
  rlimit before;
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit tight = before;  // room for the stacks of some threads
  tight.rlim_cur = static_cast<rlim_t>(pages * getpagesize()) + (rlim_t{128} << 20);
  REQUIRE(setrlimit(RLIMIT_AS, &tight) == 0);
  std::string message;
  try {
    set_num_threads(200);
  } catch (const Error& error) { message = error.code == Code::resource ? error.what() : "another code"; }
  setrlimit(RLIMIT_AS, &before);
  CHECK_THAT(message, contains(" of 200") && contains("hint: ask for fewer"));
  CHECK(num_threads() == 2);
  std::atomic<int64_t> sum{0};
  parallel_for(100, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  CHECK(sum == 100);
}
#endif

TEST_CASE("nested loops run inline, and callers from other threads do not wait for the pool") {
  const ThreadCount restored;
  for (int threads : {1, 4}) {
    set_num_threads(threads);
    std::atomic<int64_t> total{0};
    parallel_for(16, 1, [&](int64_t, int64_t) {
      const auto self = std::this_thread::get_id();
      parallel_for(100, 10, [&](int64_t b, int64_t e) {
        if (std::this_thread::get_id() != self) total -= 1'000'000;
        total += e - b;
      });
    });
    CHECK(total == 1600);
  }
  CHECK_THROWS_AS(parallel_for(16, 1, [](int64_t, int64_t) { set_num_threads(2); }),
                  Error);  // it would wait for itself
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> loaders;
  for (int t = 0; t < 6; ++t)
    loaders.emplace_back([&] {
      for (int k = 0; k < 200; ++k) parallel_for(50, 5, [&](int64_t b, int64_t e) { sum += e - b; });
    });
  for (int k = 0; k < 200; ++k) parallel_for(50, 5, [&](int64_t b, int64_t e) { sum += e - b; });
  for (auto& t : loaders) t.join();
  CHECK(sum == 7 * 200 * 50);
}

TEST_CASE("loops, rows and column sums give equal bits on 1, 2, 3 and 8 threads") {
  const ThreadCount restored;
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 33}, {40'000, 3}, {300, 257}, {1, 70'000}}) {
    const auto x = noise(rows * cols);
    std::vector<float> first;
    for (int threads : {1, 2, 3, 8}) {
      set_num_threads(threads);
      std::vector<float> y(rows * cols + rows + cols);
      for_each(Device::cpu, rows * cols, Square{x.data(), y.data()});
      for_rows(Device::cpu, rows, cols, RowSum{x.data(), y.data() + rows * cols, cols});
      sum_columns<float>(Device::cpu, rows, cols, At{x.data(), cols}, y.data() + rows * cols + rows);
      if (threads == 1) first = y;
      CHECK(y == first);
    }
    for (int64_t c = 0; c < std::min<int64_t>(cols, 50); ++c) {
      double sum = 0;
      for (int64_t r = 0; r < rows; ++r) sum += x[r * cols + c];
      CHECK(first[rows * cols + rows + c] == Approx(sum).margin(1e-3));
    }
    std::vector<float> y(rows * cols + rows + cols);  // the rehearsal: other orders of summing
    rehearsal() = true;
    for_each(Device::cpu, rows * cols, Square{x.data(), y.data()});
    for_rows(Device::cpu, rows, cols, RowSum{x.data(), y.data() + rows * cols, cols});
    sum_columns<float>(Device::cpu, rows, cols, At{x.data(), cols}, y.data() + rows * cols + rows);
    rehearsal() = false;
    for (size_t i = 0; i < y.size(); i += 1 + y.size() / 500) CHECK(y[i] == Approx(first[i]).margin(1e-3));
  }
  std::vector<float> none(4, 9);
  sum_columns<float>(Device::cpu, 0, 4, At{nullptr, 4}, none.data());
  CHECK(none == std::vector<float>(4, 0));
}

#if defined(__linux__)
TEST_CASE("processors are those that the process may run on") {
  int seen = 0;
  std::thread([&] {  // affinity is a thread's own
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) != 0) return;
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++i)
      if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    if (sched_setaffinity(0, sizeof one, &one) == 0) seen = processors();
  })
      .join();
  CHECK(seen == 1);
  CHECK(processors() >= 1);
}
#endif

TEST_CASE("a limit on time is as many processors as it lets run at once, rounded up") {
  CHECK(processors_in("150000 100000") == 2);  // docker --cpus=1.5
  CHECK(processors_in("200000 100000") == 2);
  CHECK(processors_in("200001 100000") == 3);
  CHECK(processors_in("1 100000") == 1);
  CHECK(processors_in("9223372036854775807 1") == INT_MAX);
  for (const char* none : {"max 100000", "-1 100000", "", " ", "150000", "150000 0", "0 100000", "15e4 100000"})
    CHECK(processors_in(none) == INT_MAX);
}

TEST_CASE("limits on time are looked for in the group of the process and in those around it") {
  using Folders = std::vector<std::string>;
  CHECK(groups_with_limits("0::/system.slice/fovea.service") ==
        Folders{"/sys/fs/cgroup", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup/system.slice/fovea.service"});
  CHECK(groups_with_limits("4:cpu,cpuacct:/a b") == Folders{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu/a b"});
  CHECK(groups_with_limits("1:cpu:/a:b") == Folders{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu/a:b"});
  CHECK(groups_with_limits("0::/") == Folders{"/sys/fs/cgroup"});
  for (const char* other : {"9:name=systemd:/a", "3:cpuset:/a", "2:cpuacct:/a", "", "0", "0:"})
    CHECK(groups_with_limits(other).empty());
}

#if defined(__x86_64__)
TEST_CASE("denormals are flushed inside the scope, on every thread, and not outside") {
  const ThreadCount restored(3);
  const auto products = [](std::vector<float>& y) {
    volatile float small = 1e-30f;
    parallel_for(64, 1, [&](int64_t i, int64_t) { y[i] = small * 1e-10f; });
  };
  std::vector<float> y(64);
  {
    FlushDenormals scope;
    products(y);
    for (float v : y) CHECK(std::fpclassify(v) == FP_ZERO);
  }
  products(y);
  for (float v : y) CHECK(v > 0);
}
#endif
