// The losses of RetinaNet against sums written out by hand, all normalisers, ignore regions, and the prior's
// prediction.
#include <cmath>

#include "core/autograd.h"
#include "core/error.h"
#include "models/retinanet.h"
#include "tests/catch.h"

using namespace fovea;

namespace {

// One level of two anchors an image, one class; logits and deltas given.
struct Small {
  RetinaNetOptions options{.backbone = "tiny",
                           .classes = 2,
                           .backbone_norm = "batch",
                           .freeze_stages = 0,
                           .last_level = 5,
                           .channels = 8,
                           .tower_depth = 1,
                           .anchors = {.scales = {1}, .ratios = {1}}};
  RetinaNet::Output out;
  std::vector<Target> targets;

  explicit Small(int64_t images = 2) {
    out.anchors = {Tensor::from<float>({3, 4}, {0, 0, 10, 10, 20, 20, 40, 40, 100, 100, 110, 110})};
    std::vector<float> logits, deltas;
    for (int64_t i = 0; i < images * 6; ++i) logits.push_back(0.3f * float(i) - 1);
    for (int64_t i = 0; i < images * 12; ++i) deltas.push_back(0.05f * float(i % 7) - 0.1f);
    out.logits = {Tensor::from({images, 3, 2}, logits).set_requires_grad()};
    out.deltas = {Tensor::from({images, 3, 4}, deltas).set_requires_grad()};
    targets.resize(static_cast<size_t>(images));
    targets[0] = {.boxes = {{1, 0, 9, 10}}, .labels = {1}};  // IoU 0.8 with the first anchor
  }
  RetinaNet::Losses loss() { return RetinaNet(options).loss(out, targets); }
};

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double focal(double x, bool positive) {
  const double p = positive ? sigmoid(x) : 1 - sigmoid(x);
  return (positive ? 0.25 : 0.75) * (1 - p) * (1 - p) * -std::log(p);
}

// Image `image`'s sum of focal losses where anchor 0 holds class `label` (-1: nothing).
double focal_sum(const Small& s, int64_t image, int label) {
  double total = 0;
  for (int64_t a = 0; a < 3; ++a)
    for (int64_t k = 0; k < 2; ++k) total += focal(s.out.logits[0].at(image * 6 + a * 2 + k), a == 0 && k == label);
  return total;
}

}  // namespace

TEST_CASE("losses: every normaliser, by hand") {
  Small s;
  const double first = focal_sum(s, 0, 1), second = focal_sum(s, 1, -1);
  // deltas of anchor 0 of image 0: -0.1 -0.05 0 0.05; targets: 0 0 log 0.8 0
  const auto smooth = [](double d) { return std::abs(d) < 0.11 ? d * d / 0.22 : std::abs(d) - 0.055; };
  const double box = smooth(0.1) + smooth(0.05) + smooth(std::log(0.8)) + smooth(0.05);
  struct Case {
    const char* name;
    double first, second;
  };
  const double ema = 0.9 * 100 + 0.1;
  for (auto [name, a, b] : {Case{"per_image", 0.5, 0.5}, Case{"batch", 1, 1}, Case{"detectron", 1 / 3.0, 1 / 3.0},
                            Case{"ema", 1 / ema, 1 / ema}}) {
    INFO(name);
    s.options.normaliser = name;
    const auto losses = s.loss();
    CHECK(losses.classification.item() == Approx(a * first + b * second));
    CHECK(losses.box.item() == Approx(a * box));
    CHECK(losses.total().item() == Approx(a * first + b * second + a * box));
    CHECK(losses.stats().positives == std::vector<int64_t>{1});
    CHECK(losses.stats().image_positives == std::vector<int64_t>{1, 0});
  }
}

TEST_CASE("losses: kinds of box loss, by hand") {
  Small s(1);
  s.out.deltas[0].fill(0);  // predicts the anchor itself: IoU 0.8 with the box [1,0,9,10]
  struct Case {
    const char* name;
    double value;
  };
  const double aspect = 4 / (M_PI * M_PI) * std::pow(std::atan(0.8) - std::atan(1.0), 2);
  for (auto [name, value] : {Case{"l1", -std::log(0.8)}, Case{"l2", std::pow(std::log(0.8), 2)}, Case{"iou", 0.2},
                             Case{"giou", 0.2}, Case{"diou", 0.2}, Case{"ciou", 0.2 + aspect * aspect / (0.2 + aspect)},
                             Case{"smooth_l1", -std::log(0.8) - 0.055}}) {
    INFO(name);
    s.options.box_loss = name;
    CHECK(s.loss().box.item() == Approx(value).epsilon(1e-4));
    s.options.box_weight = 3;
    CHECK(s.loss().box.item() == Approx(3 * value).epsilon(1e-4));
    s.options.box_weight = 1;
  }
}

TEST_CASE("losses: ignore regions and padding take anchors out of the background") {
  Small s(1);
  s.targets[0].ignore = {{15, 15, 45, 45}};  // around anchor 1
  double expected = focal_sum(s, 0, 1);
  for (int64_t k = 0; k < 2; ++k) expected -= focal(s.out.logits[0].at(2 + k), false);
  CHECK(s.loss().classification.item() == Approx(expected));
  s.options.ignore_outside = true;
  s.targets[0].size = {50, 50};  // anchor 2 is centred at 105
  for (int64_t k = 0; k < 2; ++k) expected -= focal(s.out.logits[0].at(4 + k), false);
  const auto losses = s.loss();
  CHECK(losses.classification.item() == Approx(expected));
  CHECK(losses.stats().image_ignored == std::vector<int64_t>{2});
  auto l = losses.total();
  backward(l);
  for (int64_t i = 2; i < 6; ++i) CHECK(s.out.logits[0].grad().at(i) == 0);
}

TEST_CASE("losses: softmax with a background, by hand; ignored anchors have no part") {
  Small s(1);
  s.options.loss.kind = "softmax";
  s.targets[0].ignore = {{15, 15, 45, 45}};  // around anchor 1
  std::vector<float> logits = {0.2f, -1, 3, 5, 5, 5, 1, 0.5f, -2};
  const auto log_p = [&](int anchor, int k) {  // k 0: the background
    double total = 0;
    for (int j = 0; j < 3; ++j) total += std::exp(double(logits[size_t(3 * anchor + j)]));
    return double(logits[size_t(3 * anchor + k)]) - std::log(total);
  };
  for (double gamma : {0.0, 1.0, 2.0})
    for (double alpha : {-1.0, 0.25}) {
      s.options.loss.gamma = gamma, s.options.loss.alpha = alpha;
      s.out.logits[0] = Tensor::from({1, 3, 3}, logits).set_requires_grad();
      const auto term = [&](double l) { return -std::pow(1 - std::exp(l), gamma) * l; };
      const double found = log_p(0, 2), empty = log_p(2, 0);  // class 1 is logit 2
      const auto losses = s.loss();
      CHECK(losses.classification.item() ==
            Approx((alpha < 0 ? 1 : alpha) * term(found) + (alpha < 0 ? 1 : 1 - alpha) * term(empty)));
      backward(losses.total());
      const Tensor g = s.out.logits[0].grad();
      for (int64_t i = 3; i < 6; ++i) CHECK(g.at(i) == 0);
      for (int64_t a : {0, 2}) CHECK(g.at(3 * a) + g.at(3 * a + 1) + g.at(3 * a + 2) == Approx(0).margin(1e-6));
      if (gamma == 0 && alpha < 0) CHECK(g.at(8) == Approx(std::exp(log_p(2, 2))));  // p - 0
    }
}

TEST_CASE("losses: every kind of sigmoid loss, by hand") {
  Small s;
  s.options.loss.alpha = 0.3, s.options.loss.gamma = 1.5, s.options.loss.beta = 0.5, s.options.loss.margin = 0.8;
  struct Case {
    const char* kind;
    double (*loss)(double pt, double weight);
  };
  for (auto [kind, loss] :
       {Case{"focal", [](double p, double w) { return -w * std::pow(1 - p, 1.5) * std::log(p); }},
        Case{"ce", [](double p, double) { return -std::log(p); }},
        Case{"alpha_ce", [](double p, double w) { return -w * std::log(p); }},
        Case{"focal_star",
             [](double p, double w) { return -w / 1.5 * std::log(sigmoid(1.5 * std::log(p / (1 - p)) + 0.5)); }},
        Case{"hinge", [](double p, double w) { return w * std::max(0.0, 0.8 - p); }}}) {
    INFO(kind);
    s.options.loss.kind = kind;
    double sum = 0;
    for (int64_t i = 0; i < 12; ++i) {  // element 1: anchor 0 of image 0 holds class 1
      const double p = sigmoid(s.out.logits[0].at(i));
      sum += loss(i == 1 ? p : 1 - p, i == 1 ? 0.3 : 0.7);
    }
    CHECK(s.loss().classification.item() == Approx(sum / 2).epsilon(1e-5));
  }
}

TEST_CASE("losses: a negative alpha balances nothing") {
  Small s;
  s.options.loss.alpha = -1;
  double sum = 0;
  for (int64_t i = 0; i < 12; ++i) {
    const double p = i == 1 ? sigmoid(s.out.logits[0].at(i)) : 1 - sigmoid(s.out.logits[0].at(i));
    sum -= (1 - p) * (1 - p) * std::log(p);
  }
  CHECK(s.loss().classification.item() == Approx(sum / 2).epsilon(1e-5));
  s.out.logits[0].fill(-std::log((1 - s.options.prior) / s.options.prior));
  const auto losses = s.loss();
  CHECK(losses.classification.item() == Approx(expected_initial_loss(s.options, losses.stats())).epsilon(1e-4));
}

TEST_CASE("losses: the observer sees labels and the very gradient that training uses") {
  Small s;
  s.targets[0].ignore = {{15, 15, 45, 45}};
  for (const char* kind : {"focal", "ce", "hinge", "focal_star"}) {
    s.options.loss.kind = kind;
    RetinaNet model(s.options);
    std::vector<ClassTerms> seen;
    model.observer = [&](const ClassTerms& t) { seen.push_back(t); };
    s.out.logits[0] = s.out.logits[0].detach().set_requires_grad();
    const auto losses = model.loss(s.out, s.targets);
    backward(losses.classification);
    REQUIRE(seen.size() == 1);
    CHECK(seen[0].labels.at(0) == 1);
    CHECK(seen[0].labels.at(1) == -2);
    CHECK(seen[0].labels.at(3) == -1);
    for (int64_t i = 0; i < 12; ++i) {
      CHECK(seen[0].logits.at(i) == s.out.logits[0].at(i));
      CHECK(seen[0].gradient.at(i) == s.out.logits[0].grad().at(i));
    }
    const NoGrad off;  // without gradients: the terms alone
    model.loss(s.out, s.targets);
    REQUIRE(seen.size() == 2);
    CHECK(!seen[1].gradient);
  }
}

TEST_CASE("losses: with ohem only the hardest anchors count, in both losses") {
  Small s(1);
  s.options.loss.kind = "ce", s.options.sampler = "ohem", s.options.sampler_batch = 4;
  const auto all = s.loss();  // three anchors: all are kept
  const auto ce = [&](int64_t a) {
    double sum = 0;
    for (int64_t k = 0; k < 2; ++k) {
      const double x = s.out.logits[0].at(2 * a + k);
      sum -= std::log(a == 0 && k == 1 ? sigmoid(x) : 1 - sigmoid(x));
    }
    return sum;
  };
  CHECK(all.classification.item() == Approx((ce(0) + ce(1) + ce(2)) / 3));
  s.options.sampler_nms = 1e-6;  // a twin of anchor 2 right below it, of higher loss
  s.out.anchors = {Tensor::from<float>({3, 4}, {0, 0, 10, 10, 99, 99, 110, 110, 100, 100, 110, 110})};
  const bool second = ce(1) > ce(2);
  const auto two = s.loss();
  CHECK(two.classification.item() == Approx((ce(0) + (second ? ce(1) : ce(2))) / 2));
  CHECK(two.stats().image_ignored == std::vector<int64_t>{1});
  backward(two.total());
  for (int64_t k = 0; k < 2; ++k) CHECK(s.out.logits[0].grad().at(2 * (second ? 2 : 1) + k) == 0);
  // Anchors alone, whose deltas move anchor 1 onto anchor 2: only where decoded are they twins.
  s.out.anchors = {Tensor::from<float>({3, 4}, {0, 0, 10, 10, 50, 50, 60, 60, 100, 100, 110, 110})};
  for (int64_t i = 0; i < s.out.deltas[0].size(); ++i) s.out.deltas[0].detach().data<float>()[i] = 0;
  s.out.deltas[0].detach().data<float>()[4] = s.out.deltas[0].detach().data<float>()[5] = 5;
  CHECK(s.loss().stats().image_ignored == std::vector<int64_t>{0});
  s.options.sampler_boxes = "decoded";
  CHECK(s.loss().stats().image_ignored == std::vector<int64_t>{1});
  s.options.coder.wx = s.options.coder.wy = 10;  // a tenth of the way: no twins
  CHECK(s.loss().stats().image_ignored == std::vector<int64_t>{0});
  s.options.coder = {};
  s.options.sampler = "ohem_1_3", s.targets[0] = {};  // no positive, so no background either
  const auto none = s.loss();
  CHECK(none.classification.item() == 0);
  CHECK(none.box.item() == 0);
}

TEST_CASE("losses: what is told of the positives is told of those that ohem kept") {
  Small s(1);
  s.options.sampler = "ohem", s.options.sampler_nms = 1e-6;  // of three that touch, the one of highest loss
  s.out.anchors = {Tensor::from<float>({3, 4}, {0, 0, 10, 10, 9, 0, 40, 40, 9, 5, 19, 15})};
  s.targets[0] = {.boxes = {{0, 0, 10, 5}, {15, 11, 19, 15}}, .labels = {1, 0}};  // IoU 0.5 with 0, 0.16 with 2
  for (const int64_t kept : {0, 1, 2}) {
    for (int64_t i = 0; i < 6; ++i) s.out.logits[0].detach().data<float>()[i] = i / 2 == kept ? 5.f : -5.f;
    if (kept != 1) s.out.logits[0].detach().data<float>()[2 * kept + (kept == 0)] = -9;  // its class is missed
    const LossStats stats = s.loss().stats();
    INFO("anchor " << kept);
    CHECK(stats.total_positives() == (kept != 1));
    CHECK(stats.low_quality == (kept == 2));
    CHECK(stats.unmatched == (kept == 1 ? 2 : 1));
  }
}

TEST_CASE("losses: a batch without any box has a finite loss, box loss exactly 0, and gradients") {
  Small s;
  s.targets[0] = {};
  for (const char* kind : {"smooth_l1", "giou", "ciou"}) {
    s.options.box_loss = kind;
    const auto losses = s.loss();
    CHECK(std::isfinite(losses.classification.item()));
    CHECK(losses.classification.item() > 0);
    CHECK(losses.box.item() == 0);
    backward(losses.total());
    REQUIRE(bool(s.out.deltas[0].grad()));
    for (int64_t i = 0; i < s.out.deltas[0].size(); ++i) CHECK(s.out.deltas[0].grad().at(i) == 0);
  }
}

TEST_CASE("losses: where nothing is found each normaliser has a divisor") {
  Small s;
  s.targets[0] = {};
  const double sum = focal_sum(s, 0, -1) + focal_sum(s, 1, -1);
  for (const auto& [name, divisor] :
       {std::pair("per_image", 2.0), {"batch", 1.0}, {"detectron", 2.0}, {"ema", 0.9 * 100 + 0.1}}) {
    INFO(name);
    s.options.normaliser = name;
    CHECK(s.loss().classification.item() == Approx(sum / divisor));
  }
}

TEST_CASE("losses: the running normaliser follows the steps of training and stands still in evaluation") {
  Small s;
  s.options.normaliser = "ema";
  RetinaNet model(s.options);
  const double sum = focal_sum(s, 0, 1) + focal_sum(s, 1, -1), first = 0.9 * 100 + 0.1, second = 0.9 * first + 0.1;
  for (const auto& [training, divisor] :
       {std::pair(true, first), {true, second}, {false, second}, {false, second}, {true, 0.9 * second + 0.1}}) {
    model.train(training);
    CHECK(model.loss(s.out, s.targets).classification.item() == Approx(sum / divisor));
  }
}

TEST_CASE("losses: bad targets are named") {
  Small s;
  s.targets[0].labels[0] = 2;
  CHECK_THROWS_AS(s.loss(), Error);
  s.targets[0].labels[0] = -1;
  CHECK_THROWS_AS(s.loss(), Error);
  s.targets[0] = {.boxes = {{NAN, 0, 9, 10}}, .labels = {1}};
  CHECK_THROWS_AS(s.loss(), Error);
  s.targets[0].labels.clear();
  CHECK_THROWS_AS(s.loss(), Error);
  s.targets[0] = {.boxes = {{5, 6, 4, 3}}, .labels = {1}};  // x, y, width, height
  CHECK_THROWS_WITH(s.loss(),
                    "loss: box 0 of image 0 is 5, 6, 4, 3: it ends before it begins\n  hint: a box is x1, y1, x2, "
                    "y2, not x, y, width, height");
  s.targets[0] = {.boxes = {{5, 0, 5, 10}}, .labels = {1}};  // no area: found by nothing ...
  CHECK(s.loss().stats().unmatched == 1);
  s.options.matcher.floor = -1;  // ... or by everything
  CHECK_THROWS_AS(s.loss(), Error);
  s.targets.resize(1);
  CHECK_THROWS_AS(s.loss(), Error);
}

TEST_CASE("losses: NaN and infinite features give no number and no crash") {
  Small s;
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    s.out.logits[0] = Tensor::full({2, 3, 2}, bad).set_requires_grad();
    s.out.deltas[0] = Tensor::full({2, 3, 4}, bad).set_requires_grad();
    const auto losses = s.loss();
    CHECK(!std::isfinite(losses.total().item()));
  }
}

TEST_CASE("the prior predicts the first classification loss") {
  // Published: 1.12838 a positive + R K 7.5378e-7 / positives
  RetinaNetOptions o;
  LossStats stats{.images = 1,
                  .anchors = 201600,
                  .positives = {},
                  .image_positives = {50},
                  .image_scale = {1.0 / 50},
                  .image_ignored = {0}};
  CHECK(expected_initial_loss(o, stats) == Approx(1.12838 + 201600 * 80 * 7.5378e-7 / 50).epsilon(1e-4));
  CHECK_THROWS_WITH(expected_initial_loss(o, {.image_positives = {50}}), contains("are of 0, 1 and 0 images"));
  o.loss.gamma = 0, o.loss.alpha = 0.5;
  CHECK(expected_initial_loss(o, stats) == Approx(201600 * 80 * 0.005025 / 50 + 0.5 * -std::log(0.01)).epsilon(1e-3));

  for (const char* kind : {"focal", "focal_star", "ce", "alpha_ce", "hinge"})
    for (const char* normaliser : {"per_image", "batch", "detectron"}) {
      Small s;
      s.options.loss.kind = kind, s.options.normaliser = normaliser;
      s.out.logits[0].fill(-std::log((1 - s.options.prior) / s.options.prior));
      const auto losses = s.loss();
      CHECK(losses.classification.item() == Approx(expected_initial_loss(s.options, losses.stats())).epsilon(1e-4));
    }
  for (double gamma : {0.0, 2.0}) {
    Small s;
    s.options.loss.kind = "softmax", s.options.loss.gamma = gamma;
    s.out.logits[0] = Tensor::zeros({2, 3, 3});
    for (int64_t a = 0; a < 6; ++a) s.out.logits[0].data<float>()[3 * a] = float(std::log(2 * 0.99 / 0.01));
    const auto losses = s.loss();
    CHECK(losses.classification.item() == Approx(expected_initial_loss(s.options, losses.stats())).epsilon(1e-4));
  }
}
