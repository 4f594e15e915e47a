// Norms against the textbook in f64, the running statistics, fused relu, precision with a large mean, edge shapes.
#include <cmath>

#include "core/autograd.h"
#include "core/loops.h"
#include "core/random.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

struct Stats {
  double mean = 0, var = 0;
};
// Of the elements i of x that `member` selects.
template <class F> Stats stats(const Tensor& x, F member) {
  Stats s;
  double n = 0;
  for (int64_t i = 0; i < x.size(); ++i)
    if (member(i)) s.mean += x.at(i), ++n;
  s.mean /= n;
  for (int64_t i = 0; i < x.size(); ++i)
    if (member(i)) s.var += (x.at(i) - s.mean) * (x.at(i) - s.mean);
  s.var /= n;
  return s;
}
double normal_of(double x, const Stats& s, double gamma, double beta, double eps) {
  return gamma * (x - s.mean) / std::sqrt(s.var + eps) + beta;
}

}  // namespace

TEST_CASE("batch norm matches the textbook and updates the running statistics with the unbiased variance") {
  Dice dice(1);
  for (const DType t : {DType::f64, DType::f32})
    for (const Shape& shape : {Shape{2, 5, 7, 3}, Shape{1, 1, 1, 4}, Shape{4, 37, 41, 2}, Shape{600, 65}}) {
      const int64_t c = shape[-1], n = shape.rows();
      const Tensor x = random(shape, dice, 1, 2, t), gamma = random({c}, dice, 1, 1, t),
                   beta = random({c}, dice, 0, 1, t);
      const Tensor mean = random({c}, dice, 0, 1, t), var = Tensor::full({c}, 0.5, t);
      const Tensor mean0 = mean.clone();
      const Tensor y = batch_norm(x, gamma, beta, mean, var, {.training = true, .momentum = 0.3});
      const Tensor relu = batch_norm(x, gamma, beta, {}, {}, {.training = true, .relu = true});
      const double tolerance = t == DType::f64 ? 1e-12 : n == 1 ? 1e-3 : 5e-6;
      for (int64_t k = 0; k < c; ++k) {
        const Stats s = stats(x, [&](int64_t i) { return i % c == k; });
        for (int64_t i = k; i < x.size(); i += c) {
          const double expected = normal_of(x.at(i), s, gamma.at(k), beta.at(k), 1e-5);
          REQUIRE(std::abs(y.at(i) - expected) < tolerance);
          REQUIRE(std::abs(relu.at(i) - std::max(0.0, expected)) < tolerance);
        }
        REQUIRE(mean.at(k) == Approx(0.7 * mean0.at(k) + 0.3 * s.mean).epsilon(1e-5).margin(1e-6));
        REQUIRE(var.at(k) == Approx(n > 1 ? 0.7 * 0.5 + 0.3 * s.var * double(n) / double(n - 1) : 0.5).epsilon(1e-5));
      }
    }
}

TEST_CASE("a large mean costs batch norm no accuracy") {
  Dice dice(2);
  const Tensor x = random({8, 16, 16, 8}, dice, 1000, 0.5, DType::f32), one = Tensor::full({8}, 1),
               zero = Tensor::zeros({8});
  const Tensor exact =
      batch_norm(x.to(DType::f64), one.to(DType::f64), zero.to(DType::f64), {}, {}, {.training = true});
  for (const bool lanes : {false, true}) {
    rehearsal() = lanes;
    const Tensor y = batch_norm(x, one, zero, {}, {}, {.training = true});
    rehearsal() = false;
    REQUIRE(distance(y.to(DType::f64), exact) < 2e-4);  // the mean itself has an error of 1000 * 2^-24
  }
}

TEST_CASE("an empty batch has an empty result, zero gradients and leaves the running statistics alone") {
  Tensor x({0, 3, 3, 2}), gamma = Tensor::full({2}, 1), beta = Tensor::zeros({2});
  const Tensor mean = Tensor::full({2}, 3), var = Tensor::full({2}, 4);
  for (Tensor* t : {&x, &gamma, &beta}) t->set_requires_grad();
  backward(batch_norm(x, gamma, beta, mean, var, {.training = true}), Tensor({0, 3, 3, 2}));
  REQUIRE(gamma.grad().values<float>() == std::vector<float>{0, 0});
  REQUIRE(mean.values<float>() == std::vector<float>{3, 3});
  REQUIRE(var.values<float>() == std::vector<float>{4, 4});
  REQUIRE(group_norm(Tensor({0, 3, 3, 2}), gamma, beta, 2).size() == 0);
  REQUIRE(layer_norm(Tensor({0, 2}), gamma, beta).size() == 0);
}

TEST_CASE("a layer norm's rows of one element are beta, and have no slope but what one product loses") {
  Dice dice(8);
  for (const auto& [type, half_ulp] : {std::pair(DType::f32, 0x1p-24), {DType::f64, 0x1p-53}}) {
    const auto drawn = [&, t = type](const Shape& shape) { return random(shape, dice, 2, 3).to(t); };
    Tensor x = drawn({50, 1}), gamma = drawn({1}), beta = drawn({1});
    const Tensor dy = drawn({50, 1});
    for (Tensor* t : {&x, &gamma, &beta}) t->set_requires_grad();
    const Tensor y = layer_norm(x, gamma, beta, 0.01);
    backward(y, dy);
    for (int64_t i = 0; i < 50; ++i) {
      REQUIRE(y.at(i) == beta.at(0));
      REQUIRE(std::fabs(x.grad().at(i)) <= 10.001 * half_ulp * std::fabs(gamma.at(0) * dy.at(i)));
    }
    REQUIRE(gamma.grad().item() == 0);
  }
}

TEST_CASE("evaluation mode is the frozen norm; a frozen norm keeps its statistics") {
  Dice dice(3);
  const Tensor x = random({2, 3, 3, 5}, dice), gamma = random({5}, dice), beta = random({5}, dice),
               mean = random({5}, dice);
  const Tensor var = Tensor::full({5}, 0.7, DType::f64);
  const Tensor a = batch_norm(x, gamma, beta, mean, var), b = frozen_batch_norm(x, gamma, beta, mean, var);
  REQUIRE(a.values<double>() == b.values<double>());
  for (int64_t i = 0; i < x.size(); ++i) {
    const double expected = normal_of(x.at(i), {mean.at(i % 5), 0.7}, gamma.at(i % 5), beta.at(i % 5), 1e-5);
    REQUIRE(a.at(i) == Approx(expected).epsilon(1e-12));
  }
}

TEST_CASE("the affine map of a frozen norm has the bits of its five ops") {
  Dice dice(7);
  for (const DType t : {DType::f32, DType::f64}) {
    const Tensor gamma = random({67}, dice, 1, 1, t), beta = random({67}, dice, 0, 1, t),
                 mean = random({67}, dice, 0, 3, t), root = random({67}, dice, 1, 1, t), var = root * root;
    const auto [scale, shift] = frozen_affine(gamma, beta, mean, var, 1e-3);
    const Tensor expected = gamma / sqrt(var + 1e-3);
    REQUIRE(distance(scale, expected) == 0);
    REQUIRE(distance(shift, beta - mean * expected) == 0);
  }
}

TEST_CASE("the relu inside a norm has the gradient of a relu behind it") {
  Dice dice(4);
  Tensor x = random({3, 4, 4, 6}, dice), gamma = random({6}, dice), beta = random({6}, dice);
  const Tensor dy = random(x.shape(), dice);
  std::vector<std::vector<double>> results[2];
  for (const bool fused : {false, true}) {
    for (Tensor* t : {&x, &gamma, &beta}) t->set_requires_grad().set_grad({});
    const Tensor y = batch_norm(x, gamma, beta, {}, {}, {.training = true, .relu = fused});
    Tensor d = dy.clone();
    for (int64_t i = 0; i < d.size(); ++i)
      if (y.at(i) <= 0) d.data<double>()[i] = 0;
    backward(y, fused ? dy : d);
    for (const Tensor* t : {&x, &gamma, &beta}) results[fused].push_back(t->grad().values<double>());
  }
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < results[0][i].size(); ++j)
      REQUIRE(results[0][i][j] == Approx(results[1][i][j]).epsilon(1e-10).margin(1e-12));
}

TEST_CASE("group and layer norm match the textbook") {
  Dice dice(5);
  for (const int64_t pixels : {1, 6, 700}) {
    const int64_t n = 3, c = 12, groups = 4, width = c / groups;
    const Tensor x = random({n, pixels, c}, dice, 2, 3), gamma = random({c}, dice), beta = random({c}, dice);
    const Tensor y = group_norm(x, gamma, beta, int(groups)), z = layer_norm(x, gamma, beta);
    const auto group = [&](int64_t i) { return i / (pixels * c) * groups + i % c / width; };
    for (int64_t i = 0; i < x.size(); i += 7) {
      const Stats s = stats(x, [&](int64_t j) { return group(j) == group(i); });
      REQUIRE(y.at(i) ==
              Approx(normal_of(x.at(i), s, gamma.at(i % c), beta.at(i % c), 1e-5)).epsilon(1e-9).margin(1e-9));
      const Stats row = stats(x, [&](int64_t j) { return j / c == i / c; });
      REQUIRE(z.at(i) ==
              Approx(normal_of(x.at(i), row, gamma.at(i % c), beta.at(i % c), 1e-5)).epsilon(1e-9).margin(1e-9));
    }
  }
}

TEST_CASE("norms and sums are the same by lanes and teams, over odd shapes") {
  Dice dice(6);
  const auto results = [](Tensor x, Tensor gamma, Tensor beta, const Tensor& dy, bool relu, int groups, bool lanes) {
    rehearsal() = lanes;
    for (Tensor* t : {&x, &gamma, &beta}) t->set_requires_grad().set_grad({});
    const Tensor y = groups < 0    ? layer_norm(x, gamma, beta)
                     : groups == 0 ? batch_norm(x, gamma, beta, {}, {}, {.training = true, .relu = relu})
                                   : group_norm(x, gamma, beta, groups, 1e-5, relu);
    backward(y, dy);
    rehearsal() = false;
    return std::vector<Tensor>{y.detach(), x.grad(), gamma.grad(), beta.grad(), sum(x.detach(), {0, 1})};
  };
  for (const DType t : {DType::f64, DType::f32})
    for (const Shape& shape : {Shape{3, 67, 4}, Shape{2, 97, 6}, Shape{1, 33, 1}, Shape{5, 31, 8}, Shape{1, 5, 1030},
                               Shape{2, 1201, 64}, Shape{1, 300'000, 2}})
      for (const int groups : {-1, 0, 1, 2})
        for (const bool relu : {false, true}) {
          const int64_t c = shape[-1];
          if (c % std::max(groups, 1) != 0) continue;
          const Tensor x = random(shape, dice, 2, 3, t), gamma = random({c}, dice, 1, 1, t),
                       beta = random({c}, dice, 0, 1, t), dy = random(shape, dice, 0, 1, t);
          const auto plain = results(x, gamma, beta, dy, relu, groups, false),
                     lanes = results(x, gamma, beta, dy, relu, groups, true);
          const double unit = (t == DType::f64 ? 1e-13 : 1e-5) * std::sqrt(double(x.size()));
          for (size_t i = 0; i < plain.size(); ++i) REQUIRE(distance(plain[i], lanes[i]) < unit * (i == 1 ? 5 : 50));
        }
}

TEST_CASE("a NaN in a channel stays in it") {
  Tensor x = Tensor::full({1, 4, 4, 2}, 1);
  x.data<float>()[4] = NAN;
  const Tensor one = Tensor::full({2}, 1), zero = Tensor::zeros({2});
  for (const bool relu : {false, true}) {
    const Tensor y = batch_norm(x, one, zero, {}, {}, {.training = true, .relu = relu});
    for (int64_t i = 0; i < y.size(); ++i) REQUIRE(std::isnan(y.at(i)) == (i % 2 == 0));
  }
}

TEST_CASE("norms name what does not fit") {
  const Tensor x({2, 2, 2, 4}), four({4}), five({5});
  REQUIRE_THROWS_WITH(batch_norm(x, five, four, {}, {}, {.training = true}), contains("gamma [5]"));
  REQUIRE_THROWS_WITH(batch_norm(x, four, four, {}, {}), contains("batch_norm: where it is not training it needs"));
  REQUIRE_THROWS_WITH(batch_norm(x, four, four, {}, four), contains("both running_mean and running_var"));
  REQUIRE_THROWS_WITH(batch_norm(x, five, four, four, four), contains("batch_norm: gamma") && !contains("frozen"));
  REQUIRE_THROWS_WITH(frozen_batch_norm(x, four, four, {}, four), contains("mean"));
  REQUIRE_THROWS_WITH(group_norm(x, four, four, 3), contains("3 groups"));
  REQUIRE_THROWS_WITH(layer_norm(x, four, five), contains("[5]"));
  REQUIRE_THROWS_WITH(batch_norm(x, four.to(DType::f64), four, {}, {}, {.training = true}), contains("f64"));
}
