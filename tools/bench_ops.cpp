// fovea bench ops: every row of the op table in f32, on a sample large enough to show the memory's speed.
#include <cmath>
#include <memory>

#include "core/autograd.h"
#include "ops/op_cases.h"
#include "tools/bench.h"

namespace fovea {
namespace {

struct OpsFlags : BenchFlags {
  std::string op;
  double mb = 4;
};

struct Sample {
  OpSample drawn;
  std::vector<Tensor> x;  // f32 where the row draws f64
  Tensor y;
  double bytes() const {
    double sum = double(y.bytes());
    for (const Tensor& t : x) sum += t ? double(t.bytes()) : 0;
    return sum;
  }
};

Sample draw(const OpCase& row, uint64_t seed, int64_t scale) {
  Draw draw(seed, scale, 16);  // as channels of a network are
  Sample s{row.make(draw), {}, {}};
  for (const Tensor& t : s.drawn.inputs) s.x.push_back(t && t.dtype() == DType::f64 ? t.to(DType::f32) : t);
  const NoGrad off;
  s.y = s.drawn.run(s.x);
  return s;
}

// The largest of some draws (none of its inputs is broadcast), grown until inputs and result have so many bytes.
Sample draw_large(const OpCase& row, double bytes) {
  uint64_t best = 0;
  double most = -1;
  for (uint64_t seed = 1; seed <= 16; ++seed)
    if (const double size = draw(row, seed, 2).bytes(); size > most) best = seed, most = size;
  // Its time grows with the square of the boxes, and hides how the memory fares: some thousands are enough.
  const int64_t last = row.name == "soft_nms" ? 100 : int64_t{1} << 30;
  Sample s = draw(row, best, 2);
  for (int64_t scale = 2; s.bytes() < bytes && scale < last;) {
    const double factor = std::max(1.2, std::pow(bytes / s.bytes(), 0.2));
    scale = std::min(last, std::max(scale + 1, int64_t(double(scale) * factor)));
    s = draw(row, best, scale);
  }
  return s;
}

// Operations of the ops that multiply every element of one input with several of another: 2 per multiply-add.
double product_flops(const std::string& op, const Sample& s) {
  if (op.starts_with("conv"))
    return 2.0 * double(op == "conv_transpose2d" ? s.x[0].size() : s.y.size()) * double(s.x[1].size() / s.x[1].dim(3));
  if (op == "linear") return 2.0 * double(s.y.size()) * double(s.x[0].dim(-1));
  if (op != "matmul") return 0;
  const auto last = [](const Tensor& t) { return double(t.dim(-1) * t.dim(-2)); };
  return 2.0 * double(s.y.size()) * std::sqrt(last(s.x[0]) * last(s.x[1]) / last(s.y));  // (mk kn / mn)^1/2 = k
}

std::string shapes_of(const Sample& s) {
  std::string all;
  for (const Tensor& t : s.x)
    if (t) all += (all.empty() ? "" : " ") + t.shape().str();
  return all;
}

void add_row(Report& report, const Machine& machine, const std::string& op, const char* pass, const Sample& s,
             double bytes, double flops, const Times& times) {
  const double ms = times.median();
  Json row = {{"name", op + " " + pass}, {"inputs", shapes_of(s)}, {"ms_min", times.least()},
              {"ms_median", ms},         {"mb", bytes * 1e-6},     {"gb_per_s", bytes * 1e-6 / ms}};
  row["gflops"] = flops > 0 ? Json(flops * 1e-6 / ms) : Json();
  row["roofline"] = roofline(machine, bytes, flops, ms);
  report.add(std::move(row));
}

// Times of one call: a round is as many as take 4 ms, since a single one of a small op shows its memory's first touch.
template <class Step> Times measure_calls(const OpsFlags& o, Step&& step) {
  step();
  const auto start = Clock::now();
  step();
  const int calls = 1 + int(std::min(4 / std::max(ms_since(start), 1e-6), 1e4));
  Times times = measure(o, [&] {
    for (int i = 0; i < calls; ++i) step();
  });
  for (double& ms : times.ms) ms /= calls;
  return times;
}

// Forward: each input is read once, the result is written once (nothing, where it shares the input's memory). With
// backward: the result's gradient is read, too, and the gradient of each input written; products count three times.
// What an op reads again is its own fault.
void bench_op(Report& report, const Machine& machine, const OpCase& row, const OpsFlags& o) {
  Sample s = draw_large(row, o.mb * 1e6);
  const double flops = product_flops(row.name, s), moved = s.y.shares_storage(s.x[0]) ? 0 : s.bytes();
  {
    const NoGrad off;
    const Times times = measure_calls(o, [&] { s.y = s.drawn.run(s.x); });
    add_row(report, machine, row.name, "forward", s, moved, flops, times);
  }
  double gradients = double(s.y.bytes());
  for (Tensor& x : s.x)
    if (x && x.dtype() == DType::f32) x.set_requires_grad(), gradients += double(x.bytes());
  if (!s.drawn.run(s.x).requires_grad()) return;
  const Tensor dy = noise(s.y.shape(), 9);
  const Times times = measure_calls(o, [&] {
    for (const Tensor& x : s.x)
      if (x && x.requires_grad()) Tensor(x).set_grad({});
    backward(s.drawn.run(s.x), dy);
  });
  add_row(report, machine, row.name, "forward+backward", s, moved + gradients, 3 * flops, times);
}

void bench_ops(const OpsFlags& o) {
  std::vector<std::string> names;
  for (const OpCase& row : op_cases()) names.push_back(row.name);
  check(Code::usage, o.op.empty() || std::find(names.begin(), names.end(), o.op) != names.end(),
        "bench ops: there is no op '", o.op, "'", suggestion(o.op, names));
  Report report("ops", o);
  const Machine machine = measure_machine();
  report.use(machine);
  report.head["sample_mb"] = text(o.mb);
  Progress progress("timing", int64_t(names.size()));
  int64_t done = 0;
  for (const OpCase& row : op_cases()) {
    if (o.op.empty() || row.name == o.op) bench_op(report, machine, row, o);
    progress.update(++done, row.name);
  }
  progress.clear();
  report.print();
}

}  // namespace

void add_bench_ops(Command& bench) {
  Command ops = bench.command("ops",
                              "Times every op of the table in f32, forward and with its gradients, against what the "
                              "memory (or the multipliers) could do.",
                              "fovea bench ops --op relu\nfovea bench ops --mb 16 --json > kept.json\n"
                              "fovea bench ops --mb 16 --compare kept.json");
  auto o = std::make_shared<OpsFlags>();
  ops.option("--op", o->op, "only this op");
  ops.option("--mb", o->mb, "inputs and result together, at least").show_default().range(0.01, 1e4);
  add_bench_flags(ops, *o);
  ops.run([o] { bench_ops(*o); });
}

}  // namespace fovea
