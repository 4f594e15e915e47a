// Matrix products and what follows them: on both devices, as a library sees them that counts columns first, and what is
// kept of that library's choices.
#include "core/gemm.h"

#include <cmath>
#include <filesystem>
#include <thread>

#include "core/cuda/plans.h"
#include "core/random.h"
#include "core/tensor.h"
#include "tests/fake_device.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

// Of op(X), whose numbers x are.
double element(const std::vector<double>& x, const GemmFactor<double>& f, int64_t i, int64_t j) {
  return x[size_t(f.trans == Trans::yes ? j * f.ld + i : i * f.ld + j)];
}

// A product with some of what may follow it, and the numbers that it reads.
struct DrawnProduct {
  std::vector<double> a, b, c, added, bias;
  Gemm<double> g;
  explicit DrawnProduct(Dice& dice, int64_t least = 1, bool large = false) {
    int64_t m = dice.integer(1, 5), n = dice.integer(1, 5), k = dice.integer(least, 5);
    if (large) m += 40, n += 40, k += 800, (dice.chance(0.5) ? m : n) += 90;
    a.resize(size_t((m + 2) * (k + 2))), b.resize(size_t((k + 1) * (n + 1))), bias.resize(size_t(n));
    c.resize(size_t(m * (n + 2))), added.resize(c.size());
    const Trans ta = dice.chance(0.5) ? Trans::yes : Trans::no, tb = dice.chance(0.5) ? Trans::yes : Trans::no;
    for (auto* list : {&a, &b, &c, &added, &bias})
      for (double& v : *list) v = dice.normal();
    const int64_t lda = (ta == Trans::yes ? m : k) + dice.integer(0, 2), ldb = (tb == Trans::yes ? k : n) + 1;
    g = {.m = m, .n = n, .k = k, .a = {a.data(), lda, ta}, .b = {b.data(), ldb, tb}, .c = c.data(), .ldc = n + 2};
    g.alpha = 0.5, g.beta = dice.chance(0.3) ? 0 : 2;
    if (dice.chance(0.5)) g.end.added = added.data();
    if (dice.chance(0.5)) g.end.bias = bias.data();
    g.end.relu = dice.chance(0.5);
  }
  std::vector<double> expected() const {  // by the definition
    std::vector<double> y = c;
    for (int64_t i = 0; i < g.m; ++i)
      for (int64_t j = 0; j < g.n; ++j) {
        double sum = g.beta == 0 ? 0 : g.beta * (g.end.added ? added : c)[size_t(i * g.ldc + j)];
        for (int64_t p = 0; p < g.k; ++p) sum += g.alpha * element(a, g.a, i, p) * element(b, g.b, p, j);
        if (g.end.bias) sum += bias[size_t(j)];
        y[size_t(i * g.ldc + j)] = g.end.relu ? std::max(sum, 0.0) : sum;
      }
    return y;
  }
  void check(const std::vector<double>& got) const {
    const std::vector<double> want = expected();
    double worst = 0;
    for (size_t i = 0; i < want.size(); ++i) worst = worse(worst, std::fabs(got[i] - want[i]));
    CHECK(worst < 1e-12);
  }
};

Tensor there(const std::vector<double>& v, DType type = DType::f64) {
  return Tensor::from<double>({int64_t(v.size())}, v).to(type).to(Device::cuda);
}

}  // namespace

TEST_CASE("products for a library that counts columns first, and what follows them") {
  Dice dice(3);
  for (int round = 0; round < 300; ++round) {
    DrawnProduct drawn(dice);
    const auto g = column_major(drawn.g);
    const auto at = [](const GemmFactor<double>& x, int64_t row, int64_t col) {  // of op(X), by columns
      return x.data[x.trans == Trans::yes ? row * x.ld + col : col * x.ld + row];
    };
    std::vector<double> y = drawn.c;
    for (int64_t j = 0; j < g.n; ++j)
      for (int64_t i = 0; i < g.m; ++i) {  // as cuBLASLt's manual has it: the bias is that of row i
        double sum = g.beta * (g.end.added ? g.end.added : g.c)[j * g.ldc + i];
        for (int64_t p = 0; p < g.k; ++p) sum += g.alpha * at(g.a, i, p) * at(g.b, p, j);
        if (g.end.bias) sum += g.end.bias[i];
        y[size_t(j * g.ldc + i)] = g.end.relu ? std::max(sum, 0.0) : sum;
      }
    drawn.check(y);
  }
}

TEST_CASE("a product and what follows it, on both devices and in both types") {
  WithFakeDevice fake;
  Dice dice(8);
  for (int round = 0; round < 200; ++round) {
    DrawnProduct here(dice, 0);
    const std::vector<double> c = here.c;
    const Tensor ta = there(here.a), tb = there(here.b), tc = there(c), added = there(here.added),
                 bias = there(here.bias);
    auto g = here.g;
    g.a.data = ta.data<double>(), g.b.data = tb.data<double>(), g.c = tc.data<double>();
    if (g.end.added) g.end.added = added.data<double>();
    if (g.end.bias) g.end.bias = bias.data<double>();
    const int64_t before = fake.device->counts.products;
    gemm(Device::cuda, g);
    CHECK(fake.device->counts.products == before + (g.k > 0));
    here.check(tc.values<double>());
    std::vector<double> y = c;
    auto on_host = here.g;
    on_host.c = y.data();
    gemm(Device::cpu, on_host);
    here.check(y);
    if (g.k == 0) continue;
    const auto f32 = [](const std::vector<double>& v) { return there(v, DType::f32); };
    const Tensor fa = f32(here.a), fb = f32(here.b), fc = f32(c), fadded = f32(here.added), fbias = f32(here.bias);
    Gemm<float> f{.m = g.m, .n = g.n, .k = g.k, .c = fc.data<float>(), .ldc = g.ldc};
    f.a = {fa.data<float>(), g.a.ld, g.a.trans}, f.b = {fb.data<float>(), g.b.ld, g.b.trans};
    f.alpha = float(g.alpha), f.beta = float(g.beta), f.end.relu = g.end.relu;
    if (g.end.added) f.end.added = fadded.data<float>();
    if (g.end.bias) f.end.bias = fbias.data<float>();
    gemm(Device::cuda, f);
    const auto got = fc.values<float>();
    for (size_t i = 0; i < y.size(); ++i) CHECK(std::fabs(double(got[i]) - y[i]) < 1e-5);
  }
}

TEST_CASE("a product in chunks of its rows or of its columns, and what follows it") {
  Dice dice(9);
  for (int round = 0; round < 24; ++round) {
    DrawnProduct drawn(dice, 1, true);
    std::vector<double> y = drawn.c;
    auto g = drawn.g;
    g.c = y.data();
    gemm(Device::cpu, g);
    drawn.check(y);
  }
}

// Of OpenBLAS's flavours that of OpenMP would start some, for each thread of the caller anew.
TEST_CASE("a product starts no threads, whoever asks for it") {
  const auto multiply = [] {
    const int64_t n = 256;
    std::vector<float> a(size_t(n * n), 0.5f), c(a.size());
    gemm(Device::cpu,
         Gemm<float>{.m = n, .n = n, .k = n, .a = {a.data(), n}, .b = {a.data(), n}, .c = c.data(), .ldc = n});
    return c[0];
  };
  const auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
  };
  multiply();  // the library starts its own, and so does the pool
  for (int i = 0; i < 3; ++i)
    std::thread([&] {
      const auto before = threads();
      CHECK(multiply() == 64);
      CHECK(threads() == before);
    }).join();
}

TEST_CASE("what cuBLASLt chose is asked once for each product that differs in more than its numbers") {
  Dice dice(9);
  DrawnProduct one(dice);
  alignas(256) static double memory[64];
  Gemm<double> g = one.g;
  g.a.data = g.b.data = memory, g.c = memory + 32, g.end = {nullptr, memory, true};
  const auto other = [&](auto change) {
    Gemm<double> o = g;
    change(o);
    return key_of(o, false);
  };
  const ProductKey key = key_of(g, false);
  CHECK(key == other([](auto& o) { o.a.data += 32, o.alpha = 7, o.beta = 0.25; }));
  CHECK(key == key_of(g, true));  // f64 knows no tf32
  const Gemm<float> single{
      .m = g.m, .n = g.n, .k = g.k, .a = {nullptr, g.a.ld, g.a.trans}, .b = {nullptr, g.b.ld, g.b.trans}, .ldc = g.ldc};
  const std::vector<ProductKey> others{other([](auto& o) { o.m++; }),
                                       other([](auto& o) { o.n++; }),
                                       other([](auto& o) { o.k++; }),
                                       other([](auto& o) { o.a.ld++; }),
                                       other([](auto& o) { o.b.ld++; }),
                                       other([](auto& o) { o.ldc++; }),
                                       other([](auto& o) { o.a.trans = Trans{o.a.trans == Trans::no}; }),
                                       other([](auto& o) { o.b.trans = Trans{o.b.trans == Trans::no}; }),
                                       other([](auto& o) { o.end.relu = false; }),
                                       other([](auto& o) { o.end.bias = nullptr; }),
                                       other([](auto& o) { o.a.data++; }),
                                       other([](auto& o) { o.c += 2; }),
                                       other([](auto& o) { o.end.bias++; }),
                                       key_of(single, false),
                                       key_of(single, true)};
  Plans<int> plans;
  int asked = 0;
  const auto choose = [&] { return ++asked; };
  CHECK(plans.of(key, choose) == 1);
  for (size_t i = 0; i < others.size(); ++i) CHECK(plans.of(others[i], choose) == int(i) + 2);
  CHECK(plans.of(key, choose) == 1);
  for (size_t i = 0; i < others.size(); ++i) CHECK(plans.of(others[i], choose) == int(i) + 2);
  CHECK(asked == int(others.size()) + 1);
}
