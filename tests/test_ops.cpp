// The elementary ops against brute force, at their edges, and in their error messages; and focal loss composed of them.
#include <cmath>
#include <functional>
#include <numeric>

#include "core/threads.h"
#include "ops/broadcast.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/focal_loss.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/samples.h"
#include "ops/shape.h"
#include "ops/softmax.h"
#include "tests/files.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

bool says(const std::function<void()>& f, const std::vector<std::string>& parts) {
  const std::string m = message_of(f);
  for (auto& p : parts)
    if (m.find(p) == std::string::npos) return UNSCOPED_INFO(m), false;
  return true;
}
Tensor vec(const std::vector<float>& v) { return Tensor::from<float>({int64_t(v.size())}, v); }
// Element of `t` under the multi-index of element i of `shape`, axes aligned at the last.
double stretched_at(const Tensor& t, const Shape& shape, int64_t i) {
  int64_t at = 0, stride = 1;
  for (int d = 1; d <= shape.rank(); ++d) {
    const int64_t k = i % shape[-d];
    i /= shape[-d];
    if (d > t.rank()) continue;
    if (t.shape()[-d] != 1) at += k * stride;
    stride *= t.shape()[-d];
  }
  return t.at(at);
}

}  // namespace

TEST_CASE("two operands broadcast in every way, values and gradients") {
  Draw draw(11);
  for (int trial = 0; trial < 60; ++trial) {
    Shape whole, part[2];
    for (int a = 0; a < 4; ++a) whole = whole.plus(draw.size(1, trial % 10 ? 4 : 24));
    for (Shape& s : part) {
      s = whole;
      for (int a = 0; a < 4; ++a)
        if (draw.dice.chance(0.4)) s = s.with(a, 1);
      while (s.rank() > 0 && s[0] == 1 && draw.dice.chance(0.5)) s = s.without(0);
    }
    Tensor a = draw.normal(part[0]), b = draw.normal(part[1]);
    a.set_requires_grad(), b.set_requires_grad();
    const Tensor y = mul(a, b);
    const Shape shape = broadcast("test", part[0], part[1]);
    REQUIRE(y.shape() == shape);
    double wrong = 0;
    for (int64_t i = 0; i < y.size(); ++i)
      wrong = worse(wrong, std::abs(y.at(i) - stretched_at(a, shape, i) * stretched_at(b, shape, i)));
    CHECK(wrong == 0);
    backward(sum(y));  // da = the sum of b over what a was stretched along
    CHECK(distance(a.grad(), sum_to(expand_to(b, shape), part[0])) < 1e-9);
    CHECK(distance(b.grad(), sum_to(expand_to(a, shape), part[1])) < 1e-9);
  }
}

TEST_CASE("pointwise ops at their edges") {
  const float inf = INFINITY;
  CHECK(std::isnan(relu(vec({NAN})).at(0)));  // a NaN is never hidden
  CHECK(std::isnan(maximum(vec({NAN}), vec({1})).at(0)));
  CHECK(std::isnan(minimum(vec({1}), vec({NAN})).at(0)));
  CHECK(std::isnan(clamp(vec({NAN}), 0, 1).at(0)));
  CHECK(relu(vec({-inf, inf})).values<float>() == std::vector<float>{0, inf});
  CHECK(sigmoid(vec({-1e4f, 1e4f})).values<float>() == std::vector<float>{0, 1});
  CHECK(softplus(vec({-1e4f, 1e4f})).values<float>() == std::vector<float>{0, 1e4f});
  CHECK(log_sigmoid(vec({-1e4f, 1e4f})).values<float>() == std::vector<float>{-1e4f, 0});
  CHECK(pow(vec({-2, 0}), 2).values<float>() == std::vector<float>{4, 0});
  CHECK((2.0 / vec({4})).at(0) == 0.5);
  CHECK((1.0 - vec({4})).at(0) == -3);
  for (auto [op, want] : std::vector<std::pair<Tensor (*)(const Tensor&), double>>{{relu, 0}, {abs, 0}}) {
    Tensor x = vec({0}).set_requires_grad();  // the documented gradient at a kink
    backward(op(x));
    CHECK(x.grad().at(0) == want);
  }
  Tensor a = vec({1}).set_requires_grad(), b = vec({1}).set_requires_grad();
  backward(maximum(a, b));
  CHECK(a.grad().at(0) == 1);
  CHECK(b.grad().at(0) == 0);
  a.set_grad({}), b.set_grad({});
  backward(minimum(a, b));
  CHECK((a.grad().at(0) == 1 && b.grad().at(0) == 0));
  const auto slopes = [](std::vector<float> at, auto op) {
    Tensor x = vec(at).set_requires_grad();
    backward(sum(op(x)));
    return x.grad().values<float>();
  };
  CHECK(slopes({-1, 0, 1}, [](auto& x) { return leaky_relu(x, 0.25); }) == std::vector<float>{0.25, 0.25, 1});
  CHECK(slopes({-2, -1, 0, 2, 3}, [](auto& x) { return clamp(x, -1, 2); }) == std::vector<float>{0, 1, 1, 1, 0});
  CHECK(slopes({0, 2}, [](auto& x) { return pow(x, 0); }) == std::vector<float>{0, 0});
}

TEST_CASE("bf16 is storage: computed in f32, rounded once") {
  Draw draw(3);
  const Tensor x = draw.normal({1000}).to(DType::bf16), y = draw.normal({1000}).to(DType::bf16);
  CHECK(distance(mul(x, y), mul(x.to(DType::f32), y.to(DType::f32)).to(DType::bf16)) == 0);
  CHECK(distance(sigmoid(x), sigmoid(x.to(DType::f32)).to(DType::bf16)) == 0);
  const Tensor a = x.clone().set_requires_grad(), wide = x.to(DType::f32).set_requires_grad();
  backward(mul(a, y), y);
  backward(mul(wide, y.to(DType::f32)), y.to(DType::f32));
  CHECK(distance(a.grad(), wide.grad().to(DType::bf16)) == 0);
  CHECK(distance(sum(x), sum(x.to(DType::f32)).to(DType::bf16)) == 0);
  Tensor leaf = x.clone().set_requires_grad();
  backward(sum(leaf * leaf));
  CHECK(distance(leaf.grad(), scale(x, 2)) == 0);
}

TEST_CASE("relu and add_relu keep their output alone") {
  const Tensor x = Tensor::full({1 << 18}, 1).set_requires_grad();
  const size_t before = memory_stats().current;
  const Tensor y = relu(relu(x) * 2.0);  // scale keeps nothing: two outputs of relu live on
  CHECK(memory_stats().current - before <= (size_t{2} << 20) + 4096);
  const Tensor z = add_relu(relu(x * 1.0), x);
  CHECK(memory_stats().current - before <= (size_t{4} << 20) + 4096);
}

TEST_CASE("sums along any axes equal brute force, also where they are long") {
  Draw draw(5);
  for (const Shape& shape : {Shape{3, 40'000}, Shape{40'000, 3}, Shape{2, 5000, 17}, Shape{70'001}, Shape{60, 50, 40},
                             Shape{5, 3, 7, 33}, Shape{2, 100, 3, 50}, Shape{3, 19, 1037}})
    for (int mask = 1; mask < 1 << shape.rank(); ++mask) {
      const Tensor x = draw.normal(shape);
      std::vector<int> axes;
      Shape kept = shape;
      for (int a = 0; a < shape.rank(); ++a)
        if (mask >> a & 1) axes.push_back(a), kept = kept.with(a, 1);
      std::vector<double> want(kept.numel());
      for (int64_t i = 0; i < x.size(); ++i) {
        int64_t rest = i, at = 0, stride = 1;
        for (int a = shape.rank(); a-- > 0; rest /= shape[a])
          if (!(mask >> a & 1)) at += rest % shape[a] * stride, stride *= shape[a];
        want[at] += x.at(i);
      }
      CHECK(distance(sum(x, axes, true), Tensor::from(kept, want)) < 1e-9);
      CHECK(distance(sum(x.to(DType::f32), axes, true), Tensor::from(kept, want)) < 2e-3);
    }
  CHECK(sum(Tensor({0, 3}), {0}).values<float>() == std::vector<float>{0, 0, 0});
  CHECK(std::isnan(mean(Tensor({0})).item()));
  CHECK(sum(Tensor::full({1 << 24}, 0.1)).item() == Approx(0.1f * (1 << 24)).epsilon(2e-5));
  CHECK(sum(Tensor::full({1 << 22, 4}, 0.1), {0}).at(3) == Approx(0.1f * (1 << 22)).epsilon(2e-5));
}

TEST_CASE("max takes the first of equals, NaN wins, and nothing has no max") {
  const Tensor x = Tensor::from<float>({2, 3}, {1, 5, 5, -2, -1, -INFINITY});
  CHECK(argmax(x, 1).values<int64_t>() == std::vector<int64_t>{1, 1});
  CHECK(argmax(x, 0).values<int64_t>() == std::vector<int64_t>{0, 0, 0});
  CHECK(argmax(vec({-INFINITY, -INFINITY}), 0).item() == 0);
  CHECK(argmax(vec({7, NAN, 9, NAN}), 0).item() == 1);
  CHECK(std::isnan(max(vec({7, NAN, 9})).item()));
  Tensor leaf = x.clone().set_requires_grad();
  backward(sum(max(leaf, {1})));
  CHECK(leaf.grad().values<float>() == std::vector<float>{0, 1, 0, 0, 1, 0});
  CHECK_THROWS_AS(max(Tensor({0, 2}), {0}), Error);
  CHECK(max(Tensor({0, 2}), {1}).shape() == Shape{0});
  const Tensor empty = Tensor({3, 0}).set_requires_grad();
  backward(sum(max(empty, {0})));
  CHECK(empty.grad().shape() == Shape{3, 0});
  CHECK_THROWS_WITH(max(empty, {1}), contains("max: nothing to compare"));
  CHECK_THROWS_WITH(argmax(empty, 1), contains("argmax: nothing to compare"));
}

TEST_CASE("matrix products with leading axes and transposes equal loops") {
  Draw draw(9);
  for (int trial = 0; trial < 30; ++trial) {
    const int64_t m = draw.size(1, 9), k = draw.size(1, 9), n = draw.size(1, 9);
    const bool ta = draw.dice.chance(0.5), tb = draw.dice.chance(0.5);
    const Tensor a = draw.normal(ta ? Shape{3, 1, k, m} : Shape{3, 1, m, k}),
                 b = draw.normal(tb ? Shape{2, n, k} : Shape{2, k, n});
    const Tensor c = matmul(a, b, {ta, tb});
    REQUIRE(c.shape() == Shape{3, 2, m, n});
    double wrong = 0;
    for (int64_t i = 0; i < c.size(); ++i) {
      const int64_t col = i % n, row = i / n % m, inner = i / (n * m) % 2, outer = i / (n * m * 2);
      double s = 0;
      for (int64_t p = 0; p < k; ++p)
        s += a.at(outer * m * k + (ta ? p * m + row : row * k + p)) *
             b.at(inner * k * n + (tb ? col * k + p : p * n + col));
      wrong = worse(wrong, std::abs(s - c.at(i)));
    }
    CHECK(wrong < 1e-12);
  }
  CHECK(linear(Tensor::full({0, 4}, 1), Tensor({4, 3})).shape() == Shape{0, 3});
}

TEST_CASE("shape ops move what they say") {
  std::vector<int64_t> count(2 * 3 * 4);
  std::iota(count.begin(), count.end(), 0);
  const Tensor x = Tensor::from({2, 3, 4}, count);
  CHECK(slice(x, 1, 1, 2).values<int64_t>() == std::vector<int64_t>{4, 5, 6, 7, 16, 17, 18, 19});
  CHECK(slice(x, 0, 1, 2).shares_storage(x));
  CHECK(reshape(x, {6, 4}).shares_storage(x));
  CHECK(!slice(x, 2, 1, 2).shares_storage(x));
  const Tensor p = permute(x, {2, 0, 1});
  for (int64_t i = 0; i < 24; ++i) CHECK(p.at(i) == (i / 3 % 2) * 12 + (i % 3) * 4 + i / 6);
  CHECK(concat({slice(x, 1, 0, 1), slice(x, 1, 1, 3)}, 1).values<int64_t>() == count);
  CHECK(pad(vec({1, 2}), {{1, 2}}, 9).values<float>() == std::vector<float>{9, 1, 2, 9, 9});
  CHECK_THROWS_AS(pad(vec({1, 2}), {{INT64_MAX, INT64_MAX}}), Error);
  const Tensor ids = Tensor::from<int64_t>({3}, {2, 0, 2});
  CHECK(gather(x, ids, 1).values<int64_t>() ==
        std::vector<int64_t>{8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11, 20, 21, 22, 23, 12, 13, 14, 15, 20, 21, 22, 23});
  Draw draw(1);
  for (int trial = 0; trial < 20; ++trial) {  // there and back
    const Tensor t = draw.normal({draw.size(1, 6), draw.size(1, 7), draw.size(1, 5), draw.size(1, 40)});
    std::vector<int> order = {0, 1, 2, 3}, back(4);
    for (int i = 3; i > 0; --i) std::swap(order[i], order[draw.pick(0, i)]);
    for (int i = 0; i < 4; ++i) back[order[i]] = i;
    CHECK(distance(permute(permute(t, order), back), t) == 0);
  }
}

TEST_CASE("softmax and cross entropy stay finite and agree") {
  const Tensor x = Tensor::from<float>({2, 3}, {1e4f, -1e4f, 0, 1, 1, 1});
  CHECK(softmax(x).values<float>()[0] == 1);
  CHECK(softmax(x).at(4) == Approx(1.0 / 3));
  CHECK(log_softmax(x).at(1) == -2e4f);
  Tensor far = Tensor::from<float>({1, 2}, {1e6f, 1e6f - 1}).set_requires_grad();  // of which f32 holds 16ths
  CHECK(log_softmax(far).at(0) == Approx(-0.3132617));
  const Tensor loss = cross_entropy(far, Tensor::full({1}, 1, DType::i64));
  CHECK(loss.item() == Approx(1.3132617));
  backward(loss);
  CHECK(far.grad().at(0) == Approx(0.7310586));
  CHECK(far.grad().at(1) == Approx(-0.7310586));
  Draw draw(2);
  const Tensor z = draw.normal({5, 7}, 3), labels = Tensor::from<int64_t>({5}, {0, 6, -100, 3, 3}), l = log_softmax(z);
  CHECK(cross_entropy(z, labels).item() == Approx(-(l.at(0) + l.at(13) + l.at(24) + l.at(31)) / 4));
  CHECK(cross_entropy(z, Tensor::full({5}, -100, DType::i64)).item() == 0);
  // a row that is ignored may hold anything
  Tensor odd = Tensor::from<float>({2, 3}, {1, 2, 3, INFINITY, 0, NAN}).set_requires_grad();
  backward(cross_entropy(odd, Tensor::from<int64_t>({2}, {0, -100})));
  for (int64_t i = 0; i < 3; ++i) CHECK(odd.grad().at(3 + i) == 0);
  CHECK(
      says([&] { cross_entropy(z, Tensor::full({5}, 7, DType::i64)); }, {"cross_entropy", "label 7", "row 0", "0..6"}));
  CHECK(says([&] { cross_entropy(z, Tensor::zeros({5})); }, {"cross_entropy", "labels", "i64", "f32"}));
}

TEST_CASE("max takes the first of equals down long rows and columns, NaN before numbers, for any number of threads") {
  const ThreadCount restored;
  Dice dice(3);
  for (const Shape& shape : {Shape{1, 70'001, 1}, Shape{3, 40'000, 1}, Shape{1, 90, 300}, Shape{5, 33, 129}}) {
    Tensor x(shape);
    for (int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = float(dice.integer(0, 30));
    if (shape[0] != 5) x.data<float>()[x.size() / 2] = x.data<float>()[x.size() / 2 + 1] = NAN;
    const int64_t n = shape[1], inner = shape[2];
    std::vector<int64_t> want;
    for (int64_t r = 0; r < shape[0] * inner; ++r) {
      const float* column = x.data<float>() + r / inner * n * inner + r % inner;
      int64_t best = 0;
      for (int64_t i = 1; i < n; ++i) {
        const float a = column[i * inner], b = column[best * inner];
        if (a > b || (std::isnan(a) && !std::isnan(b))) best = i;
      }
      want.push_back(best);
    }
    for (const int threads : {1, 2, 3, 8}) {
      set_num_threads(threads);
      CHECK(argmax(x, 1).values<int64_t>() == want);
      Tensor leaf = x.clone().set_requires_grad();
      backward(sum(max(leaf, {1})));
      CHECK(argmax(leaf.grad(), 1).values<int64_t>() == want);
      CHECK(sum(leaf.grad()).item() == double(want.size()));
    }
  }
}

TEST_CASE("dropout is a pure function of seed, stream and element, and keeps the mean") {
  const Tensor x = Tensor::full({100'003}, 1);
  const Tensor y = dropout(x, 0.3, 1, 2);
  CHECK(distance(y, dropout(x, 0.3, 1, 2)) == 0);
  CHECK(distance(y, dropout(x, 0.3, 1, 3)) > 0);
  for (const int64_t n : {1, 7, 12, 13}) CHECK(distance(y.rows(0, n), dropout(x.rows(0, n), 0.3, 1, 2)) == 0);
  CHECK(mean(y).item() == Approx(1).margin(0.01));
  CHECK(dropout(x, 0, 1, 2).shares_storage(x));
  Tensor leaf = x.clone().set_requires_grad();
  backward(sum(dropout(leaf, 0.3, 1, 2)));
  CHECK(distance(leaf.grad(), y) == 0);
  CHECK_THROWS_AS(dropout(x, 1, 0, 0), Error);
}

TEST_CASE("errors name the op, both shapes and a way out") {
  const Tensor a({2, 3}), b({4, 5}), i({2}, DType::i64);
  CHECK(says([&] { add(a, b); }, {"add: shapes do not broadcast", "[2, 3]", "[4, 5]", "axis -2 is 2 and 4", "hint"}));
  CHECK(says([&] { matmul(a, b); }, {"matmul: a has 3 columns, b has 4 rows", "[2, 3]", "[4, 5]"}));
  CHECK(says([&] { linear(a, b); }, {"linear: the input has 3 features, the weight expects 4", "(in,out)"}));
  CHECK(says([&] { relu(i); }, {"relu: expected a floating-point tensor, got i64", "hint: to(DType::f32)"}));
  CHECK(
      says([&] { add(a, a.to(DType::f64)); },
           {"add: expected two floating-point tensors of one type, got f32 and f64", "hint: convert one with cast()"}));
  CHECK(says([&] { add(i, i); }, {"got i64 and i64", "hint: to(DType::f32)"}));  // cast() takes no integers
  CHECK(says([&] { cast(i, DType::f32); }, {"cast: from i64 to f32", "hint: to(DType::f32)"}));
  CHECK(says([&] { matmul(a, a.to(DType::f64)); }, {"got f32 and f64", "hint: convert one with cast()"}));
  CHECK(says([&] { sum(a, {0, 0}); }, {"sum: axis 0 is given twice for [2, 3]"}));
  CHECK(says([&] { sum(a, {2}); }, {"sum: axis 2 is out of range for [2, 3]"}));
  CHECK(says([&] { slice(a, 1, 2, 5); }, {"slice: [2, 5) does not fit axis 1 of [2, 3]"}));
  CHECK(says([&] { concat({a, b}, 0); }, {"concat:", "[2, 3]", "[4, 5]"}));
  CHECK(says([&] { permute(a, {0, 0}); }, {"permute:", "[2, 3]"}));
  CHECK(says([&] { gather(a, Tensor::full({1}, 3, DType::i64), 1); }, {"gather: index 3 at place 0 is outside 0..2"}));
  CHECK(says([&] { embedding(a, Tensor::full({1}, -1, DType::i64)); }, {"embedding: index -1", "0..1"}));
  CHECK(says([&] { embedding(Tensor({3}), i); }, {"embedding: the table must be [V,D]", "[3]"}));
  CHECK(says([&] { embedding(a, Tensor({1})); }, {"embedding: the index must be a tensor of i64"}));
  CHECK(says([&] { relu(Tensor()); }, {"relu:"}));
  CHECK(says([&] { dropout(Tensor(), 0.5, 1, 1); }, {"dropout:"}));
}

TEST_CASE("an input that is undefined is called so") {
  const Tensor none, x = Tensor::zeros({2, 2});
  CHECK_THROWS_WITH(reshape(none, {1}), "reshape: the input is undefined");
  CHECK_THROWS_WITH(permute(none, {}), "permute: the input is undefined");
  CHECK_THROWS_WITH(slice(none, 0, 0, 0), "slice: the input is undefined");
  CHECK_THROWS_WITH(concat({x, none}, 0), "concat: an input is undefined");
  CHECK_THROWS_WITH(none.view({1}), "view: the tensor is undefined");
}

TEST_CASE("focal loss written from sigmoid, log and mul equals the fused op, value and gradient") {
  Draw draw(21);
  for (double gamma : {0.0, 0.5, 2.0, 3.0}) {
    const Tensor x = draw.normal({2, 6, 5}, 2), labels = draw.indices({2, 6}, -2, 4);
    Tensor hot = Tensor::zeros(x.shape(), DType::f64), counts = Tensor::full({2, 6, 1}, 1, DType::f64);
    for (int64_t r = 0; r < labels.size(); ++r) {
      const int64_t k = labels.data<int64_t>()[r];
      if (k >= 0) hot.data<double>()[r * 5 + k] = 1;
      if (k == -2) counts.data<double>()[r] = 0;
    }
    Tensor fused = x.clone().set_requires_grad(), composed = x.clone().set_requires_grad();
    const Tensor a = sigmoid_focal_loss(fused, labels, {.alpha = 0.25, .gamma = gamma});
    const Tensor p = sigmoid(composed), pt = p * hot + (1.0 - p) * (1.0 - hot), alpha = 0.25 * hot + 0.75 * (1.0 - hot);
    const Tensor b = sum(neg(alpha * pow(1.0 - pt, gamma) * log(pt)) * counts, {1, 2});
    CHECK(distance(a, b) < 1e-12 * (1 + std::abs(b.at(0))));
    const Tensor seed = draw.normal({2});
    backward(a, seed), backward(b, seed);
    CHECK(distance(fused.grad(), composed.grad()) < 1e-11);
  }
}
