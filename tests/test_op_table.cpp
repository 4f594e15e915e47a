// Every row of the op table passes the gradient check, and every op has a row.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "core/autograd.h"
#include "core/loops.h"
#include "ops/gradcheck.h"
#include "ops/op_cases.h"
#include "ops/pointwise.h"
#include "ops/shape.h"
#include "tests/catch.h"

using namespace fovea;

TEST_CASE("every row of the op table passes the check") {
  const std::set<std::string> values_only = {"argmax",     "box_iou", "box_ioa",  "encode_boxes",
                                             "clip_boxes", "nms",     "soft_nms", "top_k"};
  for (auto& row : op_cases()) {
    const CheckResult r = gradcheck(row, 12);
    INFO(row.name << ": " << r.worst << " at " << r.where);
    CHECK(r.ok());
    CHECK(r.shapes == 12);
    CHECK(r.differentiable != values_only.count(row.name));
  }
}

TEST_CASE("losses with kinks in their inputs are drawn away from them, however often") {
  for (auto& row : op_cases())
    if (std::set<std::string>{"smooth_l1", "iou_loss", "giou_loss", "diou_loss", "ciou_loss"}.count(row.name)) {
      const CheckResult r = gradcheck(row, 2200);
      INFO(row.name << ": " << r.worst << " at " << r.where);
      CHECK(r.ok());
    }
}

// The ops between the images and the outputs of a RetinaNet. Of a norm only x is stored as bf16.
TEST_CASE("bf16 is storage: ops compute in f32 and round once") {
  const std::map<std::string, size_t> stored = {{"relu", 1},          {"add", 2},
                                                {"add_relu", 2},      {"cast", 1},
                                                {"reshape", 1},       {"slice", 1},
                                                {"concat", 3},        {"permute", 1},
                                                {"max_pool2d", 1},    {"sum", 1},
                                                {"mean", 1},          {"batch_norm", 1},
                                                {"group_norm", 1},    {"frozen_batch_norm", 1},
                                                {"resize_nearest", 1}};
  // No convolution takes bf16 there; its loops do without the fused multiply-adds of f32's, which shows in last digits.
  const bool fused = isa() == Isa::v3;
  size_t found = 0;
  for (auto& row : op_cases()) {
    if (!stored.count(row.name)) continue;
    ++found;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      Draw draw(seed, seed == 0 ? 4 : 1);
      const OpSample sample = row.make(draw);
      const auto run = [&](bool half) {  // the value and all gradients, in f32
        std::vector<Tensor> x;
        for (size_t i = 0; i < sample.inputs.size(); ++i) {
          const DType type = half && i < stored.at(row.name) ? DType::bf16 : DType::f32;
          x.push_back(sample.inputs[i].to(DType::bf16).to(type).set_requires_grad());
        }
        const Tensor y = sample.run(x);
        CHECK(y.dtype() == (half ? DType::bf16 : DType::f32));
        Draw upstream(seed + 50);
        backward(y, upstream.normal(y.shape()).to(DType::bf16).to(y.dtype()));
        std::vector<Tensor> all{y.detach()};
        for (auto& t : x) all.push_back(t.grad());
        return all;
      };
      const auto a = run(true), b = run(false);
      for (size_t i = 0; i < a.size(); ++i) {
        INFO(row.name << ", seed " << seed << ", tensor " << i);
        const auto got = a[i].to(DType::f32).values<float>(),
                   want = b[i].to(a[i].dtype()).to(DType::f32).values<float>();
        if (!fused) CHECK(got == want);
        REQUIRE(got.size() == want.size());
        for (size_t k = 0; k < got.size(); ++k) CHECK(got[k] == Approx(want[k]).epsilon(0.01).margin(1e-5));
      }
    }
  }
  CHECK(found == stored.size());
}

template <class T> struct WhoTook {  // y = 2 x, and how many were asked of a Streamed
  const T* x;
  T* y;
  std::atomic<int64_t>* streamed;
  static constexpr int kWidth = 4;
  bool aligned() const { return all_aligned(x, y); }
  const void* result() const { return y; }
  template <class At> HD void operator()(const At& at) const {
    const auto in = at.load(x);
    auto out = at.fresh(y);
    at.each([&](int64_t i) { out[i] = 2 * in[i]; });
    at.store(y, out);
    if constexpr (std::is_same_v<At, Streamed>) *streamed += at.count;
  }
};

TEST_CASE("results that no cache holds go past them, with the same bits") {
  struct Lowered {  // as if none held anything
    int64_t before = std::exchange(stream_least(), 1);
    ~Lowered() { stream_least() = before; }
  };
  for (const int64_t n : {1, 511, 512, 513, 100'003}) {  // whole lines, and what is left
    std::vector<float> x(static_cast<size_t>(n + 16), 1.5f), y(x.size());
    float* line = y.data() + (64 - reinterpret_cast<uintptr_t>(y.data()) % 64) % 64 / 4;
    std::atomic<int64_t> streamed{0};
    for_each(Device::cpu, n, WhoTook<float>{x.data(), line, &streamed});
    CHECK(streamed == 0);
    const Lowered now;
    for_each(Device::cpu, n, WhoTook<float>{x.data(), line, &streamed});
    CHECK(streamed == (FOVEA_X86_CLONES && isa() >= Isa::v3 ? n : 0));
    CHECK(std::count(line, line + n, 3.f) == n);
    CHECK(std::count(y.begin(), y.end(), 0.f) == 16);
    for_each(Device::cpu, n, WhoTook<float>{x.data(), line + 1, &streamed});  // not at a line
    CHECK(streamed == (FOVEA_X86_CLONES && isa() >= Isa::v3 ? n : 0));
  }
  for (auto& row : op_cases())
    for (const size_t halves : {0, 1, 9})  // so many inputs are bf16, where an op has that
      for (uint64_t seed = 0; seed < 4; ++seed) {
        Draw draw(seed, seed < 2 ? 4 : 1, 16);
        const OpSample sample = row.make(draw);
        const auto run = [&] {  // the value and all gradients
          std::vector<Tensor> x, all;
          for (const Tensor& t : sample.inputs) {
            const DType type = x.size() < halves ? DType::bf16 : DType::f32;
            x.push_back(t && t.dtype() == DType::f64 ? t.to(type).set_requires_grad() : t);
          }
          all.push_back(sample.run(x));
          if (all[0].requires_grad()) backward(all[0], Draw(seed + 50).normal(all[0].shape()).to(all[0].dtype()));
          for (const Tensor& t : x)
            if (t && t.grad()) all.push_back(t.grad());
          for (Tensor& t : all) t = t.detach().to(DType::f64);
          return all;
        };
        std::vector<Tensor> cached;
        try {
          cached = run();
        } catch (const Error&) {
          REQUIRE(halves > 0);
          continue;
        }
        const Lowered now;
        const std::vector<Tensor> past = run();
        INFO(row.name << ", " << halves << " of bf16, seed " << seed);
        REQUIRE(past.size() == cached.size());
        for (size_t i = 0; i < past.size(); ++i)
          CHECK(std::memcmp(past[i].raw(), cached[i].raw(), past[i].bytes()) == 0);
      }
}

// An op is a struct with `static constexpr auto name = "..."` in ops/; its name is the row's.
TEST_CASE("every op of ops/ has a row in the table") {
  std::set<std::string> rows;
  for (auto& row : op_cases()) CHECK(rows.insert(row.name).second);
  const std::regex pattern("static constexpr (?:auto|const char\\*) name = \"([a-z0-9_]+)\"");
  int ops = 0;
  for (auto& file : std::filesystem::directory_iterator(FOVEA_SOURCE_DIR "/ops")) {
    if (file.path().extension() != ".cpp") continue;
    std::ifstream in(file.path());
    const std::string source((std::istreambuf_iterator<char>(in)), {});
    for (std::sregex_iterator it(source.begin(), source.end(), pattern), end; it != end; ++it, ++ops) {
      INFO((*it)[1] << " in " << file.path().filename().string() << " has no row: add one to ops/op_cases.cpp");
      CHECK(rows.count((*it)[1]) == 1);
    }
  }
  CHECK(ops > 35);
}

// Whether one of the samples that a check draws has elements in all of its inputs.
static bool draws_elements(const OpCase& row, int shapes) {
  bool any = false;
  const OpCase watched{row.name, [&](Draw& draw) {
                         const std::vector<Tensor> in = row.make(draw).inputs;
                         const auto has = [](const Tensor& x) { return !x || x.size() > 0; };
                         any = any || (draw.scale == 1 && std::all_of(in.begin(), in.end(), has));
                         return OpSample{{}, [](auto&) { return Tensor::zeros({1}, DType::f64); }};
                       }};
  gradcheck(watched, shapes);
  return any;
}

TEST_CASE("no check of tools/gpu_check launches nothing") {
  std::ifstream in(FOVEA_SOURCE_DIR "/tools/gpu_check");
  const std::string source((std::istreambuf_iterator<char>(in)), {});
  const std::regex pattern("\"--shapes\", \"([0-9]+)\"");
  int checks = 0;
  for (std::sregex_iterator it(source.begin(), source.end(), pattern), end; it != end; ++it, ++checks)
    for (auto& row : op_cases()) {
      INFO(row.name << ": empty in each of " << (*it)[1] << " samples");
      CHECK(draws_elements(row, std::stoi((*it)[1])));
    }
  CHECK(checks == 2);
}

namespace {

struct WrongSquare {  // y = x^2 with a gradient that is off by one part in 10^5
  static constexpr auto name = "wrong_square";
  Saved x;
  Tensor forward(const Tensor& in) { return x = in, mul(in, in); }
  void backward(const Tensor& dy, Grads& g) const { g[0] = mul(dy, scale(*x, 2.00002)); }
};
struct Leaning {  // a running sum: right only when indices come in order
  const double* x;
  double* y;
  HD void operator()(int64_t i) const { y[i] = x[i] + (i > 0 ? y[i - 1] : 0); }
};

// y = x, and a little more where `more` says so: of the element type, of the rehearsal, of the threads.
OpCase slightly(double (*more)(DType)) {
  return {"slightly", [more](Draw& d) {
            return OpSample{{d.uniform({5}, 1, 2)}, [more](auto& x) { return scale(x[0], 1 + more(x[0].dtype())); }};
          }};
}

Tensor running_sum(const std::vector<Tensor>& x) {
  const Tensor in = x[0].to(DType::f64), out = zeros_like(in);
  for_each(Device::cpu, 5, Leaning{in.data<double>(), out.data<double>()});
  return out.to(x[0].dtype());
}

}  // namespace

TEST_CASE("the check finds wrong gradients, loops that lean on an order, and failures") {
  const OpCase wrong{"wrong_square", [](Draw& d) {
                       return OpSample{{d.uniform({3}, 1, 2)}, [](auto& x) { return apply(WrongSquare{}, x[0]); }};
                     }};
  const CheckResult r = gradcheck(wrong, 2);
  CHECK(!r.ok());
  CHECK(r.worst == Approx(1e-5).epsilon(0.1));
  CHECK(r.differentiable);
  double slope = 0, numeric = 0;  // shown to the last digit: six would show an error of 1.1e-6 as two equal numbers
  REQUIRE(std::sscanf(r.where.c_str() + r.where.find("gradient "), "gradient %lf, differences %lf", &slope, &numeric) ==
          2);
  CHECK(std::abs(slope / numeric - 1) == Approx(r.worst).epsilon(1e-3));
  const OpCase leaning{"leaning", [](Draw& d) { return OpSample{{d.uniform({5}, 1, 2)}, running_sum}; }};
  CHECK(gradcheck(leaning, 1).where.find("rehearsal") != std::string::npos);
  const auto finds = [](double (*more)(DType), const char* words) {
    const CheckResult found = gradcheck(slightly(more), 1);
    INFO(found.where);
    CHECK(!found.ok());
    CHECK(found.where.find(words) != std::string::npos);
  };
  CHECK(gradcheck(slightly([](DType) { return 0.0; }), 1).ok());
  finds([](DType) { return rehearsal() ? 1e-8 : 0; }, "the rehearsal of CUDA blocks gives another result");
  finds([](DType) { return num_threads() == 3 ? 1e-15 : 0; }, "3 threads give other bits than 1");
  finds([](DType t) { return t == DType::f32 ? 0.002 : 0; }, "f32 differs from f64 by");
  const OpCase nowhere{"nowhere", [](Draw& d) {
                         return OpSample{{d.normal({3})}, [](auto& x) { return scale(x[0].detach(), NAN); }};
                       }};
  CHECK(gradcheck(nowhere, 1).where.find("the result is not finite") != std::string::npos);
  const OpCase deaf{"deaf", [](Draw& d) {
                      return OpSample{{d.normal({3}), d.normal({3})}, [](auto& x) { return x[0] * x[1].detach(); }};
                    }};
  CHECK(gradcheck(deaf, 1).where.find("input 1 gets no gradient") != std::string::npos);
  const OpCase mute{"mute", [](Draw& d) { return OpSample{{d.normal({3})}, [](auto&) { return Tensor(); }}; }};
  CHECK(gradcheck(mute, 1).where.find("the result is undefined") != std::string::npos);
  const OpCase throwing{"throwing", [](Draw& d) {
                          return OpSample{{d.normal({2, 3})}, [](auto& x) { return reshape(x[0], {7}); }};
                        }};
  CHECK(gradcheck(throwing, 1).where.find("reshape: [2, 3] has 6 elements") != std::string::npos);
}
