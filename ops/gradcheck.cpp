// The table's check: analytic gradients against differences of fourth order, and one run against another.
#include "ops/gradcheck.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>

#include "core/autograd.h"
#include "core/gemm.h"
#include "core/loops.h"
#include "core/words.h"

namespace fovea {

namespace {

constexpr double kBad = std::numeric_limits<double>::infinity();
constexpr int64_t kLarge = 6;               // scale of the samples that several threads share
constexpr int64_t kWide = 3, kVectors = 8;  // of those whose sizes are multiples of what a lane of a device takes

using Tensors = std::vector<Tensor>;

// Value and gradients of one run, on the processor. The loss is sum(weight * y), so dL/dy = weight.
struct Run {
  Tensor y;
  Tensors grads;  // by input; undefined where there is none
};

Run run(const OpSample& sample, DType type, Tensor& weight, Draw& draw, Device device = Device::cpu) {
  Run r;
  Tensors x;
  for (auto& input : sample.inputs) {
    x.push_back(input && input.dtype() == DType::f64 ? input.to(type) : input);
    if (x.back()) x.back() = x.back().to(device).detach();
    if (x.back() && x.back().dtype() == type) x.back().set_requires_grad();
  }
  r.y = sample.run(x);
  r.grads.resize(x.size());
  if (r.y.requires_grad()) {
    if (!weight) weight = draw.normal(r.y.shape());
    backward(r.y, weight.to(r.y.dtype()).to(device));
    for (size_t i = 0; i < x.size(); ++i)
      if (x[i] && x[i].requires_grad() && x[i].grad()) r.grads[i] = x[i].grad().to(Device::cpu);
  }
  r.y = r.y.detach().to(Device::cpu);
  return r;
}

// Largest |a - b|, relative to the largest |a|; infinite where shapes, integers or finiteness differ.
double distance(const Tensor& a, const Tensor& b) {
  if (bool(a) != bool(b)) return kBad;
  if (!a) return 0;
  if (a.shape() != b.shape()) return kBad;
  double difference = 0, size = 1e-3;
  for (int64_t i = 0; i < a.size(); ++i) {
    const double u = a.at(i), v = b.at(i);
    if (!std::isfinite(u) || !std::isfinite(v)) return kBad;
    difference = std::max(difference, std::abs(u - v)), size = std::max(size, std::abs(u));
  }
  if (!is_float(a.dtype()) && difference > 0) return kBad;
  return difference / size;
}
double distance(const Run& a, const Run& b) {
  double d = distance(a.y, b.y);
  for (size_t i = 0; i < a.grads.size(); ++i) d = std::max(d, distance(a.grads[i], b.grads[i]));
  return d;
}
bool same_bits(const Tensor& a, const Tensor& b) {
  return bool(a) == bool(b) && (!a || (a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0));
}
bool same_bits(const Run& a, const Run& b) {
  bool same = same_bits(a.y, b.y);
  for (size_t i = 0; i < a.grads.size(); ++i) same = same && same_bits(a.grads[i], b.grads[i]);
  return same;
}

std::string shapes_of(const OpSample& sample) {
  std::string s;
  for (auto& x : sample.inputs) {
    if (!s.empty()) s += ' ';
    s += x ? x.shape().str() : "none";
  }
  return s;
}

class Check {
 public:
  Check(const OpCase& row, uint64_t seed, Device device) : row_(row), seed_(seed), device_(device) {
    result_.op = row.name;
  }

  void sample(int k) {
    Draw draw(seed_ * 1000003 + static_cast<uint64_t>(k));
    const OpSample sample = row_.make(draw);
    at_ = text("sample ", k, ": ", shapes_of(sample));
    Tensor weight;
    const Run base = run(sample, DType::f64, weight, draw);
    require(bool(base.y), "the result is undefined");
    require(distance(base.y, base.y) == 0, "the result is not finite");
    const bool taped = std::any_of(base.grads.begin(), base.grads.end(), [](auto& g) { return bool(g); });
    for (size_t i = 0; i < sample.inputs.size(); ++i)
      require(!taped || base.grads[i] || !sample.inputs[i] || sample.inputs[i].dtype() != DType::f64,
              text("input ", i, " gets no gradient"));
    for (size_t i = 0; i < sample.inputs.size(); ++i)
      if (base.grads[i]) result_.differentiable = true, differences(sample, i, base.grads[i], weight);
    rehearsal() = true;
    const Run played = run(sample, DType::f64, weight, draw);
    rehearsal() = false;
    require(distance(base, played) < 1e-9, "the rehearsal of CUDA blocks gives another result");
    single(sample, weight, draw);
    if (device_ != Device::cpu) on_device(sample, base, weight, draw);
    result_.shapes++;
  }

  // Sizes that several numbers a lane divide, which small samples seldom have.
  void vectors() {
    Draw draw(seed_, kWide, kVectors);
    const OpSample sample = row_.make(draw);
    at_ = "wide sample: " + shapes_of(sample);
    Tensor weight;
    on_device(sample, run(sample, DType::f64, weight, draw), weight, draw);
    single(sample, weight, draw);
  }

  // Equal bits on 1, 2 and 3 threads, on a sample that is large enough for several chunks.
  void threads() {
    Draw draw(seed_, kLarge);
    const OpSample sample = row_.make(draw);
    at_ = "large sample: " + shapes_of(sample);
    Tensor weight;
    set_num_threads(1);
    const Run base = run(sample, DType::f64, weight, draw);
    for (int n : {2, 3}) {
      set_num_threads(n);
      require(same_bits(base, run(sample, DType::f64, weight, draw)), text(n, " threads give other bits than 1"));
    }
  }

  CheckResult result_;
  std::string at_;

 private:
  void note(double error, const std::string& what) {
    if (!(error <= result_.worst)) result_.worst = error == error ? error : kBad, result_.where = at_ + ", " + what;
  }
  void require(bool ok, const std::string& what) {
    if (!ok) note(kBad, what);
  }

  void on_device(const OpSample& sample, const Run& base, Tensor& weight, Draw& draw) {
    const Run first = run(sample, DType::f64, weight, draw, device_);
    require(distance(base, first) < 1e-9, "the device gives another result");
    require(same_bits(first, run(sample, DType::f64, weight, draw, device_)), "the device gives other bits each time");
  }

  // f32 against f64 on inputs that both hold exactly. Integer results may flip where rounding decides: not compared.
  void single(const OpSample& sample, Tensor& weight, Draw& draw) {
    OpSample exact = sample;
    for (auto& x : exact.inputs)
      if (x && x.dtype() == DType::f64) x = x.to(DType::f32).to(DType::f64);
    const Run wide = run(exact, DType::f64, weight, draw), narrow = run(exact, DType::f32, weight, draw);
    if (!is_float(wide.y.dtype())) return;
    require(narrow.y.dtype() != DType::f64 || wide.y.dtype() != DType::f64 || !has_float(sample),
            "f32 inputs give an f64 result");
    const double d = distance(wide, narrow);
    require(d < 1e-3, text("f32 differs from f64 by ", d));
    if (device_ == Device::cpu || !runtime().handle(Runtime::Stream::compute)) return;  // played loops are of f64
    const double there = distance(wide, run(exact, DType::f32, weight, draw, device_));
    require(there < std::max(4 * d, 1e-6), text("f32 on the device differs from f64 by ", there, ", here by ", d));
    rounded(exact, wide, weight, draw);
  }
  // Products and convolutions whose factors a GPU rounds. A value near 0 may then pass a relu the other way.
  void rounded(const OpSample& exact, const Run& wide, Tensor& weight, Draw& draw) {
    for (const auto& [factors, name, bound] :
         {std::tuple{Factors::tf32, "tf32", 4e-3}, {Factors::bf16, "bf16", 3e-2}}) {
      const WithFactors now(factors);
      const Run there = run(exact, DType::f32, weight, draw, device_);
      const double d = row_.name == "conv2d_norm" ? distance(wide.y, there.y) : distance(wide, there);
      require(d < bound, text("with factors of ", name, " f32 on the device differs from f64 by ", d));
    }
  }
  static bool has_float(const OpSample& sample) {
    return std::any_of(sample.inputs.begin(), sample.inputs.end(),
                       [](auto& x) { return x && x.dtype() == DType::f64; });
  }

  // dL/dx_j = (8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12 h + O(h^4), L taken element by element before summing.
  void differences(const OpSample& sample, size_t input, const Tensor& grad, const Tensor& weight) {
    NoGrad quiet;
    Tensors x = sample.inputs;
    x[input] = x[input].clone();
    double* p = x[input].data<double>();
    const double *g = grad.data<double>(), *w = weight.data<double>();
    double largest = 1;
    for (int64_t j = 0; j < grad.size(); ++j) largest = std::max(largest, std::abs(g[j]));
    for (int64_t j = 0; j < grad.size(); ++j) {
      const double middle = p[j], h = 1e-4 * std::max(1.0, std::abs(middle));
      auto at = [&](double step) { return p[j] = middle + step, sample.run(x).clone(); };
      const Tensor a = at(h), b = at(-h), c = at(2 * h), d = at(-2 * h);
      p[j] = middle;
      double numeric = 0;
      for (int64_t i = 0; i < a.size(); ++i)
        numeric += w[i] * (8 * (a.at(i) - b.at(i)) - (c.at(i) - d.at(i))) / (12 * h);
      const double size = std::max({std::abs(g[j]), std::abs(numeric), 1e-3 * largest});
      note(std::abs(g[j] - numeric) / size,
           text("input ", input, ", element ", j, ": gradient ", shortest(g[j]), ", differences ", shortest(numeric)));
    }
  }

  const OpCase& row_;
  uint64_t seed_;
  Device device_;
};

}  // namespace

CheckResult gradcheck(const OpCase& row, int shapes, uint64_t seed, Device device) {
  const ThreadCount restored;
  Check check(row, seed, device);
  try {
    for (int k = 0; k < shapes; ++k) check.sample(k);
    if (device != Device::cpu) check.vectors();
    check.threads();
  } catch (const std::exception& e) { check.result_.worst = kBad, check.result_.where = check.at_ + ", " + e.what(); }
  rehearsal() = false;
  return check.result_;
}

}  // namespace fovea
