// Pooling and resizing against loops over definitions, torch's rules for the odd cases, and gradients by counting.
#include <climits>
#include <cmath>

#include "core/autograd.h"
#include "core/random.h"
#include "ops/pool.h"
#include "ops/reduce.h"
#include "ops/resize.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

double at(const Tensor& x, int64_t n, int64_t h, int64_t w, int64_t c) {
  return x.at(((n * x.dim(1) + h) * x.dim(2) + w) * x.dim(3) + c);
}
template <class F> void each_element(const Tensor& y, F f) {
  for (int64_t n = 0; n < y.dim(0); ++n)
    for (int64_t h = 0; h < y.dim(1); ++h)
      for (int64_t w = 0; w < y.dim(2); ++w)
        for (int64_t c = 0; c < y.dim(3); ++c) f(n, h, w, c);
}
// <dy, J dx> == <J^T dy, dx> for a linear op J: its gradient is its transpose.
template <class F> void check_linear(const Shape& shape, Dice& dice, F op) {
  Tensor x = random(shape, dice);
  x.set_requires_grad();
  const Tensor y = op(x), dy = random(y.shape(), dice);
  backward(y, dy);
  double left = 0, right = 0;
  for (int64_t i = 0; i < y.size(); ++i) left += y.at(i) * dy.at(i);
  for (int64_t i = 0; i < x.size(); ++i) right += x.at(i) * x.grad().at(i);
  REQUIRE(left == Approx(right).epsilon(1e-10).margin(1e-10));
}

// The loops of f32, which are others than those of f64, value and gradient.
template <class F> void check_f32(const Shape& shape, Dice& dice, F op) {
  Tensor narrow = random(shape, dice).to(DType::f32), wide = narrow.to(DType::f64);
  const Tensor y = op(narrow.set_requires_grad()), z = op(wide.set_requires_grad());
  const Tensor dy = random(y.shape(), dice).to(DType::f32);
  backward(y, dy);
  backward(z, dy.to(DType::f64));
  CHECK(difference(y, z) < 1e-5);
  CHECK(difference(narrow.grad(), wide.grad()) < 1e-5);
}

}  // namespace

TEST_CASE("max and average pooling match loops over the windows") {
  Dice dice(1);
  for (int round = 0; round < 60; ++round) {
    const Int2 k{int(dice.integer(1, 4)), int(dice.integer(1, 4))}, s{int(dice.integer(1, 4)), int(dice.integer(1, 4))};
    const Int2 p{int(dice.integer(0, k.h / 2)), int(dice.integer(0, k.w / 2))};
    const PoolOptions o{.kernel = k, .stride = s, .pad = p, .ceil = dice.chance(0.5), .count_pad = dice.chance(0.5)};
    // with ceil a window may be larger than the padded image
    const auto side = [&](int kernel, int stride, int pad) {
      return dice.integer(std::max<int64_t>(1, kernel - 2 * pad - (o.ceil ? stride - 1 : 0)), 9);
    };
    const int64_t h = side(k.h, s.h, p.h), w = side(k.w, s.w, p.w), c = dice.integer(1, round % 2 ? 35 : 150);
    const Tensor x = random({dice.integer(1, 2), h, w, c}, dice), big = max_pool2d(x, o), mean = avg_pool2d(x, o);
    REQUIRE(big.shape() == mean.shape());
    if (!o.ceil) REQUIRE(big.dim(1) == (h + 2 * p.h - k.h) / s.h + 1);
    each_element(big, [&](int64_t n, int64_t oy, int64_t ox, int64_t ch) {
      double best = -INFINITY, sum = 0, inside = 0, counted = 0;
      for (int64_t y = oy * s.h - p.h; y < oy * s.h - p.h + k.h; ++y)
        for (int64_t z = ox * s.w - p.w; z < ox * s.w - p.w + k.w; ++z) {
          counted += y < h + p.h && z < w + p.w;
          if (y < 0 || z < 0 || y >= h || z >= w) continue;
          best = std::max(best, at(x, n, y, z, ch));
          sum += at(x, n, y, z, ch), ++inside;
        }
      REQUIRE(at(big, n, oy, ox, ch) == best);
      REQUIRE(at(mean, n, oy, ox, ch) == Approx(sum / (o.count_pad ? counted : inside)).margin(1e-12));
    });
    check_linear(x.shape(), dice, [&](const Tensor& t) { return avg_pool2d(t, o); });
    check_linear(x.shape(), dice, [&](const Tensor& t) { return max_pool2d(t, o); });  // linear where the winners stay
    check_f32(x.shape(), dice, [&](const Tensor& t) { return max_pool2d(t, o); });
    check_f32(x.shape(), dice, [&](const Tensor& t) { return avg_pool2d(t, o); });
  }
}

TEST_CASE("max pooling: the first of equal values wins, NaN wins, padding never does, large kernels work") {
  Tensor x = Tensor::full({1, 2, 2, 1}, 5);
  x.set_requires_grad();
  backward(max_pool2d(x));
  REQUIRE(x.grad().values<float>() == std::vector<float>{1, 0, 0, 0});
  Tensor flat = Tensor::full({1, 4, 4, 21}, 2);  // 16 pixels in a window
  backward(sum(max_pool2d(flat.set_requires_grad(), {.kernel = 4})));
  REQUIRE(sum(flat.grad()).item() == 21);
  REQUIRE(sum(flat.grad().view({16, 21}).rows(0, 1)).item() == 21);
  const Tensor nan = Tensor::from<float>({1, 1, 4, 1}, {1, NAN, 3, 2});
  REQUIRE(std::isnan(max_pool2d(nan, {.kernel = {1, 4}}).item()));
  const Tensor low = Tensor::full({1, 2, 2, 1}, -7);
  REQUIRE(max_pool2d(low, {.kernel = 3, .pad = 1}).values<float>() == std::vector<float>{-7});
  Dice dice(2);
  check_linear({1, 40, 40, 2}, dice,
               [](const Tensor& t) { return max_pool2d(t, {.kernel = 19, .stride = 3, .pad = 9}); });
  // with ceil, torch drops a window that would start in the right padding: 3 -> 2, not 3
  REQUIRE(max_pool2d(Tensor({1, 3, 3, 1}), {.kernel = 2, .stride = 2, .pad = 1, .ceil = true}).dim(1) == 2);
  REQUIRE(max_pool2d(Tensor({0, 4, 4, 3})).shape() == Shape{0, 2, 2, 3});
}

TEST_CASE("adaptive pooling covers the image with torch's windows") {
  Dice dice(3);
  for (const auto& [in, out] : {std::pair<int, int>{7, 1}, {7, 3}, {3, 7}, {5, 5}, {10, 4}}) {
    const Tensor x = random({2, in, 6, 3}, dice), y = adaptive_avg_pool2d(x, {out, 2});
    each_element(y, [&, in = in, out = out](int64_t n, int64_t oy, int64_t ox, int64_t c) {
      const int64_t begin = oy * in / out, end = (in * (oy + 1) + out - 1) / out;
      double sum = 0;
      for (int64_t h = begin; h < end; ++h)
        for (int64_t w = 3 * ox; w < 3 * ox + 3; ++w) sum += at(x, n, h, w, c);
      REQUIRE(at(y, n, oy, ox, c) == Approx(sum / double(3 * (end - begin))).margin(1e-12));
    });
    check_linear(x.shape(), dice, [out = out](const Tensor& t) { return adaptive_avg_pool2d(t, {out, 2}); });
    check_f32({2, in, 6, 67}, dice, [out = out](const Tensor& t) { return adaptive_avg_pool2d(t, {out, 2}); });
  }
  const Tensor large = Tensor::full({1, 300, 300, 67}, 0.1);
  CHECK(adaptive_avg_pool2d(large, 1).at(66) == Approx(0.1f).epsilon(1e-6));
  CHECK(avg_pool2d(large, {.kernel = 299, .stride = 299, .pad = 1, .ceil = true}).at(0) ==
        Approx(0.1f * 298 * 298 / (299 * 299)).epsilon(1e-6));
}

TEST_CASE("nearest resizing: a factor, and odd sizes as in a pyramid") {
  Dice dice(4);
  const Tensor x = random({1, 2, 2, 1}, dice), y = resize_nearest(x, 5, 5);
  const int source[] = {0, 0, 0, 1, 1};  // floor(o * 2 / 5)
  each_element(y, [&](int64_t, int64_t h, int64_t w, int64_t) {
    REQUIRE(at(y, 0, h, w, 0) == at(x, 0, source[h], source[w], 0));
  });
  for (int64_t in = 1; in < 40; ++in)
    for (int64_t out = 1; out < 60; out += 7) {
      Tensor line = random({1, in, 1, 1}, dice);
      line.set_requires_grad();
      const Tensor resized = resize_nearest(line, out, 1);
      for (int64_t o = 0; o < out; ++o) {
        const auto i = std::min<int64_t>(int64_t(std::floor(float(o) * (float(in) / float(out)))), in - 1);
        REQUIRE(resized.at(o) == line.at(i));
      }
      backward(resized, Tensor::full(resized.shape(), 1, DType::f64));
      double readers = 0;
      for (int64_t i = 0; i < in; ++i) readers += line.grad().at(i);
      REQUIRE(readers == out);
    }
}

TEST_CASE("bilinear resizing interpolates between pixel centres") {
  const Tensor ramp = Tensor::from<double>({1, 1, 4, 1}, {0, 1, 2, 3});
  const Tensor twice = resize_bilinear(ramp, 1, 8);
  REQUIRE(twice.values<double>() == std::vector<double>{0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3});
  REQUIRE(resize_bilinear(ramp, 1, 2).values<double>() == std::vector<double>{0.5, 2.5});
  REQUIRE(resize_bilinear(ramp, 3, 4).values<double>() == std::vector<double>{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3});
  Dice dice(5);
  for (int round = 0; round < 40; ++round) {
    const Shape shape{1, dice.integer(1, 9), dice.integer(1, 9), 2};
    const int64_t h = dice.integer(1, 20), w = dice.integer(1, 20);
    check_linear(shape, dice, [&](const Tensor& t) { return resize_bilinear(t, h, w); });
    check_linear(shape, dice, [&](const Tensor& t) { return resize_nearest(t, h, w); });
    const Shape wide = shape.with(3, dice.integer(1, 150));
    check_f32(wide, dice, [&](const Tensor& t) { return resize_bilinear(t, h, w); });
    check_f32(wide, dice, [&](const Tensor& t) { return resize_nearest(t, h, w); });
    const Tensor flat = resize_bilinear(Tensor::full(shape, 3, DType::f64), h, w);  // the weights of a pixel sum to 1
    for (int64_t i = 0; i < flat.size(); ++i) REQUIRE(flat.at(i) == Approx(3));
  }
}

TEST_CASE("pooling and resizing name what does not fit") {
  CHECK_THROWS_WITH(resize_bilinear(Tensor({1, 2, 2, 3}, DType::u8), 4, 4),
                    contains("resize_bilinear: expected a tensor of f32 or f64, got u8\n  hint: to(DType::f32)"));
  const Tensor x({1, 4, 4, 2});
  REQUIRE_THROWS_WITH(max_pool2d(x, {.kernel = 5}), contains("does not fit"));
  REQUIRE_THROWS_WITH(max_pool2d(x, {.kernel = 2, .pad = INT_MAX}), contains("half the kernel"));
  REQUIRE_THROWS_WITH(max_pool2d(x, {.kernel = 3, .pad = 2}), contains("half the kernel"));
  REQUIRE_THROWS_WITH(avg_pool2d(Tensor({4, 4})), contains("[N,H,W,C]"));
  REQUIRE_THROWS_WITH(resize_nearest(x, 0, 3), contains("0 x 3"));
  REQUIRE_THROWS_WITH(adaptive_avg_pool2d(Tensor({1, 0, 4, 2}), 1), contains("[1, 0, 4, 2]"));
  REQUIRE_THROWS_WITH(adaptive_avg_pool2d(x, {0, 1}), contains("to 0 x 1"));
}
