// fovea bench ladder: one convolution, from its definition to the fastest kernel, and what each step brings.
#include <cstdio>
#include <memory>

#include "core/autograd.h"
#include "core/threads.h"
#include "ops/conv.h"
#include "ops/cuda/ladder.h"
#include "tools/bench.h"
#include "tools/device.h"

namespace fovea {
namespace {

struct LadderFlags : BenchFlags {
  std::string shape = "40x40x128->128", device = "cpu";
};

void bench_ladder(LadderFlags o) {
  long long h = 0, w = 0, c = 0, k = 0;
  int end = 0;
  const int n = std::sscanf(o.shape.c_str(), "%lldx%lldx%lld->%lld%n", &h, &w, &c, &k, &end);
  check(Code::usage,
        n == 4 && size_t(end) == o.shape.size() && std::min({h, w, c}) > 0 && k > 0 && k % cpu::kLadderWidth == 0,
        "--shape ", o.shape, ": expected HxWxC->K, K a multiple of ", cpu::kLadderWidth, ", as in '40x40x128->128'");
  if (o.threads == 0) o.threads = 1;
  const Device device = use_device(o.device);
  const bool gpu = device == Device::cuda;
  Report report("ladder", o);
  report.head["shape"] = o.shape, report.head["device"] = describe(device);
  Machine machine{};
  if (!gpu) report.use(machine = measure_machine());
  const NoGrad off;
  const Tensor x = noise({1, h, w, c}, 1).to(DType::bf16).to(DType::f32);  // numbers that all types hold
  const Tensor weight = noise({3, 3, c, k}, 2).to(DType::bf16).to(DType::f32);
  const Tensor exact = conv2d(x.to(DType::f64), weight.to(DType::f64), {}, {.pad = 1});
  double largest = 0;
  for (const double v : exact.values<double>()) largest = std::max(largest, std::abs(v));
  const double flops = 2.0 * 9 * double(h * w) * double(c * k);
  const Tensor weights = weight.to(device);
  for (const cpu::Rung& rung : gpu ? cuda::ladder() : cpu::ladder()) {
    const Tensor images = x.to(rung.images).to(device);
    Tensor y;
    const Times times = measure(o, [&] {
      y = rung.run(images, weights);
      if (gpu) runtime().synchronize(Runtime::Stream::compute);
    });
    y = y.to(Device::cpu);
    double error = 0;
    for (int64_t i = 0; i < y.size(); ++i) error = std::max(error, std::abs(y.at(i) - exact.at(i)) / largest);
    check(error <= rung.tolerance, "bench ladder: rung ", rung.name, " is off by ", error);
    const double gflops = flops * 1e-6 / times.median();
    Json row = timed_row(rung.name, times);
    row["gflops"] = gflops;
    if (!gpu) row["of_peak"] = gflops / machine.peak_gflops;
    row["error"] = error, row["why"] = rung.why;
    report.add(row);
  }
  report.print();
}

}  // namespace

void add_bench_ladder(Command& bench) {
  Command ladder =
      bench.command("ladder",
                    "One 3x3 convolution from its definition to the fastest kernel: what each step brings. "
                    "GFLOP/s count the multiply-adds of the definition; the peak is that of f32.",
                    "fovea bench ladder\nfovea bench ladder --device cuda --rounds 20\nfovea bench ladder --shape "
                    "'20x20x256->256' --rounds 1 --warmup 0");
  auto o = std::make_shared<LadderFlags>();
  ladder.option("--shape", o->shape, "HxWxC->K: image, and channels of the result").type("SHAPE").show_default();
  ladder.option("--device", o->device, kDeviceHelp).show_default();
  add_bench_flags(ladder, *o, "one");
  ladder.run([o] { bench_ladder(*o); });
}

}  // namespace fovea
