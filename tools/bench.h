// What the parts of `fovea bench` share: flags, timing, the limits of the machine, and a report of rows that can be
// held against a kept one.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"
#include "data/json.h"
#include "tools/command.h"

namespace fovea {

struct BenchFlags {
  int rounds = 5, warmup = 3, threads = 0;
  bool json = false;
  std::string compare;
};
void add_bench_flags(Command& command, BenchFlags& flags, const std::string& threads_if_0 = "all");

struct Times {
  std::vector<double> ms;  // of each round
  double least() const { return *std::min_element(ms.begin(), ms.end()); }
  double median() const;
};
// step() for warm-up, then timed once a round. `ready` runs before the first timed round.
template <class Step, class Ready> Times measure(const BenchFlags& flags, Step&& step, Ready&& ready) {
  Times times;
  for (int i = -flags.warmup; i < flags.rounds; ++i) {
    if (i == 0) ready();
    const auto start = Clock::now();
    step();
    const double spent = ms_since(start);
    if (i >= 0) times.ms.push_back(spent);
  }
  return times;
}
template <class Step> Times measure(const BenchFlags& flags, Step&& step) {
  return measure(flags, step, [] {});
}

// The two limits of what all threads together can do, measured at start.
struct Machine {
  double copy_gb_per_s;  // bytes read and written by a copy that no cache holds
  double peak_gflops;    // of f32 products that the caches hold
};
Machine measure_machine();
// Attained / attainable: the time that these bytes or operations (the longer of the two) take at best, over the time
// that was taken. More than 1 where a cache holds the bytes, or an algorithm does with fewer operations.
double roofline(const Machine& machine, double bytes, double flops, double ms);

Json timed_row(const std::string& name, const Times& times);  // {"name", "ms_min", "ms_median"}

// Facts of the run (`head`) and a row for each thing timed; a row has "name" and "ms_median". Throws Code::data before
// anything is timed where the kept report cannot be used.
class Report {
 public:
  Report(const std::string& bench, const BenchFlags& flags);
  Json head;
  void use(const Machine& machine);
  void add(Json row);
  void print();  // one line of JSON, or a table

 private:
  void compare();
  const BenchFlags flags_;
  std::vector<Json> rows_;
  Json kept_;
};

Tensor noise(const Shape& shape, uint64_t seed);  // N(0,1): memory that is all zeros is timed wrongly

void add_bench_model(Command& bench);
void add_bench_ops(Command& bench);
void add_bench_conv(Command& bench);
void add_bench_ladder(Command& bench);
void add_bench_data(Command& bench);
void add_bench_parts(Command& bench);
void add_bench_eval(Command& bench);

}  // namespace fovea
