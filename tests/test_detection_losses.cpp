// Focal, regression and IoU losses: published values, limits, saturated logits, compositions, brute force in f64.
#include <cmath>

#include "core/autograd.h"
#include "core/random.h"
#include "ops/focal_loss.h"
#include "ops/iou_loss.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/regression_loss.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

struct Point {
  double loss, slope;
};
template <class F> Point at_logit(double x, int64_t label, DType t, F loss) {
  Tensor logits = Tensor::full({1, 1, 1}, x, t);
  logits.set_requires_grad();
  const Tensor y = loss(logits, Tensor::from<int64_t>({1, 1}, {label}));
  backward(y, Tensor::full({1}, 1, t));
  return {y.item(), logits.grad().item()};
}
Point focal(double x, bool positive, FocalOptions o = {}, DType t = DType::f64) {
  return at_logit(x, positive ? 0 : -1, t,
                  [&](const Tensor& a, const Tensor& b) { return sigmoid_focal_loss(a, b, o); });
}
double logit(double p) { return std::log(p / (1 - p)); }

Tensor random_labels(int64_t n, int64_t r, int64_t k, Dice& dice) {
  Tensor y({n, r}, DType::i64);
  for (int64_t i = 0; i < y.size(); ++i) y.data<int64_t>()[i] = dice.integer(-2, k - 1);
  return y;
}
Tensor box(double a, double b, double c, double d) { return Tensor::from<double>({1, 4}, {a, b, c, d}); }

}  // namespace

TEST_CASE("focal loss has the published values") {
  struct Row {
    double x;
    bool positive;
    double loss, slope;
  };
  for (const Row& r :
       {Row{logit(0.01), true, 1.128381824822, -.2651423864964}, Row{0, true, .0433216987850, -.0745716987850},
        Row{logit(0.9), false, 1.398820443994, .8265140887988}, Row{-100, true, 25, -.25}, Row{100, false, 75, .75},
        Row{-100, false, 0, 0}}) {
    const Point p = focal(r.x, r.positive), q = focal(r.x, r.positive, {}, DType::f32);
    REQUIRE(p.loss == Approx(r.loss).epsilon(1e-11).margin(1e-30));
    REQUIRE(p.slope == Approx(r.slope).epsilon(1e-11).margin(1e-30));
    REQUIRE(q.loss == Approx(r.loss).epsilon(1e-5).margin(1e-30));
    REQUIRE(q.slope == Approx(r.slope).epsilon(1e-5).margin(1e-30));
  }
}

TEST_CASE("focal loss is finite and has the right sign for every logit up to 10^4 and every gamma") {
  for (const DType t : {DType::f32, DType::f64})
    for (const double gamma : {0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 50.0})
      for (const auto& alpha : {std::optional(0.25), std::optional(0.0), std::optional(1.0), std::optional<double>()})
        for (const bool positive : {false, true})
          for (double x = 1e-3; x <= 1e4; x *= 1.7)
            for (const double sign : {-1, 1}) {
              const Point p = focal(sign * x, positive, {alpha, gamma}, t);
              REQUIRE(std::isfinite(p.loss));
              REQUIRE(std::isfinite(p.slope));
              REQUIRE(p.loss >= 0);
              REQUIRE((positive ? p.slope <= 0 : p.slope >= 0));
              if (alpha && *alpha == (positive ? 0 : 1)) REQUIRE(p.loss == 0);
            }
}

TEST_CASE("focal loss over cross entropy is alpha_t (1 - p_t)^gamma; gamma 0 without alpha is the cross entropy") {
  for (double x = -30; x <= 30; x += 0.37)
    for (const bool positive : {false, true}) {
      const Point ce = focal(x, positive, {std::nullopt, 0});
      const double z = positive ? -x : x, q = 1 / (1 + std::exp(-z));
      REQUIRE(ce.loss == Approx(z > 0 ? z + std::log1p(std::exp(-z)) : std::log1p(std::exp(z))).epsilon(1e-12));
      REQUIRE(ce.slope == Approx(positive ? -q : q).epsilon(1e-12));
      for (const double gamma : {0.5, 1.0, 2.0, 3.7}) {
        const Point fl = focal(x, positive, {0.3, gamma});
        REQUIRE(fl.loss == Approx(ce.loss * (positive ? 0.3 : 0.7) * std::pow(q, gamma)).epsilon(1e-9).margin(1e-300));
        REQUIRE(fl.loss <= ce.loss);
      }
      const Point star = at_logit(x, positive ? 0 : -1, DType::f64, [](const Tensor& a, const Tensor& b) {
        return focal_loss_star(a, b, {.alpha = {}, .gamma = 1, .beta = 0});
      });
      REQUIRE(star.loss == Approx(ce.loss).epsilon(1e-12));
      REQUIRE(star.slope == Approx(ce.slope).epsilon(1e-12));
    }
}

TEST_CASE("hinge loss on p_t: by hand, flat above the margin and for saturated logits") {
  for (const bool positive : {true, false})
    for (const double x : {-1000.0, -6.0, -1.0, 0.0, 0.7, 3.0, 800.0})
      for (const double margin : {0.5, 0.9, 1.0}) {
        const Point p = at_logit(x, positive ? 0 : -1, DType::f64, [&](const Tensor& a, const Tensor& b) {
          return sigmoid_hinge_loss(a, b, {.alpha = 0.3, .margin = margin});
        });
        const double pt = 1 / (1 + std::exp(positive ? -x : x)), weight = positive ? 0.3 : 0.7;
        INFO(x << " " << positive << " " << margin);
        CHECK(p.loss == Approx(weight * std::max(0.0, margin - pt)).margin(1e-12));
        CHECK(p.slope == Approx(pt < margin ? (positive ? -weight : weight) * pt * (1 - pt) : 0.0).margin(1e-12));
      }
  const Tensor x = Tensor::zeros({1, 1, 1}), y = Tensor::zeros({1, 1}, DType::i64);
  REQUIRE_THROWS_WITH(sigmoid_hinge_loss(x, y, {.alpha = {}, .margin = 0}), contains("margin 0"));
}

TEST_CASE("the slopes that focal loss keeps survive a graph that is retained") {
  Tensor x = Tensor::from<double>({1, 2, 2}, {0.3, -1.2, 2.0, 0.1});
  const Tensor loss = sigmoid_focal_loss(x.set_requires_grad(), Tensor::from<int64_t>({1, 2}, {1, -1}));
  std::vector<double> once;
  for (const int times : {1, 2, 3}) {  // the gradients add up
    backward(loss, Tensor::full({1}, 0.5, DType::f64), {.retain_graph = times < 3});
    if (times == 1) once = x.grad().values<double>();
    for (int64_t i = 0; i < 4; ++i) CHECK(x.grad().at(i) == Approx(times * once[size_t(i)]));
  }
}

TEST_CASE("focal loss sums over an image; -1 is background, -2 is left out") {
  Dice dice(1);
  for (const DType t : {DType::f64, DType::f32})
    for (const auto& [n, r, k] :
         {std::tuple<int64_t, int64_t, int64_t>{3, 7, 5}, {2, 500, 80}, {2, 3, 1}, {0, 4, 3}, {2, 0, 3}}) {
      const Tensor x = random({n, r, k}, dice, 0, 3, t), labels = random_labels(n, r, k, dice);
      const Tensor y = sigmoid_focal_loss(x, labels, {0.25, 1.5});
      for (int64_t i = 0; i < n; ++i) {
        double sum = 0;
        for (int64_t j = i * r * k; j < (i + 1) * r * k; ++j) {
          const int64_t label = int64_t(labels.at(j / k));
          if (label != -2) sum += focal(x.at(j), label == j % k, {0.25, 1.5}).loss;
        }
        REQUIRE(y.at(i) == Approx(sum).epsilon(t == DType::f64 ? 1e-10 : 1e-5).margin(1e-12));
      }
    }
}

TEST_CASE("focal loss written from sigmoid, log and mul has the fused op's value and gradient") {
  Dice dice(2);
  const int64_t n = 2, r = 9, k = 4;
  Tensor x = random({n, r, k}, dice, 0, 2), again = x.clone();
  const Tensor labels = random_labels(n, r, k, dice), weight = random({n}, dice);
  Tensor sign(x.shape(), DType::f64), alpha(x.shape(), DType::f64);
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t label = int64_t(labels.at(i / k));
    sign.data<double>()[i] = label == i % k ? 1 : -1;
    alpha.data<double>()[i] = label == -2 ? 0 : label == i % k ? 0.25 : 0.75;
  }
  x.set_requires_grad(), again.set_requires_grad();
  const Tensor fused = sigmoid_focal_loss(x, labels);
  const Tensor pt = sigmoid(mul(again, sign)), far = 1.0 - pt;
  const Tensor composed = sum(mul(alpha, mul(mul(far, far), neg(log(pt)))), {1, 2});
  backward(fused, weight), backward(composed, weight);
  for (int64_t i = 0; i < n; ++i) REQUIRE(fused.at(i) == Approx(composed.at(i)).epsilon(1e-12));
  for (int64_t i = 0; i < x.size(); ++i)
    REQUIRE(x.grad().at(i) == Approx(again.grad().at(i)).epsilon(1e-9).margin(1e-12));
}

TEST_CASE("the first loss of a network with the prior 0.01 is what the paper's initialisation predicts") {
  const int64_t anchors = 2000, classes = 80;
  Tensor labels = Tensor::full({1, anchors}, -1, DType::i64);
  for (int i = 0; i < 10; ++i) labels.data<int64_t>()[i * 7] = i;
  const double loss = sigmoid_focal_loss(Tensor::full({1, anchors, classes}, -4.59511985013459), labels).item() / 10;
  REQUIRE(loss == Approx(1.12838 + double(anchors * classes) * 7.5378e-7 / 10).epsilon(1e-4));
}

TEST_CASE("smooth L1, L1 and L2 have the published values") {
  const Tensor a = Tensor::from<double>({3, 1}, {0.1, 0, 1.5}), zero = Tensor::zeros({3, 1}, DType::f64);
  const auto near = [](const Tensor& y, const std::vector<double>& expected) {
    for (size_t i = 0; i < expected.size(); ++i) REQUIRE(y.at(int64_t(i)) == Approx(expected[i]).margin(1e-15));
  };
  near(smooth_l1(a, zero, 0.5), {0.01, 0, 1.25});
  near(smooth_l1(a, zero, 0.05), {0.075, 0, 1.475});
  near(smooth_l1(zero, a, 0), {0.1, 0, 1.5});
  near(l1_loss(a, zero), {0.1, 0, 1.5});
  near(l2_loss(a, zero), {0.01, 0, 2.25});
  Tensor x = Tensor::from<double>({2, 3}, {1, -2, 0, 0.25, 3, 0});
  x.set_requires_grad();
  backward(sum(smooth_l1(x, Tensor::zeros({2, 3}, DType::f64), 1)));
  REQUIRE(x.grad().values<double>() == std::vector<double>{1, -1, 0, 0.25, 1, 0});
  for (const bool smooth : {false, true}) {
    x.set_grad({});
    const Tensor none = Tensor::zeros({2, 3}, DType::f64);
    backward(sum(smooth ? smooth_l1(x, none, 0) : l1_loss(x, none)));
    REQUIRE(x.grad().values<double>() == std::vector<double>{1, -1, 0, 1, 1, 0});
  }
  REQUIRE(smooth_l1(Tensor({0, 4}), Tensor({0, 4})).shape() == Shape{0});
}

TEST_CASE("IoU losses have the published values") {
  const Tensor unit = box(0, 0, 1, 1), square = box(-1, -1, 1, 1), flat = box(0, -1, 1, 1);
  REQUIRE(giou_loss(square, square).item() == Approx(0).margin(1e-6));
  REQUIRE(giou_loss(square, unit).item() == Approx(0.75).epsilon(1e-6));
  REQUIRE(giou_loss(unit, box(0, 1, 1, 2)).item() == Approx(1).epsilon(1e-6));
  REQUIRE(giou_loss(unit, box(1, 1, 2, 2)).item() == Approx(1.5).epsilon(1e-6));
  REQUIRE(giou_loss(unit, box(2, 3, 3, 4)).item() == Approx(1 + 10 / 12.0).epsilon(1e-6));  // apart on both axes
  REQUIRE(iou_loss(unit, box(2, 3, 3, 4)).item() == Approx(1).epsilon(1e-6));
  REQUIRE(iou_loss(square, unit).item() == Approx(0.75).epsilon(1e-6));
  REQUIRE(diou_loss(square, flat).item() == Approx(0.53125).epsilon(1e-6));
  REQUIRE(diou_loss(unit, box(1, 1, 2, 2)).item() == Approx(1.25).epsilon(1e-6));
  REQUIRE(ciou_loss(square, flat).item() == Approx(0.5345).epsilon(1e-4));
  REQUIRE(ciou_loss(unit, box(1, 1, 2, 2)).item() == Approx(1.25).epsilon(1e-6));
  for (auto* loss : {iou_loss, giou_loss, diou_loss, ciou_loss}) {
    Tensor none({0, 4});
    none.set_requires_grad();
    backward(sum(loss(none, Tensor({0, 4}), {})));
    REQUIRE(none.grad().shape() == Shape{0, 4});
    Tensor point = box(3, 3, 3, 3);  // degenerate, far from its target and alike: finite
    point.set_requires_grad();
    const Tensor y = loss(point, box(5, 5, 5, 5), {}), same = loss(point, point, {});
    backward(y);
    REQUIRE(std::isfinite(y.item() + same.item()));
    for (int i = 0; i < 4; ++i) REQUIRE(std::isfinite(point.grad().at(i)));
  }
}

TEST_CASE("with a constant alpha, CIoU's gradient is that of DIoU + alpha v for the alpha at hand") {
  Dice dice(3);
  const auto shape_term = [](const Tensor& a, const Tensor& b) {
    const auto ratio = [](const Tensor& t) { return std::atan((t.at(2) - t.at(0)) / (t.at(3) - t.at(1))); };
    return std::pow(2 / M_PI * (ratio(b) - ratio(a)), 2);
  };
  for (int round = 0; round < 50; ++round) {
    const auto draw = [&] {
      const double x = dice.uniform(0, 5), y = dice.uniform(0, 5);
      return box(x, y, x + dice.uniform(0.5, 6), y + dice.uniform(0.5, 6));
    };
    Tensor a = draw();
    const Tensor b = draw();
    const double v0 = shape_term(a, b), alpha = v0 / (iou_loss(a, b).item() + v0 + 1e-7);
    const auto frozen = [&](const Tensor& t) { return diou_loss(t, b).item() + alpha * shape_term(t, b); };
    REQUIRE(ciou_loss(a, b).item() == Approx(frozen(a)).epsilon(1e-10));
    a.set_requires_grad();
    backward(ciou_loss(a, b));
    for (int i = 0; i < 4; ++i) {
      Tensor up = a.clone(), down = a.clone();
      up.data<double>()[i] += 1e-6, down.data<double>()[i] -= 1e-6;
      REQUIRE(a.grad().at(i) == Approx((frozen(up) - frozen(down)) / 2e-6).epsilon(1e-5).margin(1e-8));
    }
  }
}

TEST_CASE("losses name what does not fit") {
  const Tensor x({2, 3, 4}), labels = Tensor::from<int64_t>({2, 3}, {0, 1, 2, 3, 4, -1});
  REQUIRE_THROWS_WITH(sigmoid_focal_loss(x, labels), contains("label 4 of anchor 1 in image 1"));
  REQUIRE_THROWS_WITH(sigmoid_focal_loss(x, Tensor({2, 4}, DType::i64)), contains("labels [2, 4]"));
  REQUIRE_THROWS_WITH(sigmoid_focal_loss(x, Tensor::zeros({2, 3}, DType::i64), {0.25, -1}), contains("gamma -1"));
  REQUIRE_THROWS_WITH(sigmoid_focal_loss(x, Tensor::zeros({2, 3}, DType::i64), {0.25, INFINITY}), contains("finite"));
  REQUIRE_THROWS_WITH(sigmoid_focal_loss(x, Tensor::zeros({2, 3}, DType::i64), {25, 2}), contains("alpha 25"));
  const Tensor low = Tensor::full({2, 3}, -3, DType::i64), none = Tensor::full({2, 3}, -1, DType::i64);
  REQUIRE_THROWS_WITH(sigmoid_focal_loss(x, low), contains("label -3 of anchor 0"));
  REQUIRE_THROWS_WITH(sigmoid_hinge_loss(x, none, {.alpha = {}, .margin = 1.5}), contains("margin 1.5"));
  REQUIRE_THROWS_WITH(focal_loss_star(x, none, {.gamma = 0}), contains("gamma 0 must be above 0"));
  REQUIRE_THROWS_WITH(smooth_l1(Tensor({2, 4}), Tensor({3, 4})), contains("[3, 4]"));
  REQUIRE_THROWS_WITH(giou_loss(Tensor({2, 5}), Tensor({2, 5})), contains("[R,4]"));
}
