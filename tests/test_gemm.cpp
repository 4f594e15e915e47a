// Matrix products and what follows them: on both devices, as a library sees them that counts columns first, and what is
// kept of that library's choices.
#include "core/gemm.h"

#include <cmath>

#include "core/cuda/plans.h"
#include "core/random.h"
#include "core/tensor.h"
#include "tests/fake_device.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

template <class T> T element(const std::vector<T>& x, bool transposed, int64_t ld, int64_t i, int64_t j) {
  return x[size_t(transposed ? j * ld + i : i * ld + j)];
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
    g = {ta, tb, m, n, k, 0.5, a.data(), lda, b.data(), ldb, dice.chance(0.3) ? 0.0 : 2.0, c.data(), n + 2};
    if (dice.chance(0.5)) g.end.added = added.data();
    if (dice.chance(0.5)) g.end.bias = bias.data();
    g.end.relu = dice.chance(0.5);
  }
  std::vector<double> expected() const {  // by the definition
    std::vector<double> y = c;
    for (int64_t i = 0; i < g.m; ++i)
      for (int64_t j = 0; j < g.n; ++j) {
        double sum = g.beta == 0 ? 0 : g.beta * (g.end.added ? added : c)[size_t(i * g.ldc + j)];
        for (int64_t p = 0; p < g.k; ++p)
          sum += g.alpha * element(a, g.ta == Trans::yes, g.lda, i, p) * element(b, g.tb == Trans::yes, g.ldb, p, j);
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
    const auto at = [](const double* x, Trans t, int64_t ld, int64_t row, int64_t col) {  // of op(X), by columns
      return t == Trans::yes ? x[row * ld + col] : x[col * ld + row];
    };
    std::vector<double> y = drawn.c;
    for (int64_t j = 0; j < g.n; ++j)
      for (int64_t i = 0; i < g.m; ++i) {  // as cuBLASLt's manual has it: the bias is that of row i
        double sum = g.beta * (g.end.added ? g.end.added : g.c)[j * g.ldc + i];
        for (int64_t p = 0; p < g.k; ++p) sum += g.alpha * at(g.a, g.ta, g.lda, i, p) * at(g.b, g.tb, g.ldb, p, j);
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
    g.a = ta.data<double>(), g.b = tb.data<double>(), g.c = tc.data<double>();
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
    gemm(Device::cuda, Gemm<float>{g.ta,
                                   g.tb,
                                   g.m,
                                   g.n,
                                   g.k,
                                   float(g.alpha),
                                   fa.data<float>(),
                                   g.lda,
                                   fb.data<float>(),
                                   g.ldb,
                                   float(g.beta),
                                   fc.data<float>(),
                                   g.ldc,
                                   {g.end.added ? fadded.data<float>() : nullptr,
                                    g.end.bias ? fbias.data<float>() : nullptr, g.end.relu}});
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

TEST_CASE("what cuBLASLt chose is asked once for each product that differs in more than its numbers") {
  Dice dice(9);
  DrawnProduct one(dice);
  alignas(256) static double memory[64];
  Gemm<double> g = one.g;
  g.a = g.b = memory, g.c = memory + 32, g.end = {nullptr, memory, true};
  const auto other = [&](auto change) {
    Gemm<double> o = g;
    change(o);
    return key_of(o, false);
  };
  const ProductKey key = key_of(g, false);
  CHECK(key == other([](auto& o) { o.a += 32, o.alpha = 7, o.beta = 0.25; }));
  CHECK(key == key_of(g, true));  // f64 knows no tf32
  const std::vector<ProductKey> others{
      other([](auto& o) { o.m++; }),
      other([](auto& o) { o.n++; }),
      other([](auto& o) { o.k++; }),
      other([](auto& o) { o.lda++; }),
      other([](auto& o) { o.ldb++; }),
      other([](auto& o) { o.ldc++; }),
      other([](auto& o) { o.ta = o.ta == Trans::yes ? Trans::no : Trans::yes; }),
      other([](auto& o) { o.tb = o.tb == Trans::yes ? Trans::no : Trans::yes; }),
      other([](auto& o) { o.end.relu = false; }),
      other([](auto& o) { o.end.bias = nullptr; }),
      other([](auto& o) { o.a++; }),
      other([](auto& o) { o.c += 2; }),
      other([](auto& o) { o.end.bias++; }),
      key_of(Gemm<float>{g.ta, g.tb, g.m, g.n, g.k, 1, nullptr, g.lda, nullptr, g.ldb, 0, nullptr, g.ldc}, false),
      key_of(Gemm<float>{g.ta, g.tb, g.m, g.n, g.k, 1, nullptr, g.lda, nullptr, g.ldb, 0, nullptr, g.ldc}, true)};
  Plans<int> plans;
  int asked = 0;
  const auto choose = [&] { return ++asked; };
  CHECK(plans.of(key, choose) == 1);
  for (size_t i = 0; i < others.size(); ++i) CHECK(plans.of(others[i], choose) == int(i) + 2);
  CHECK(plans.of(key, choose) == 1);
  for (size_t i = 0; i < others.size(); ++i) CHECK(plans.of(others[i], choose) == int(i) + 2);
  CHECK(asked == int(others.size()) + 1);
}
