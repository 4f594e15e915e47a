// fovea gradcheck: every op of the table against differences in f64, a line each.
#include "ops/gradcheck.h"

#include <cstdio>

#include "ops/op_cases.h"
#include "tools/command.h"
#include "tools/device.h"

namespace fovea {

namespace {

struct Options {
  std::string op, device = "cpu";
  int shapes = 24;
  uint64_t seed = 1;
  bool json = false;
};

std::vector<OpCase> chosen(const std::string& op) {
  if (op.empty()) return op_cases();
  std::vector<std::string> names;
  for (auto& row : op_cases()) {
    if (row.name == op) return {row};
    names.push_back(row.name);
  }
  fail(Code::usage, "gradcheck: there is no op '" + op + "'" + suggestion(op, names));
}

std::string verdict(const CheckResult& r) { return r.ok() && !r.differentiable ? "values" : scientific(r.worst); }

void run(const Options& o) {
  constexpr double kTolerance = 1e-6;
  Json list = Json::list();
  int failed = 0, gradients = 0;
  double worst = 0;
  const Device device = use_device(o.device);
  for (auto& row : chosen(o.op)) {
    const CheckResult r = gradcheck(row, o.shapes, o.seed, device);
    failed += !r.ok(kTolerance), gradients += r.differentiable, worst = std::max(worst, r.worst);
    list.add({{"op", r.op}, {"shapes", r.shapes}, {"gradient", r.differentiable}, {"worst", r.worst}});
    list.items.back()["ok"] = r.ok(kTolerance);
    if (!r.ok(kTolerance)) list.items.back()["where"] = r.where;
    if (o.json) continue;
    const std::string mark = r.ok(kTolerance) ? styled(Style::green, "ok") : styled(Style::red, "FAILED");
    std::printf("%-22s %3d shapes   %8s   %s\n", r.op.c_str(), r.shapes, verdict(r).c_str(), mark.c_str());
    if (!r.ok(kTolerance)) std::printf("  %s\n", r.where.c_str());
    std::fflush(stdout);
  }
  if (o.json) print_json({{"tolerance", kTolerance}, {"failed", failed}, {"worst", worst}, {"ops", list}});
  else
    std::printf("%s, %d with a gradient; worst relative error %.1e (tolerance %.0e); %d failed\n",
                counted(int64_t(list.items.size()), "op").c_str(), gradients, worst, kTolerance, failed);
  if (failed) throw Exit{1};
}

}  // namespace

void add_gradcheck(Command& program) {
  Command app = program.command("gradcheck", "Checks the gradient of every op against differences, in f64.",
                                "fovea gradcheck\nfovea gradcheck --op conv2d --shapes 100\nfovea gradcheck --json");
  auto o = std::make_shared<Options>();
  app.option("--op", o->op, "only this op");
  app.option("--shapes", o->shapes, "random samples an op").range(1, 100000).show_default();
  app.option("--seed", o->seed, "of the samples").show_default();
  app.option("--device", o->device, "cuda: the same there, with equal bits each time").show_default();
  app.flag("--json", o->json, "machine-readable result");
  app.run([o] { run(*o); });
}

}  // namespace fovea
