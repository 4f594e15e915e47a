// exp, log, tanh, ... against double over all floats; random numbers against Random123's vectors; gemm against f64
// loops.
#include "core/math.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>

#include "core/gemm.h"
#include "core/random.h"
#include "core/threads.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

constexpr float kInf = INFINITY;

// Distance in units of the last place of the exact result, rounded to float's normal numbers.
double ulps(float got, double exact) {
  if (std::isnan(got) || std::isnan(exact)) return std::isnan(got) && std::isnan(exact) ? 0 : 1e9;
  if (std::abs(exact) > 3.4028235677973366e38) return got == (exact > 0 ? kInf : -kInf) ? 0 : 1e9;
  if (std::abs(exact) < 1.17549435e-38) return std::abs(got - exact) / 1.4e-45 < 8388608 ? 0 : 1e9;  // denormals are 0
  int e;
  std::frexp(exact, &e);
  return std::abs(double(got) - exact) / std::ldexp(1.0, e - 24);
}
// The worst of f against `exact` over every `stride`-th float of both signs (or of [low, high] alone).
double worst(const std::function<float(float)>& f, const std::function<double(double)>& exact, float low = -kInf,
             float high = kInf, uint32_t stride = 40'009) {
  double w = 0;
  for (uint64_t u = 0; u < (uint64_t{1} << 32); u += stride) {
    const uint32_t bits = static_cast<uint32_t>(u);
    float x;
    std::memcpy(&x, &bits, 4);
    if (std::isnan(x) || x < low || x > high || (x != 0 && std::abs(x) < 1.17549435e-38f)) continue;
    w = std::max(w, ulps(f(x), exact(x)));
  }
  return w;
}

}  // namespace

TEST_CASE("the f32 functions are within a few units of the last place over all floats") {
  CHECK(worst([](float x) { return math::exp(x); }, [](double x) { return std::exp(x); }) <= 1);
  CHECK(worst([](float x) { return math::log(x); }, [](double x) { return std::log(x); }) <= 1);
  CHECK(worst([](float x) { return math::tanh(x); }, [](double x) { return std::tanh(x); }) <= 2);
  CHECK(worst([](float x) { return math::sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }) <= 2);
  const auto softplus = [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); };
  CHECK(worst([](float x) { return math::softplus(x); }, softplus) <= 3);
  CHECK(worst([](float x) { return math::exp_negative(x); }, [](double x) { return std::exp(x); }, -kInf, 0) <= 1);
  CHECK(worst([](float x) { return math::exp_inside(x); }, [](double x) { return std::exp(x); }, -87, 87) <= 1);
  const auto erfc = [](float z) { return math::erfc(z, float(std::exp(-double(z) * z))); };
  CHECK(worst(
            erfc, [](double x) { return std::erfc(x); }, 0, 9) <= 7);
  CHECK(worst([](float e) { return math::log1p_unit(e); }, [](double e) { return std::log1p(e); }, 0, 1) <= 2);
  for (const float e : {-17.3f, -1.0f, 0.0f, 0.01f, 0.5f, 2.7f, 3.0f}) {
    const auto pow = [=](float x) { return math::pow(x, e); };
    CHECK(worst(
              pow, [=](double x) { return std::pow(x, double(e)); }, 0, kInf, 200'003) <= 1);
  }
  for (const float x : {-2.0f, 0.3f, 1.0f}) {
    const auto angle = [=](float y) { return math::atan2(y, x); };
    CHECK(worst(
              angle, [=](double y) { return std::atan2(y == 0 ? 0 : y, double(x)); }, -kInf, kInf, 200'003) <= 2);
  }
}

TEST_CASE("exp, log and sigmoid are within 2 units of the last place for every float of a range") {
  const auto every = [](float (*f)(float), double (*exact)(double), float low, float high) {
    std::atomic<int64_t> bad = 0;
    const int64_t first = math::float_to_bits(low), last = math::float_to_bits(high);
    parallel_for(last - first, 1 << 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float x = math::bits_to_float(uint32_t(first + i));
        if (ulps(f(x), exact(x)) > 2) ++bad;
      }
    });
    return bad.load();
  };
  for (const float sign : {1.0f, -1.0f}) {  // the bits of floats of one sign are in the order of their sizes
    CHECK(every([](float x) { return math::exp(x); }, [](double x) { return std::exp(x); }, sign * 0.5f, sign * 8) ==
          0);
    CHECK(every([](float x) { return math::sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }, sign * 0.5f,
                sign * 8) == 0);
  }
  CHECK(every([](float x) { return math::log(x); }, [](double x) { return std::log(x); }, 0.5f, 4) == 0);
}

TEST_CASE("edges: infinities, NaN and zero") {
  CHECK(math::exp(-kInf) == 0);
  CHECK(math::exp(kInf) == kInf);
  CHECK(std::isnan(math::exp(NAN)));
  CHECK(math::log(0.0f) == -kInf);
  CHECK(math::log(kInf) == kInf);
  CHECK(math::log(1.0f) == 0);
  CHECK(std::isnan(math::log(-1.0f)));
  CHECK(std::isnan(math::log(NAN)));
  CHECK(math::sigmoid(kInf) == 1);
  CHECK(math::sigmoid(-kInf) == 0);
  CHECK(std::isnan(math::sigmoid(NAN)));
  CHECK(math::softplus(1e4f) == 1e4f);
  CHECK(math::softplus(-1e4f) == 0);
  CHECK(std::isnan(math::softplus(NAN)));
  CHECK(math::tanh(kInf) == 1);
  CHECK(math::tanh(-kInf) == -1);
  CHECK(std::isnan(math::tanh(NAN)));
  CHECK(math::exp(1e30f) == kInf);
  CHECK(math::exp(-1e30f) == 0);
  CHECK(math::exp_negative(-kInf) == 0);
  const float payload = math::bits_to_float(0x7fc12345);  // a NaN with other bits set
  for (const float y : {math::exp(payload), math::exp_negative(payload), math::tanh(payload), math::log(payload),
                        math::sigmoid(payload), math::pow(payload, 2.7f), math::atan2(payload, 1.0f)})
    CHECK(std::isnan(y));
  for (const float x : {0.0f, kInf, -kInf, -8.0f})
    for (const float e : {-3.0f, -2.0f, 0.0f, 2.0f, 3.0f})
      if (x != 0 || e != -3) CHECK(math::pow(x, e) == std::pow(x, e));
  CHECK(math::pow(0.0f, -3.0f) == kInf);
  CHECK(math::pow(payload, 0.0f) == 1);
  CHECK(std::isnan(math::pow(-8.0f, 0.5f)));
  CHECK(math::atan2(0.0f, 0.0f) == 0);
  CHECK(math::atan2(-1.0f, 0.0f) == -1.57079637f);
}

TEST_CASE("Philox gives Random123's known answers") {
  const auto block = [](uint64_t seed, uint64_t stream, uint64_t counter) {
    const auto b = Philox{seed, stream}.block(counter);
    return std::vector<uint32_t>(b.v, b.v + 4);
  };
  CHECK(block(0, 0, 0) == std::vector<uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const uint64_t ones = ~uint64_t{0};
  CHECK(block(ones, ones, ones) == std::vector<uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(block(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88) ==
        std::vector<uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("random numbers have their distributions") {
  const Philox p{7, 1};
  const int n = 200'000;
  double sum = 0, square = 0, low = 1, high = 0, normal = 0, normal2 = 0, normal4 = 0;
  std::vector<int> counts(10);
  for (int i = 0; i < n; ++i) {
    const double u = p.uniform(i), z = p.normal(i);
    sum += u, square += u * u, low = std::min(low, u), high = std::max(high, u);
    normal += z, normal2 += z * z, normal4 += z * z * z * z;
    counts[p.below(i, 10)]++;
  }
  CHECK(low >= 0);
  CHECK(high < 1);
  CHECK(sum / n == Approx(0.5).margin(0.003));
  CHECK(square / n == Approx(1.0 / 3).margin(0.003));
  CHECK(normal / n == Approx(0).margin(0.01));
  CHECK(normal2 / n == Approx(1).margin(0.02));
  CHECK(normal4 / n == Approx(3).margin(0.15));
  for (int c : counts) CHECK(c == Approx(n / 10).epsilon(0.03));
  Dice dice(1);
  for (int i = 0; i < 1000; ++i) {
    const int64_t k = dice.integer(-2, 2);
    CHECK((k >= -2 && k <= 2));
  }
}

TEST_CASE("gemm equals f64 loops for all transposes, odd sizes and strides") {
  Dice dice(3);
  const ThreadCount restored;
  for (int trial = 0; trial < 120; ++trial) {
    const int64_t m = dice.integer(0, trial % 10 ? 40 : 300), n = dice.integer(0, trial % 10 ? 40 : 200);
    const int64_t k = dice.integer(0, trial % 7 ? 30 : 200);
    const bool ta = dice.chance(0.5), tb = dice.chance(0.5);
    const int64_t lda = (ta ? m : k) + dice.integer(0, 3), ldb = (tb ? k : n) + dice.integer(0, 3),
                  ldc = n + dice.integer(0, 3);
    std::vector<double> a((ta ? k : m) * lda + 1), b((tb ? n : k) * ldb + 1), c(m * ldc + 1);
    for (auto* v : {&a, &b, &c})
      for (auto& x : *v) x = dice.normal();
    const double alpha = dice.chance(0.5) ? 1 : -0.5, beta = dice.chance(0.5) ? 0 : 0.25;
    std::vector<double> want = c;
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double s = 0;
        for (int64_t p = 0; p < k; ++p)
          s += (ta ? a[p * lda + i] : a[i * lda + p]) * (tb ? b[j * ldb + p] : b[p * ldb + j]);
        want[i * ldc + j] = alpha * s + (beta == 0 ? 0 : beta * c[i * ldc + j]);
      }
    if (beta == 0 && !c.empty())
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = NAN;  // must not be read
    std::vector<float> af(a.begin(), a.end()), bf(b.begin(), b.end()), first;
    double wrong = 0, wrong32 = 0;
    for (int threads : {1, 2, 3}) {
      set_num_threads(threads);
      std::vector<float> cf(c.begin(), c.end());
      const Trans fa = ta ? Trans::yes : Trans::no, fb = tb ? Trans::yes : Trans::no;
      Gemm<float> f32{.m = m, .n = n, .k = k, .a = {af.data(), lda, fa}, .b = {bf.data(), ldb, fb}};
      f32.c = cf.data(), f32.ldc = ldc, f32.alpha = float(alpha), f32.beta = float(beta);
      gemm(Device::cpu, f32);
      if (threads > 1) {
        CHECK(std::memcmp(cf.data(), first.data(), cf.size() * 4) == 0);
        continue;
      }
      first = cf;
      std::vector<double> cd = c;
      Gemm<double> f64{.m = m, .n = n, .k = k, .a = {a.data(), lda, fa}, .b = {b.data(), ldb, fb}};
      f64.c = cd.data(), f64.ldc = ldc, f64.alpha = alpha, f64.beta = beta;
      gemm(Device::cpu, f64);
      for (size_t i = 0; i < want.size(); ++i) {
        wrong = worse(wrong, std::abs(cd[i] - want[i])), wrong32 = worse(wrong32, std::abs(cf[i] - want[i]));
      }
    }
    CHECK(wrong < 1e-11);
    CHECK(wrong32 < 1e-3);
  }
  CHECK(std::string(blas_name()).size() > 0);
}
