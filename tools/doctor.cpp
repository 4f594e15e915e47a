// fovea doctor: what this machine has, what the program uses of it, and whether it computes correctly here.
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <iostream>

#include "core/autograd.h"
#include "core/gemm.h"
#include "core/isa.h"
#include "core/threads.h"
#include "data/shapes.h"
#include "ops/conv.h"
#include "ops/gradcheck.h"
#include "ops/op_cases.h"
#include "tools/bench.h"
#include "tools/command.h"
#include "tools/device.h"
#include "tools/run_dir.h"
#include "tools/trainer.h"

namespace fovea {
namespace {

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string gpu() {
  std::string why;
  if (has_device(&why)) return describe(Device::cuda);
  return why.substr(0, why.find('\n'));
}

// What a test found; `figure` says how well, or what was wrong.
struct Outcome {
  bool ok;
  std::string figure;
};

// Best of as many runs as fit into `budget` seconds.
double best_time(double budget, const std::function<void()>& work) {
  double best = 1e30;
  const auto start = Clock::now();
  work();
  do {
    const auto begin = Clock::now();
    work();
    best = std::min(best, seconds_since(begin));
  } while (seconds_since(start) < budget);
  return best;
}

Outcome test_products() {
  const int64_t n = 512;
  const Tensor a = noise({n, n}, 1), b = noise({n, n}, 2);
  Tensor c({n, n});
  const double time = best_time(0.5, [&] {
    const GemmFactor<float> x{a.data<float>(), n}, y{b.data<float>(), n};
    gemm(Device::cpu, Gemm<float>{.m = n, .n = n, .k = n, .a = x, .b = y, .c = c.data<float>(), .ldc = n});
  });
  double expected = 0;
  for (int64_t k = 0; k < n; ++k) expected += double(a.data<float>()[7 * n + k]) * b.data<float>()[k * n + 11];
  const bool ok = std::abs(c.data<float>()[7 * n + 11] - expected) < 1e-3;
  return {ok, number(2e-9 * double(n) * n * n / time, 0) + " GFLOP/s"};
}

Outcome test_convolution() {
  const Tensor x = noise({1, 64, 64, 128}, 3), w = noise({3, 3, 128, 128}, 4);
  Tensor y;
  const double time = best_time(0.7, [&] { y = conv2d(x, w, {}, {.pad = 1}); });
  double expected = 0;
  for (int64_t i = 0; i < 3; ++i)
    for (int64_t j = 0; j < 3; ++j)
      for (int64_t c = 0; c < 128; ++c)
        expected += double(x.at(((9 + i) * 64 + 19 + j) * 128 + c)) * w.at(((i * 3 + j) * 128 + c) * 128 + 5);
  const bool ok = std::abs(y.at((10 * 64 + 20) * 128 + 5) - expected) < 1e-2;
  return {ok, number(2e-9 * 64 * 64 * 128 * 128 * 9 / time, 0) + " GFLOP/s"};
}

Outcome test_gradients() {
  double worst = 0;
  int ops = 0;
  for (auto& row : op_cases()) {
    const auto result = gradcheck(row, 4);
    worst = std::max(worst, result.worst), ++ops;
    if (!result.ok()) return {false, result.op + ": relative error " + text(result.worst) + " " + result.where};
  }
  return {true, text(ops, " ops, worst relative error ", number(worst * 1e9, 1), "e-9")};
}

// A few steps of the toy network on made pictures: the losses, which must fall and not depend on the threads.
std::vector<double> few_steps(int threads, double* time) {
  const ThreadCount scope(threads);
  ConfigSources sources;
  sources.flags = {{"preset", "toy"},
                   {"train.warmup", "0"},
                   {"train.lr", "0.001"},
                   {"data.short_side", "128"},
                   {"data.max_side", "128"}};
  sources.environment = false;
  const Config config = load_config(sources);
  const auto samples = [] {
    std::vector<Sample> s;
    for (uint64_t i = 0; i < 4; ++i) s.push_back(make_scene({.size = 128, .classes = 4, .empty = 0}, 0, i));
    return s;
  }();
  Batch batch;
  for (auto& sample : samples) {
    Batch one = make_batch(sample.image, loader_options(config, false));
    one.items[0].boxes.clear();
    for (auto& box : sample.boxes) one.items[0].boxes.push_back(one.items[0].transform(box));
    one.items[0].labels = sample.labels;
    const Shape& shape = one.images.shape();
    if (!batch.images) batch.images = Tensor::zeros(Shape{4, 128, 128, 3});
    for (int64_t y = 0; y < std::min<int64_t>(128, shape[1]); ++y)
      std::copy_n(one.images.data<float>() + y * shape[2] * 3, std::min<int64_t>(128, shape[2]) * 3,
                  batch.images.data<float>() + ((static_cast<int64_t>(batch.items.size()) * 128 + y) * 128) * 3);
    batch.items.push_back(one.items[0]);
  }
  RetinaNet model(config.model);
  Trainer trainer(config, model, 1000);
  std::vector<double> losses;
  const auto start = Clock::now();
  for (int64_t step = 0; step < 12; ++step) losses.push_back(trainer.step(batch, step).loss());
  if (time) *time = seconds_since(start) / 12;
  return losses;
}

Outcome test_training() {
  double time = 0;
  const auto losses = few_steps(num_threads(), &time);
  return {losses.back() < 0.9 * losses.front(), text("loss ", number(losses.front()), " to ", number(losses.back()),
                                                     ", ", number(time * 1000, 0), " ms a step of 4 pictures")};
}

Outcome test_threads() {
  return {few_steps(1, nullptr) == few_steps(3, nullptr), "1 and 3 threads, the same losses to the bit"};
}

Outcome test_pictures() {
  const Image scene = make_scene({.size = 96}, 0, 1).image;
  const bool png = decode_image(encode_png(scene), "self test") == scene;
  const Image jpeg = decode_image(encode_jpeg(scene, 95), "self test");
  double error = 0;
  for (size_t i = 0; i < scene.rgb.size(); ++i) error += std::abs(int(scene.rgb[i]) - int(jpeg.rgb[i]));
  error /= static_cast<double>(scene.rgb.size());
  return {png && error < 8, text("PNG exact, JPEG mean error ", number(error, 1), " of 255")};
}

void doctor(bool json, int threads) {
  if (threads > 0) set_num_threads(threads);
  Json machine = environment_json();
  machine["gpu"] = gpu();
  machine["memory_gb"] = std::round(double(sysconf(_SC_PHYS_PAGES)) * double(sysconf(_SC_PAGESIZE)) / 1e8) / 10;
  if (!json) {
    Table table({"machine", ""});
    for (auto& [name, value] : machine.members)
      table.row({name, value.is(Json::Kind::text) ? value.string : json_text(value)});
    std::cout << table.str() << "\n" << styled(Style::bold, "self test") << "\n" << std::flush;
  }
  const std::vector<std::pair<const char*, Outcome (*)()>> tests = {
      {"matrix products", test_products}, {"convolution", test_convolution}, {"gradients", test_gradients},
      {"pictures", test_pictures},        {"training", test_training},       {"threads", test_threads}};
  bool all = true;
  Json results = Json::list();
  for (auto& [name, run] : tests) {
    const auto start = Clock::now();
    const Outcome outcome = run();
    all = all && outcome.ok;
    results.add({{"test", name}, {"ok", outcome.ok}, {"figure", outcome.figure}, {"seconds", seconds_since(start)}});
    if (!json)
      std::cout << (outcome.ok ? styled(Style::green, "ok    ") : styled(Style::red, "FAILED")) << "  " << name
                << std::string(18 - std::string(name).size(), ' ') << outcome.figure << "\n"
                << std::flush;
  }
  if (json) print_json({{"machine", machine}, {"tests", results}, {"ok", all}});
  else std::cout << (all ? "\nall is well\n" : "\nthis program must not be trusted on this machine\n");
  if (!all) throw Exit{1};
}

}  // namespace

void add_doctor(Command& program) {
  Command app =
      program.command("doctor", "Shows what this machine has and what of it is used, and tests itself in seconds.",
                      "fovea doctor\nfovea doctor --json\nFOVEA_ISA=fallback fovea doctor   # without vector kernels");
  auto json = std::make_shared<bool>(false);
  auto threads = std::make_shared<int>(0);
  app.flag("--json", *json, "print it as JSON");
  app.option("--threads", *threads, "of the computation; 0: all processors").type("N").range(0, 256);
  app.run([json, threads] { doctor(*json, *threads); });
}

}  // namespace fovea
