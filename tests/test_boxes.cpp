// Overlaps, the box coder, suppression and top k: published values, brute force, ties, NaN and edge cases.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/autograd.h"
#include "core/random.h"
#include "ops/box_ops.h"
#include "ops/nms.h"
#include "ops/topk.h"
#include "tests/fake_device.h"
#include "tests/tensors.h"

using namespace fovea;

namespace {

using Rows = std::vector<std::vector<double>>;
Tensor boxes_of(const Rows& rows, DType t = DType::f64) {
  std::vector<double> all;
  for (auto& r : rows) all.insert(all.end(), r.begin(), r.end());
  return Tensor::from<double>({int64_t(rows.size()), 4}, all).to(t);
}
Tensor random_boxes(int64_t n, Dice& dice, double extent, double largest, double smallest = 0) {
  Rows rows;
  for (int64_t i = 0; i < n; ++i) {
    const double x = dice.uniform(0, extent), y = dice.uniform(0, extent);
    rows.push_back({x, y, x + dice.uniform(smallest, largest), y + dice.uniform(smallest, largest)});
  }
  return boxes_of(rows);
}
Tensor random_scores(int64_t n, Dice& dice, int levels, DType t = DType::f64) {  // few levels: many ties
  Tensor s({n}, DType::f64);
  for (int64_t i = 0; i < n; ++i) s.data<double>()[i] = double(dice.integer(0, levels)) / levels;
  return s.to(t);
}
void check_rows(const Tensor& t, const Rows& rows, double margin) {
  REQUIRE(t.size() == int64_t(4 * rows.size()));
  for (int64_t i = 0; i < t.size(); ++i) REQUIRE(t.at(i) == Approx(rows[size_t(i / 4)][size_t(i % 4)]).margin(margin));
}
double overlap(const Tensor& b, int64_t i, int64_t j) {
  const auto side = [&](int64_t r, int k) { return b.at(4 * r + k); };
  const double w = std::min(side(i, 2), side(j, 2)) - std::max(side(i, 0), side(j, 0));
  const double h = std::min(side(i, 3), side(j, 3)) - std::max(side(i, 1), side(j, 1));
  const double both = w > 0 && h > 0 ? w * h : 0;
  const auto area = [&](int64_t r) { return (side(r, 2) - side(r, 0)) * (side(r, 3) - side(r, 1)); };
  const double either = area(i) + area(j) - both;
  return either > 0 ? both / either : 0;
}
// The definition: repeat { keep the best left, drop what it overlaps }.
std::vector<int64_t> reference(const Tensor& boxes, const Tensor& scores, const Tensor& classes, double threshold) {
  std::vector<int64_t> left(size_t(scores.size())), keep;
  std::iota(left.begin(), left.end(), 0);
  while (!left.empty()) {
    int64_t best = left[0];
    for (const int64_t i : left)
      if (scores.at(i) > scores.at(best)) best = i;  // the first of equals: left is ascending
    keep.push_back(best);
    std::vector<int64_t> rest;
    for (const int64_t i : left)
      if (i != best && (classes.at(i) != classes.at(best) || overlap(boxes, best, i) <= threshold)) rest.push_back(i);
    left = rest;
  }
  return keep;
}

}  // namespace

TEST_CASE("IoU and IoA match brute force; degenerate boxes overlap nothing") {
  Dice dice(1);
  const Tensor a = random_boxes(37, dice, 10, 8), iou = box_iou(a, a), ioa = box_ioa(a, a);
  for (int64_t i = 0; i < 37; ++i)
    for (int64_t j = 0; j < 37; ++j) REQUIRE(iou.at(37 * i + j) == Approx(overlap(a, i, j)).margin(1e-12));
  for (int64_t i = 0; i < 37; ++i) REQUIRE(ioa.at(38 * i) == Approx(1));
  const Tensor crowd = boxes_of({{0, 0, 10, 10}}), half = boxes_of({{5, 0, 15, 10}, {2, 2, 2, 5}, {3, 3, 4, 4}});
  REQUIRE(box_ioa(half, crowd).values<double>() == std::vector<double>{0.5, 0, 1});
  const Tensor point = boxes_of({{1, 1, 1, 1}, {5, 5, 2, 9}});
  for (const double v : box_iou(point, point).values<double>()) REQUIRE(v == 0);
  Tensor whole = boxes_of({{0, 0, 20, 10}});
  for (int64_t edge = 0; edge < 4; ++edge) {
    Tensor broken = boxes_of({{0, 0, 10, 10}});
    broken.data<double>()[edge] = NAN;
    INFO("without edge " << edge);
    CHECK(box_iou(broken, whole).item() == 0);
    CHECK(box_iou(whole, broken).item() == 0);
    CHECK(box_ioa(broken, whole).item() == 0);
    CHECK(box_ioa(whole, broken).item() == 0);
  }
  REQUIRE(box_iou(Tensor({0, 4}), Tensor({3, 4})).shape() == Shape{0, 3});
  REQUIRE(box_iou(Tensor({3, 4}), Tensor({0, 4})).shape() == Shape{3, 0});
}

TEST_CASE("the box coder has the published values and is its own inverse") {
  check_rows(encode_boxes(boxes_of({{1, 2, 9, 12}, {0, 0, 80, 80}}), boxes_of({{0, 0, 10, 10}, {10, 20, 50, 100}})),
             {{0, .2, -.2231435513, 0}, {.25, -.25, .6931471806, 0}}, 1e-9);
  check_rows(decode_boxes(boxes_of({{0, 0, 10, 10}}), boxes_of({{0, 0, 16, 16}})), {{-492, -492, 508, 508}}, 1e-9);
  const Tensor rois = boxes_of({{0, 0, 1, 1}, {0, 0, 1, 1}, {0, 0, 1, 1}, {5, 5, 5, 5}});
  const Tensor deltas = boxes_of({{0, 0, 0, 0}, {1, 1, 1, 1}, {0, 0, 2, -1}, {.7, -1.9, -.5, .3}});
  check_rows(clip_boxes(decode_boxes(deltas, rois), 32, 32),
             {{0, 0, 1, 1}, {.1409, .1409, 2.8591, 2.8591}, {0, .3161, 4.1945, .6839}, {5, 5, 5, 5}}, 1e-4);
  Dice dice(2);
  const Tensor anchors = random_boxes(200, dice, 100, 50, 1), targets = random_boxes(200, dice, 100, 50, 1);
  const BoxCoder coder{5, 5, 10, 10};
  const Tensor back = decode_boxes(encode_boxes(targets, anchors, coder), anchors, coder);
  for (int64_t i = 0; i < back.size(); ++i) REQUIRE(back.at(i) == Approx(targets.at(i)).margin(1e-6));
}

TEST_CASE("the corner coder: deltas of corners over the anchor's size; small sides count as `least`") {
  const BoxCoder corners{5, 5, 5, 5, BoxCoder::Style::corners};  // keras-retinanet: deviation 0.2
  check_rows(encode_boxes(boxes_of({{1, 2, 9, 12}}), boxes_of({{0, 0, 10, 20}}), corners), {{.5, .5, -.5, -2}}, 1e-12);
  Dice dice(4);
  const Tensor anchors = random_boxes(200, dice, 100, 50, 1), targets = random_boxes(200, dice, 100, 50, 1);
  const Tensor back = decode_boxes(encode_boxes(targets, anchors, corners), anchors, corners);
  for (int64_t i = 0; i < back.size(); ++i) REQUIRE(back.at(i) == Approx(targets.at(i)).margin(1e-9));
  check_rows(encode_boxes(boxes_of({{2, 3, 2.25, 7}}), boxes_of({{0, 0, 10, 10}}), {.least = 1}),
             {{-.2875, 0, std::log(.1), std::log(.4)}}, 1e-12);
}

TEST_CASE("decoding broadcasts anchors, and has no gradient where the size is clamped") {
  Dice dice(3);
  Tensor deltas({2, 5, 4}, DType::f64);
  for (int64_t i = 0; i < deltas.size(); ++i) deltas.data<double>()[i] = dice.normal();
  const Tensor anchors = random_boxes(5, dice, 10, 10), both = decode_boxes(deltas, anchors);
  for (int64_t n = 0; n < 2; ++n)
    REQUIRE(decode_boxes(deltas.rows(n, n + 1).view({5, 4}), anchors).values<double>() ==
            both.rows(n, n + 1).values<double>());
  Tensor large = boxes_of({{0, 0, 5, 1}});
  large.set_requires_grad();
  backward(decode_boxes(large, boxes_of({{0, 0, 16, 16}})), boxes_of({{0, 0, 1, 1}}));
  REQUIRE(large.grad().at(2) == 0);
  REQUIRE(large.grad().at(3) == Approx(8 * std::exp(1)));
  Tensor tall = boxes_of({{0, 0, 1, 5}});
  tall.set_requires_grad();
  backward(decode_boxes(tall, boxes_of({{0, 0, 16, 16}})), boxes_of({{0, 0, 1, 1}}));
  REQUIRE(tall.grad().at(2) == Approx(8 * std::exp(1)));
  REQUIRE(tall.grad().at(3) == 0);
}

TEST_CASE("ops on boxes name what does not fit") {
  const Tensor three({3, 4}), two({2, 4}), wide({3, 4}, DType::f64);
  REQUIRE_THROWS_WITH(box_iou(three, wide), contains("a is f32, b is f64"));
  REQUIRE_THROWS_WITH(box_ioa(three, Tensor({1, 2, 4})), contains("needs [N,4] and [M,4]"));
  REQUIRE_THROWS_WITH(encode_boxes(three, two), contains("needs boxes and anchors [R,4]"));
  REQUIRE_THROWS_WITH(decode_boxes(three, two), contains("trailing axes of deltas"));
  REQUIRE_THROWS_WITH(clip_boxes(Tensor({3, 5}), 1, 1), contains("must be f32 or f64 [..,4]"));
  REQUIRE_THROWS_WITH(top_k(Tensor({3}), -1), contains("k >= 0"));
}

TEST_CASE("suppression keeps a box at exactly the threshold, and orders equal scores by index") {
  const Tensor boxes = boxes_of({{0, 0, 10, 10}, {0, 0, 10, 5}, {0, 0, 10, 5.0001}, {50, 50, 60, 60}}, DType::f32);
  const Tensor scores = Tensor::from<float>({4}, {.9f, .8f, .7f, .6f});
  REQUIRE(nms(boxes, scores, 0.5).values<int64_t>() == std::vector<int64_t>{0, 1, 3});
  const Tensor same = boxes_of({{0, 0, 1, 1}, {0, 0, 1, 1}, {5, 5, 6, 6}}), tie = Tensor::full({3}, 0.5, DType::f64);
  REQUIRE(nms(same, tie, 0.5).values<int64_t>() == std::vector<int64_t>{0, 2});
  REQUIRE(batched_nms(same, tie, Tensor::from<int64_t>({3}, {4, -7, 4}), 0.5).values<int64_t>() ==
          std::vector<int64_t>{0, 1, 2});
  const Tensor nan = Tensor::from<double>({3}, {NAN, 0.1, 0.2});
  REQUIRE(nms(same, nan, 0.5).values<int64_t>() == std::vector<int64_t>{2, 1});
  REQUIRE(
      nms(boxes_of({{0, 0, NAN, 1}, {0, 0, INFINITY, 1}}), Tensor::full({2}, 1, DType::f64), 0.5).values<int64_t>() ==
      std::vector<int64_t>{1});
  REQUIRE(nms(Tensor({0, 4}), Tensor({0}), 0.5).shape() == Shape{0});
  REQUIRE_THROWS_WITH(nms(Tensor({3, 4}), Tensor({2}), 0.5), contains("scores f32 [2]"));
  REQUIRE_THROWS_WITH(nms(Tensor({3, 5}), Tensor({3}), 0.5), contains("[3, 5]"));
  REQUIRE_THROWS_WITH(nms(Tensor({3, 4}), Tensor({3}, DType::f64), 0.5), contains("of one type"));
  REQUIRE_THROWS_WITH(batched_nms(Tensor({3, 4}), Tensor({3}), Tensor({3}), 0.5), contains("classes must be i64 [R]"));
  REQUIRE_THROWS_WITH(soft_nms(Tensor({3, 4}), Tensor({3}), {}, {.sigma = 0}), contains("sigma 0 must be above 0"));
}

TEST_CASE("suppression matches the definition on random boxes with many ties, by class and over all") {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Dice dice(seed);
    const int64_t n = dice.integer(0, 300), class_count = dice.integer(1, 4);
    const double threshold = dice.uniform(0, 0.9);
    const Tensor boxes = random_boxes(n, dice, 60, 40), scores = random_scores(n, dice, 40);
    Tensor classes({n}, DType::i64), one = Tensor::zeros({n}, DType::i64);
    for (int64_t i = 0; i < n; ++i) classes.data<int64_t>()[i] = dice.integer(0, class_count - 1);
    REQUIRE(batched_nms(boxes, scores, classes, threshold).values<int64_t>() ==
            reference(boxes, scores, classes, threshold));
    REQUIRE(nms(boxes, scores, threshold).values<int64_t>() == reference(boxes, scores, one, threshold));
  }
}

TEST_CASE("suppression decides a box at the threshold plus 1e-5 (torchvision's case)") {
  for (const double threshold : {0.2, 0.5, 0.8})
    for (uint64_t seed = 0; seed < 10; ++seed) {
      Dice dice(seed);
      Rows rows;
      for (int i = 0; i < 1000; ++i) {
        const double x = dice.uniform(0, 100), y = dice.uniform(0, 100);
        rows.push_back({x, y, x + dice.uniform(10, 100), y + dice.uniform(10, 100)});
      }
      const auto& b = rows[0];  // shrunk in height, so that the overlap of the last box with the first is just above it
      rows.back() = {b[0], b[1], b[2], b[1] + (b[3] - b[1]) * (threshold + 1e-5)};
      Tensor scores = random_scores(1000, dice, 1 << 20), one = Tensor::zeros({1000}, DType::i64);
      scores.data<double>()[0] = 2, scores.data<double>()[999] = 1.5;
      const Tensor boxes = boxes_of(rows);
      const auto keep = nms(boxes, scores, threshold).values<int64_t>();
      REQUIRE(keep == reference(boxes, scores, one, threshold));
      REQUIRE(std::find(keep.begin(), keep.end(), 999) == keep.end());
    }
}

TEST_CASE("soft suppression lowers scores as Bodla et al. do") {
  const Tensor boxes = boxes_of({{0, 0, 10, 10}, {0, 0, 10, 6}, {20, 20, 30, 30}, {0, 0, 10, 1}});
  const Tensor scores = Tensor::from<double>({4}, {0.9, 0.8, 0.7, 0.05});
  const SoftNms linear = soft_nms(boxes, scores, {}, {.method = SoftNmsMethod::linear, .iou = 0.3});
  REQUIRE(linear.indices.values<int64_t>() == std::vector<int64_t>{0, 2, 1, 3});
  REQUIRE(linear.scores.at(2) == Approx(0.8 * 0.4));
  REQUIRE(linear.scores.at(3) == Approx(0.05));
  const SoftNms gaussian = soft_nms(boxes, scores, {}, {.sigma = 0.5, .min_score = 0.2});
  REQUIRE(gaussian.indices.values<int64_t>() == std::vector<int64_t>{0, 2, 1});
  REQUIRE(gaussian.scores.at(2) == Approx(0.8 * std::exp(-0.36 / 0.5)));
  const Tensor classes = Tensor::from<int64_t>({4}, {0, 1, 0, 2});  // nothing shares a class with an overlap
  REQUIRE(soft_nms(boxes, scores, classes).scores.values<double>() == scores.values<double>());
  REQUIRE(soft_nms(Tensor({0, 4}), Tensor({0}), {}).indices.size() == 0);
  const Tensor endless = Tensor::full({4}, INFINITY, DType::f64);  // of the last box 0 INFINITY is left, so it goes
  const Tensor same = boxes_of({{0, 0, 10, 10}, {20, 0, 30, 10}, {40, 0, 50, 10}, {0, 0, 10, 10}});
  REQUIRE(soft_nms(same, endless, {}, {.method = SoftNmsMethod::linear}).indices.values<int64_t>() ==
          std::vector<int64_t>{0, 1, 2});
}

TEST_CASE("top k is a stable sort's head, with NaN last") {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Dice dice(seed);
    const int64_t n = dice.integer(0, 3000), k = dice.integer(0, dice.chance(0.5) ? 20 : 3200);
    Tensor x = random_scores(n, dice, dice.chance(0.5) ? 5 : 1 << 20, dice.chance(0.5) ? DType::f32 : DType::f64);
    if (dice.chance(0.5))
      for (int64_t i = 0; i < n; ++i)
        if (dice.chance(seed % 3 == 0 ? 0.99 : 0.1))
          dispatch_float(x.dtype(), [&]<class T>() { x.data<T>()[i] = T(NAN); });
    std::vector<int64_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    const auto key = [&](int64_t i) { return std::isnan(x.at(i)) ? -INFINITY : x.at(i); };
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return key(a) > key(b); });
    order.resize(size_t(std::min(n, k)));
    const TopK top = top_k(x, k);
    REQUIRE(top.indices.values<int64_t>() == order);
    for (size_t i = 0; i < order.size(); ++i)
      REQUIRE((top.values.at(int64_t(i)) == x.at(order[i]) || std::isnan(x.at(order[i]))));
  }
  const Tensor low = Tensor::from<float>({4}, {NAN, -INFINITY, NAN, INFINITY});
  REQUIRE(top_k(low, 4).indices.values<int64_t>() == std::vector<int64_t>{3, 1, 0, 2});
  REQUIRE_THROWS_WITH(top_k(Tensor({2, 2}), 1), contains("[2, 2]"));
}

namespace {

bool same_there(const Tensor& there, const Tensor& here) {
  return there.device() == Device::cuda && test::same_bits(there.to(Device::cpu), here);
}
// Few or many different numbers of either sign, with zeros of either sign, infinities, and NaN of many bits.
Tensor awkward(int64_t n, Dice& dice, DType t) {
  Tensor x({n}, t);
  const int levels = dice.chance(0.3) ? 0 : dice.chance(0.5) ? 4 : 1 << 20;
  const double nan = dice.chance(0.3) ? 0 : dice.chance(0.2) ? 1 : 0.1;
  for (int64_t i = 0; i < n; ++i)
    dispatch_float(t, [&]<class T>() {
      T& v = x.data<T>()[i];
      v = T(dice.integer(-levels, levels)) * T(0.37);
      if (dice.chance(0.05)) v = dice.chance(0.5) ? T(INFINITY) : T(-0.0);
      if (dice.chance(0.05)) v = dice.chance(0.5) ? T(-INFINITY) : std::numeric_limits<T>::denorm_min();
      if (dice.chance(nan)) v = std::copysign(dice.chance(0.5) ? T(NAN) : T(std::nan("7")), T(dice.integer(-1, 0)));
    });
  return x;
}

}  // namespace

TEST_CASE("top k on a device is the processor's, bit for bit, and nothing waits") {
  test::WithFakeDevice fake;
  for (uint64_t seed = 0; seed < 80; ++seed) {
    Dice dice(seed);
    const int64_t n = seed < 6 ? seed / 2 : dice.integer(0, dice.chance(0.2) ? 40'000 : 3000);
    const int64_t k = dice.chance(0.2) ? n + 1 : dice.integer(0, dice.chance(0.5) ? 1024 : n);
    const Tensor x = awkward(n, dice, seed % 2 ? DType::f32 : DType::f64), there = x.to(Device::cuda);
    const auto before = fake.device->counts;
    const TopK got = top_k(there, k), want = top_k(x, k);
    CHECK(fake.device->counts.to_host == before.to_host);
    CHECK(fake.device->counts.synchronizations == before.synchronizations);
    INFO("seed " << seed << ", " << k << " of " << n);
    CHECK(same_there(got.indices, want.indices));
    CHECK(same_there(got.values, want.values));
  }
  CHECK_THROWS_AS(top_k(Tensor({4}, DType::bf16, Device::cuda), 2), Error);
}

TEST_CASE("suppression on a device is the processor's, and reads one number back") {
  test::WithFakeDevice fake;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    Dice dice(seed);
    const bool many = seed % 20 == 7;  // more than are held against each other at once
    const int64_t n = seed < 6 ? seed / 2 : many ? dice.integer(8200, 18'000) : dice.integer(1, 1500);
    const Tensor scores = awkward(n, dice, DType::f64), boxes = random_boxes(n, dice, many ? 600 : 60, 40);
    for (int64_t i = 0; i < boxes.size(); ++i) {
      double& side = boxes.data<double>()[i];
      if (dice.chance(0.5)) side = std::round(side);  // some IoUs are the threshold
      if (dice.chance(0.005)) side = std::array<double, 4>{NAN, INFINITY, -INFINITY, -0.0}[i % 4];
    }
    Tensor classes;
    if (dice.chance(0.7)) classes = Tensor({n}, DType::i64);
    for (int64_t i = 0; classes && i < n; ++i) classes.data<int64_t>()[i] = dice.integer(-2, 1) * (int64_t{1} << 40);
    const double iou = std::array{0.0, 0.3, 0.5, 1.0, -0.1}[seed % 5];
    const auto before = fake.device->counts;
    const Tensor on_device[] = {boxes.to(Device::cuda), scores.to(Device::cuda), classes.to(Device::cuda)};
    const Tensor got = batched_nms(on_device[0], on_device[1], on_device[2], iou);
    CHECK(fake.device->counts.to_host == before.to_host + (n > 0));
    INFO("seed " << seed << ", " << n << " boxes, IoU " << iou);
    CHECK(same_there(got, batched_nms(boxes, scores, classes, iou)));
  }
}

TEST_CASE("soft suppression on a device is the processor's, and reads one number back") {
  test::WithFakeDevice fake;
  for (uint64_t seed = 0; seed < 80; ++seed) {
    Dice dice(seed);
    const int64_t n = seed < 6 ? seed / 2 : dice.integer(1, dice.chance(0.1) ? 1400 : 300);
    // Few scores make ties; others are negative, infinite or NaN.
    const Tensor scores = dice.chance(0.5) ? random_scores(n, dice, 6) : awkward(n, dice, DType::f64);
    const Tensor boxes = random_boxes(n, dice, 60, 40);
    for (int64_t i = 0; i < boxes.size(); ++i) {
      double& side = boxes.data<double>()[i];
      if (dice.chance(0.5)) side = std::round(side / 5) * 5;
      if (dice.chance(0.003)) side = std::array<double, 4>{NAN, INFINITY, -INFINITY, -0.0}[i % 4];
    }
    Tensor classes;
    if (dice.chance(0.7)) classes = Tensor({n}, DType::i64);
    for (int64_t i = 0; classes && i < n; ++i) classes.data<int64_t>()[i] = dice.integer(-2, 1) * (int64_t{1} << 40);
    const SoftNmsOptions o{dice.chance(0.5) ? SoftNmsMethod::linear : SoftNmsMethod::gaussian, dice.uniform(-0.1, 0.9),
                           dice.chance(0.1) ? 1e-4 : dice.uniform(0.05, 1),
                           std::array{0.001, 0.2, -1.0, 0.0, -double(INFINITY), double(NAN)}[seed % 6]};
    const Tensor on_device[] = {boxes.to(Device::cuda), scores.to(Device::cuda), classes.to(Device::cuda)};
    const auto before = fake.device->counts;
    const SoftNms got = soft_nms(on_device[0], on_device[1], on_device[2], o),
                  want = soft_nms(boxes, scores, classes, o);
    CHECK(fake.device->counts.to_host == before.to_host + 1);
    CHECK(fake.device->counts.synchronizations == before.synchronizations + 1);
    INFO("seed " << seed << ", " << n << " boxes, " << want.indices.size() << " stay");
    CHECK(same_there(got.indices, want.indices));
    CHECK(same_there(got.scores, want.scores));
  }
}
