// fovea bench: times the work that a peer's script times too, so that figures can be put side by side.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/autograd.h"
#include "core/gemm.h"
#include "core/isa.h"
#include "core/profile.h"
#include "core/random.h"
#include "core/threads.h"
#include "models/retinanet.h"
#include "nn/optim.h"
#include "tools/command.h"

namespace fovea {
namespace {

struct BenchOptions {
  std::string arch = "resnet50", size = "512x512", mode = "infer", trace;
  int batch = 1, classes = 80, threads = 0, rounds = 5, warmup = 3;
  bool json = false, profile = false;
};

double resident_mb(const std::string& key) {  // VmRSS, VmHWM; 0 where /proc has none
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(key + ":", 0) == 0) return std::stod(line.substr(key.size() + 1)) / 1024;
  return 0;
}

std::pair<int, int> parse_size(const std::string& size) {
  const size_t x = size.find('x');
  const int h = std::atoi(size.c_str()), w = x == std::string::npos ? h : std::atoi(size.c_str() + x + 1);
  check(Code::usage, h > 0 && w > 0, "--size ", size, ": expected HEIGHTxWIDTH, as in 512x512");
  return {h, w};
}

// Eight random boxes an image, as ../shared's torch_retinanet.py draws them.
std::vector<Target> random_targets(const BenchOptions& o, int h, int w) {
  Dice dice(1);
  std::vector<Target> targets(size_t(o.batch));
  for (Target& t : targets)
    for (int i = 0; i < 8; ++i) {
      const float x = float(dice.uniform(0, w * 0.6)), y = float(dice.uniform(0, h * 0.6));
      t.boxes.push_back({x, y, x + 16 + float(dice.uniform(0, w * 0.3)), y + 16 + float(dice.uniform(0, h * 0.3))});
      t.labels.push_back(dice.integer(0, o.classes - 1));
    }
  return targets;
}

// Network, batch and optimiser; step() is what is timed: the forward pass, or a whole training step.
class Work {
 public:
  explicit Work(const BenchOptions& o) : train_(o.mode == "train") {
    RetinaNetOptions options;
    options.backbone = o.arch, options.classes = o.classes, options.backbone_norm = "batch", options.freeze_stages = 0;
    options.p6_from = "p5";
    model_ = std::make_unique<RetinaNet>(options);
    model_->train(train_);
    const auto [h, w] = parse_size(o.size);
    targets_ = random_targets(o, h, w);
    images_ = Tensor({o.batch, h, w, 3});
    Dice dice(2);
    for (int64_t i = 0; i < images_.size(); ++i) images_.data<float>()[i] = float(dice.normal());
    if (train_) sgd_ = std::make_unique<SGD>(decay_groups(*model_, 1e-4, 1e-4));
  }
  void step() {
    if (!train_) {
      const NoGrad off;
      (*model_)(images_);
      return;
    }
    Tensor loss = model_->loss((*model_)(images_), targets_).total();
    sgd_->zero_grad();
    backward(loss);
    sgd_->step(1e-4);
  }

 private:
  bool train_;
  std::unique_ptr<RetinaNet> model_;
  std::unique_ptr<SGD> sgd_;
  std::vector<Target> targets_;
  Tensor images_;
};

void bench_model(const BenchOptions& o) {
  check(Code::usage, o.rounds > 0, "--rounds must be positive");
  if (o.threads > 0) set_num_threads(o.threads);
  Work work(o);
  std::ofstream("/proc/self/clear_refs") << "5";  // the high-water mark starts anew: what the work itself adds
  const double start_mb = resident_mb("VmRSS");
  std::vector<double> ms;
  for (int i = -o.warmup; i < o.rounds; ++i) {
    if (i == 0 && (o.profile || !o.trace.empty())) Profiler::start();
    const auto t = std::chrono::steady_clock::now();
    work.step();
    if (i >= 0) ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - t).count());
  }
  Profiler::stop();
  std::vector<double> sorted = ms;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted[sorted.size() / 2], peak = resident_mb("VmHWM") - start_mb;
  if (o.json) {
    nlohmann::ordered_json j{{"arch", o.arch},
                             {"size", o.size},
                             {"batch", o.batch},
                             {"mode", o.mode},
                             {"threads", num_threads()},
                             {"isa", name_of(isa())},
                             {"blas", blas_name()},
                             {"peak_mb", peak},
                             {"ms_min", sorted[0]},
                             {"ms_median", median},
                             {"images_per_s", 1e3 * o.batch / median},
                             {"ms", ms}};
    std::cout << j.dump() << "\n";
  } else {
    std::cout << o.arch << " " << o.size << " batch " << o.batch << " " << o.mode << ", " << num_threads()
              << " threads, " << name_of(isa()) << ": min " << number(sorted[0], 1) << " ms, median "
              << number(median, 1) << " ms, " << number(1e3 * o.batch / median, 2) << " images/s, peak "
              << number(peak, 0) << " MB\n";
  }
  if (o.profile) std::cerr << Profiler::table(40);
  if (!o.trace.empty()) std::ofstream(o.trace) << Profiler::chrome_trace();
}

}  // namespace

void add_bench(Command& program) {
  Command bench = program.command("bench", "Measures speed and memory.",
                                  "fovea bench model --arch resnet50 --size 512x512 --mode infer --threads 2\n"
                                  "fovea bench model --arch resnet18 --size 320x320 --batch 4 --mode train --json");
  bench.needs_command();
  Command model = bench.command("model",
                                "Times RetinaNet on random images: backbone, pyramid and heads (infer), or those with "
                                "losses, gradients and SGD (train).",
                                "fovea bench model --arch resnet50 --size 512x512 --mode train --profile");
  auto o = std::make_shared<BenchOptions>();
  model.option("--arch", o->arch, "backbone").show_default();
  model.option("--size", o->size, "height x width").show_default();
  model.option("--batch", o->batch, "images").show_default().range(1, 1e9);
  model.option("--classes", o->classes, "classes").show_default();
  model.option("--mode", o->mode, "infer or train").show_default().one_of({"infer", "train"});
  model.option("--threads", o->threads, "threads; 0: all").show_default();
  model.option("--rounds", o->rounds, "measured rounds").show_default();
  model.option("--warmup", o->warmup, "rounds before them").show_default();
  model.option("--trace", o->trace, "write a trace for chrome://tracing to this file");
  model.flag("--profile", o->profile, "print the time of each op to stderr");
  model.flag("--json", o->json, "one line of JSON");
  model.run([o] { bench_model(*o); });
}

}  // namespace fovea
