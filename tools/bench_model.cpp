// fovea bench model: times the work that a peer's script times too, so that figures can be put side by side.
#include <fstream>
#include <iostream>
#include <memory>

#include "core/atomic_file.h"
#include "core/autograd.h"
#include "core/profile.h"
#include "models/presets.h"
#include "models/summary.h"
#include "nn/checkpoint.h"
#include "nn/optim.h"
#include "ops/shape.h"
#include "tools/bench.h"
#include "tools/device.h"

namespace fovea {
namespace {

struct ModelFlags : BenchFlags {
  std::string arch = "resnet50", size = "512x512", mode = "infer", precision = "f32", device = "cpu", trace, check;
  int batch = 1, classes = 80;
  bool profile = false;
};

double resident_mb(const std::string& key) {  // VmRSS, VmHWM; 0 where /proc has none
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(key + ":", 0) == 0) return std::stod(line.substr(key.size() + 1)) / 1024;
  return 0;
}

// Eight random boxes an image, as the peer's script draws them.
std::vector<Target> random_targets(const ModelFlags& o, double h, double w) {
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
  explicit Work(const ModelFlags& o) : train_(o.mode == "train"), device_(use_device(o.device)) {
    RetinaNetOptions options = preset("tv_retinanet_r50").model;  // the peer's anchors, matcher and losses
    options.backbone = o.arch, options.classes = o.classes, options.freeze_stages = 0;
    options.backbone_norm = "batch", options.norm_eps = 1e-5;
    model_ = std::make_unique<RetinaNet>(options);
    model_->train(train_);
    model_->in_bf16 = o.precision == "bf16";
    if (model_->in_bf16 && !train_ && device_ == Device::cpu) model_->round_weights();
    model_->move_to(device_);
    const auto [h, w] = parse_size(o.size);
    targets_ = random_targets(o, double(h), double(w));
    images_ = noise({o.batch, h, w, 3}, 2).to(device_);
    if (train_) sgd_ = std::make_unique<SGD>(decay_groups(*model_, 1e-4, 1e-4));
  }
  void step() {
    if (!train_) {
      const NoGrad off;
      (*model_)(images_);
      return wait();
    }
    sgd_->zero_grad();
    backward(model_->loss((*model_)(images_), targets_).total());
    sgd_->step(1e-4);
    wait();
  }
  double flops() {  // a training step: the forward pass, and two gradients of each product
    const NoGrad off;
    int64_t count = 0;
    const CallObserver observer([&](const Module& m, const std::vector<Tensor>& y) { count += multiply_adds(m, y); });
    (*model_)(images_);
    return 2.0 * double(count) * (train_ ? 3 : 1);
  }
  // Weights, batch and what they give, under torchvision's names and in its layouts.
  void write(const std::string& path) {
    const NoGrad off;
    NamedTensors file = weights_of(*model_);
    for (auto& [name, tensor] : file.tensors)  // as before the call; numpy has no bf16
      name = "model/" + name, tensor = tensor.dtype() == DType::bf16 ? tensor.to(DType::f32) : tensor.clone();
    const auto out = (*model_)(images_);
    file.add("images", permute(images_, {0, 3, 1, 2}));
    file.add("cls_logits", concat(out.logits, 1)), file.add("bbox_regression", concat(out.deltas, 1));
    if (train_) {
      const auto losses = model_->loss(out, targets_);
      file.add("loss/classification", losses.classification), file.add("loss/bbox_regression", losses.box);
      for (size_t i = 0; i < targets_.size(); ++i) {
        std::vector<float> boxes;
        for (const auto& b : targets_[i].boxes) boxes.insert(boxes.end(), {b.x1, b.y1, b.x2, b.y2});
        const auto n = int64_t(targets_[i].boxes.size());
        file.add(text(i, "/boxes"), Tensor::from({n, 4}, boxes));
        file.add(text(i, "/labels"), Tensor::from({n}, targets_[i].labels));
      }
    }
    write_safetensors(path, file);
  }

  Device device() const { return device_; }

 private:
  void wait() {
    if (device_ != Device::cpu) runtime().synchronize(Runtime::Stream::compute);
  }
  bool train_;
  Device device_;
  std::unique_ptr<RetinaNet> model_;
  std::unique_ptr<SGD> sgd_;
  std::vector<Target> targets_;
  Tensor images_;
};

void bench_model(const ModelFlags& o) {
  check_new_file("--check", o.check), check_new_file("--trace", o.trace);
  Report report("model", o);
  report.head["arch"] = o.arch, report.head["size"] = o.size, report.head["batch"] = o.batch;
  report.head["device"] = o.device, report.head["mode"] = o.mode, report.head["precision"] = o.precision;
  report.head["classes"] = o.classes, report.head["algo"] = name_of(conv_algo());
  use_precision(o.precision, use_device(o.device));
  Work work(o);
  std::ofstream("/proc/self/clear_refs") << "5";  // the high-water mark starts anew: what the work itself adds
  const double start_mb = resident_mb("VmRSS");
  if (work.device() != Device::cpu) reset_peak(work.device());
  const Times times = measure(
      o, [&] { work.step(); },
      [&] {
        if (o.profile || !o.trace.empty()) Profiler::start();
      });
  Profiler::stop();
  const double median = times.median(), peak = work.device() == Device::cpu
                                                   ? resident_mb("VmHWM") - start_mb
                                                   : double(memory_stats(work.device()).peak) / (1 << 20);
  report.add({{"name", text(o.arch, " ", o.size, " batch ", o.batch, " ", o.mode)},
              {"peak_mb", peak},
              {"ms_min", times.least()},
              {"ms_median", median},
              {"images_per_s", 1e3 * o.batch / median},
              {"gflops", work.flops() * 1e-6 / median},
              {"ms", times.ms}});
  if (!o.check.empty()) work.write(o.check);
  report.print();
  if (o.profile) std::cerr << Profiler::table(40) << "\n" << Profiler::module_table();
  if (!o.trace.empty()) write_file_atomically(o.trace, Profiler::chrome_trace(), false);
}

}  // namespace

void add_bench_model(Command& bench) {
  Command model = bench.command("model",
                                "Times RetinaNet on random images: backbone, pyramid and heads (infer), or those with "
                                "losses, gradients and SGD (train).",
                                "fovea bench model --arch resnet50 --size 512x512 --mode train --profile\n"
                                "fovea bench model --arch resnet18 --size 320x320 --batch 4 --mode train --json");
  auto o = std::make_shared<ModelFlags>();
  model.option("--arch", o->arch, "tiny, resnet18, resnet34, resnet50, resnet101 or resnext101_32x8d").show_default();
  model.option("--size", o->size, "height x width").show_default();
  model.option("--batch", o->batch, "images").show_default().range(1, 1e9);
  model.option("--classes", o->classes, "classes").show_default().range(1, 1e6);
  model.option("--device", o->device, kDeviceHelp).show_default();
  model.option("--mode", o->mode, "infer or train").show_default().one_of({"infer", "train"});
  model.option("--precision", o->precision, kPrecisionHelp).show_default().one_of({"f32", "tf32", "bf16"});
  add_bench_flags(model, *o);
  model.option("--check", o->check, "write weights, images and outputs there, to hold against another program")
      .type("FILE");
  model.option("--trace", o->trace, "write a trace for chrome://tracing to this file").type("FILE");
  model.flag("--profile", o->profile, "print the time of each op, and of each part of the network, to stderr");
  model.run([o] { bench_model(*o); });
}

}  // namespace fovea
