// fovea parity: the same weights and images through torchvision's RetinaNet and through ours, number by number.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

#include "tools/command.h"
#include "tools/device.h"
#include "tools/parity_case.h"

namespace fovea {
namespace {

struct Row {
  std::string tensor;
  double error;                   // ours against the case, in the case's precision
  double f32 = 0, reference = 0;  // f32 here and the case against f64 here, where that ran
  double limit;
  bool ok() const { return error <= limit; }
};

// Everything must agree to kTolerance. Where f32 itself cannot hold that (batch norm over a dozen pixels in layer4
// multiplies rounding errors), our f32 is measured against our f64, and a tensor may be off by kRounding times its own
// error there.
constexpr double kTolerance = 1e-4, kRounding = 4, kLargest = 5e-3;
// A case in f64 hides nothing behind rounding: our f64 agrees with it far below this.
constexpr double kExact = 1e-9;

std::string error_text(double v) { return std::isfinite(v) ? scientific(v) : "differs"; }

// Both runs of a case; f64 gradients and f64 evaluation only where they are asked for.
struct Result {
  Result(const ParityCase& c, Device device)
      : device(device),
        step(c, DType::f32, device),
        exact(c, DType::f64, device),
        eval(evaluate(c, DType::f32, device)) {
    f32 = finish(c, step, exact);
    f32.values.insert(f32.values.end(), eval.values.begin(), eval.values.end());
    if (c.type() == DType::f64) run_f64(c);
  }
  void run_f64(const ParityCase& c) {
    f64 = finish(c, exact, step);
    const auto values = evaluate(c, DType::f64, device).values;
    f64.values.insert(f64.values.end(), values.begin(), values.end());
  }
  bool has_f64() const { return !f64.values.empty(); }
  Device device;
  ParityStep step, exact;
  ParityEval eval;
  ParityRun f32, f64;
};

const Tensor& find(const ParityRun& run, const std::string& name) {
  for (const auto& [n, t] : run.values)
    if (n == name) return t;
  fail(Code::failure, "parity: nothing computed for " + name);
}

std::vector<Row> compare(const ParityCase& c, const Result& result) {
  std::vector<Row> rows;
  const bool f64 = c.type() == DType::f64;
  for (const auto& [name, value] : result.f32.values) {
    const Tensor& expected = c.file.at("expect/" + name);
    Row row{name, difference(f64 ? find(result.f64, name) : value, expected), 0, 0, f64 ? kExact : kTolerance};
    if (f64) {
      row.f32 = difference(value, expected), row.reference = row.error;
    } else if (result.has_f64()) {
      const Tensor& exact = find(result.f64, name);
      row.f32 = difference(value, exact), row.reference = difference(expected, exact);
      row.limit = std::max(kTolerance, std::min(kRounding * row.f32, kLargest));
    }
    rows.push_back(row);
  }
  for (const auto& [name, value] : c.file.tensors)  // gradients that we do not have
    if (name.starts_with("expect/grad/")) find(result.f32, name.substr(7));
  for (size_t i = 0; i < result.eval.detections.size(); ++i)
    rows.push_back({text(i, "/detections"), detection_difference(c, i, result.eval), 0, 0, kTolerance});
  return rows;
}

void print_rows(const std::vector<Row>& rows, bool f64, bool all) {
  std::vector<std::string> heads = {"tensor", "max|difference| / max|reference|"};
  if (f64) heads.insert(heads.end(), {"our f32 against f64", "the case against f64"});
  heads.emplace_back("");
  Table table(heads);
  const Row* worst = nullptr;  // of the gradients
  int gradients = 0, bad = 0;
  for (const Row& row : rows) {
    const bool ok = row.ok(), gradient = row.tensor.starts_with("grad/");
    gradients += gradient, bad += gradient && !ok;
    if (gradient && (!worst || row.error > worst->error)) worst = &row;
    if (gradient && ok && !all) continue;
    std::vector<std::string> cells = {row.tensor, error_text(row.error)};
    if (f64) cells.insert(cells.end(), {error_text(row.f32), error_text(row.reference)});
    cells.push_back(!ok                       ? styled(Style::red, "DIFFERS")
                    : row.error <= kTolerance ? styled(Style::green, "ok")
                                              : styled(Style::yellow, "ok: f32 cannot do better"));
    table.row(cells);
  }
  std::printf("%s", table.str().c_str());
  if (worst)
    std::printf("%d gradients, %d of them differ; worst %s at %s\n", gradients, bad, error_text(worst->error).c_str(),
                worst->tensor.c_str());
}

void print_layers(const Result& r) {
  std::printf("\nErrors of f32 against f64, layer by layer (training mode)\n");
  Table table({"layer", "shape", "error"});
  for (size_t i = 0; i < r.step.layers.size(); ++i)
    table.row({r.step.layers[i].first, r.step.layers[i].second.shape().str(),
               error_text(difference(r.step.layers[i].second, r.exact.layers.at(i).second))});
  std::printf("%s", table.str().c_str());
}

bool all_ok(const std::vector<Row>& rows) {
  return std::all_of(rows.begin(), rows.end(), [](const Row& row) { return row.ok(); });
}

Json to_json(const ParityCase& c, const std::vector<Row>& rows, const Result& r, bool f64) {
  Json out = {{"case", c.path}, {"arch", c.arch}, {"tolerance", c.type() == DType::f64 ? kExact : kTolerance}};
  double worst = 0;
  for (const Row& row : rows) {
    worst = std::max(worst, row.error);
    Json t = {{"tensor", row.tensor}, {"difference", row.error}, {"limit", row.limit}, {"ok", row.ok()}};
    if (r.has_f64()) t["f32_error"] = row.f32, t["case_error"] = row.reference;
    out["tensors"].add(t);
  }
  for (size_t i = 0; f64 && i < r.step.layers.size(); ++i)
    out["layers"].add({{"layer", r.step.layers[i].first},
                       {"f32_error", difference(r.step.layers[i].second, r.exact.layers.at(i).second)}});
  out["near_kinks"] = r.f32.near, out["moved"] = r.f32.moved;
  out["worst"] = worst, out["ok"] = all_ok(rows);
  return out;
}

void parity(const std::string& path, Device device, bool f64, bool json, bool all) {
  const ParityCase c(path);
  check(Code::usage, device == Device::cpu || c.type() == DType::f64, "parity --device: ", path,
        " is a case in f32, where the sides of ReLU's kink are taken on the processor\n  hint: cases in f64 run on a "
        "GPU, with f32 beside them");
  Result result(c, device);
  auto rows = compare(c, result);
  const bool hopeless = std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.error > kLargest; });
  if (!result.has_f64() && (f64 || (!all_ok(rows) && !hopeless))) result.run_f64(c), rows = compare(c, result);
  const bool ok = all_ok(rows);
  if (json) {
    print_json(to_json(c, rows, result, f64));
  } else {
    std::printf("%s: %s, %d classes, images %s, %s\n", path.c_str(), c.arch.c_str(), c.options.classes,
                c.file.at("input/images").shape().str().c_str(), name_of(c.type()));
    print_rows(rows, result.has_f64(), all);
    std::printf("%lld activations are within rounding of ReLU's kink; %lld of them took the case's side\n",
                static_cast<long long>(result.f32.near), static_cast<long long>(result.f32.moved));
    if (f64) print_layers(result);
    std::printf("%s\n", ok ? "parity" : styled(Style::red, "NO parity").c_str());
  }
  if (!ok) throw Exit{1};
}

}  // namespace

void add_parity(Command& program) {
  Command command =
      program.command("parity", "Compares a training step and detections with torchvision's, number by number.",
                      "fovea parity case.safetensors\nfovea parity case.safetensors --f64");
  struct Flags {
    std::string path, device = "cpu";
    bool f64 = false, json = false, all = false;
  };
  auto flags = std::make_shared<Flags>();
  command
      .option("case", flags->path,
              "a .safetensors file of a step of torchvision's: tools/parity_case.h says what it holds")
      .required();
  command.option("--device", flags->device, kDeviceHelp).show_default();
  command.flag("--f64", flags->f64, "show f64 as the oracle of both, and the f32 error of each layer against it");
  command.flag("--all", flags->all, "show every gradient, not only those that differ");
  command.flag("--json", flags->json, "machine-readable result");
  command.run([flags] {
    const Device device = use_device(flags->device);
    try {
      parity(flags->path, device, flags->f64, flags->json, flags->all);
    } catch (const Error& error) {  // of a tensor that is missing or does not fit, which knows no file
      const std::string what = error.what();
      fail(error.code, what.find(flags->path) == what.npos ? flags->path + ": " + what : what);
    }
  });
}

}  // namespace fovea
