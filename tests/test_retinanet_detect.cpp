// Post-processing against a brute-force version, its rules one by one, and input that is not finite.
#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "models/retinanet.h"
#include "tests/boxes.h"
#include "tests/catch.h"
#include "tests/fake_device.h"

using namespace fovea;

namespace {

RetinaNetOptions small_options(int classes) {
  return {.backbone = "tiny",
          .classes = classes,
          .backbone_norm = "batch",
          .freeze_stages = 0,
          .last_level = 5,
          .channels = 8,
          .tower_depth = 1};
}

RetinaNet::Output random_output(uint64_t seed, int64_t images, int classes) {
  Dice dice(seed);
  RetinaNet::Output out;
  out.input_hw = {100, 120};
  for (int64_t rows : {200, 50, 9}) {
    Tensor logits({images, rows, classes}), deltas({images, rows, 4}), anchors({rows, 4});
    for (int64_t i = 0; i < logits.size(); ++i) logits.data<float>()[i] = float(dice.normal(-2, 2));
    for (int64_t i = 0; i < deltas.size(); ++i) deltas.data<float>()[i] = float(dice.normal(0, 0.3));
    for (int64_t i = 0; i < rows; ++i) {
      const double x = dice.uniform(-10, 110), y = dice.uniform(-10, 90), w = dice.uniform(5, 60),
                   h = dice.uniform(5, 60);
      float* a = anchors.data<float>() + 4 * i;
      a[0] = float(x), a[1] = float(y), a[2] = float(x + w), a[3] = float(y + h);
    }
    out.logits.push_back(logits), out.deltas.push_back(deltas), out.anchors.push_back(anchors);
  }
  return out;
}

struct Scored {
  Detection d;
  int64_t order;
};
bool better(const Scored& a, const Scored& b) {
  return a.d.score > b.d.score || (a.d.score == b.d.score && a.order < b.order);
}

float softmax_score(const Tensor& logits, int64_t anchor, int64_t label) {  // the background's logit is the first
  double sum = 0;
  const int64_t n = logits.dim(2);
  for (int64_t k = 0; k < n; ++k) sum += std::exp(logits.at(anchor * n + k));
  return float(std::exp(logits.at(anchor * n + label + 1)) / sum);
}

// The definition: sort everything, take, decode, clip, compare all pairs.
std::vector<Detection> brute(const RetinaNetOptions& o, const RetinaNet::Output& out, int64_t image, double h,
                             double w) {
  std::vector<Scored> all;
  for (size_t level = 0; level < out.logits.size(); ++level) {
    std::vector<Scored> own;
    const int64_t rows = out.logits[level].dim(1);
    for (int64_t i = 0; i < rows * o.classes; ++i) {
      const int64_t a = i / o.classes;
      const float score = o.loss.kind == "softmax"
                              ? softmax_score(out.logits[level], image * rows + a, i % o.classes)
                              : float(1 / (1 + std::exp(-out.logits[level].at(image * rows * o.classes + i))));
      if (!(score > 0.05f)) continue;
      double d[4], c[4];
      for (int64_t k = 0; k < 4; ++k)
        d[k] = out.deltas[level].at((image * rows + a) * 4 + k), c[k] = out.anchors[level].at(4 * a + k);
      const double aw = c[2] - c[0], ah = c[3] - c[1], x = c[0] + aw / 2 + d[0] * aw, y = c[1] + ah / 2 + d[1] * ah;
      const double bw = aw * std::exp(std::min(d[2], std::log(62.5))),
                   bh = ah * std::exp(std::min(d[3], std::log(62.5)));
      const auto clip = [](double v, double end) { return float(std::clamp(v, 0.0, end)); };
      own.push_back({{{clip(x - bw / 2, w), clip(y - bh / 2, h), clip(x + bw / 2, w), clip(y + bh / 2, h)},
                      score,
                      int(i % o.classes)},
                     i});
    }
    std::sort(own.begin(), own.end(), better);
    if (int64_t(own.size()) > o.level_top) own.resize(size_t(o.level_top));
    for (auto& s : own) s.order = int64_t(all.size()), all.push_back(s);
  }
  std::sort(all.begin(), all.end(), better);
  std::vector<Detection> kept;
  for (auto& s : all) {
    bool free = int(kept.size()) < o.detections;
    for (auto& k : kept) free = free && !(k.label == s.d.label && iou(k.box, s.d.box) > float(o.nms_threshold));
    if (free) kept.push_back(s.d);
  }
  return kept;
}

}  // namespace

TEST_CASE("detections: equal to brute force") {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    RetinaNetOptions o = small_options(3);
    o.level_top = seed % 3 == 0 ? 20 : 1000, o.detections = seed % 2 == 0 ? 15 : 300;
    if (seed % 4 == 3) o.loss.kind = "softmax";
    const auto out = random_output(seed, 2, o.loss.kind == "softmax" ? 4 : 3);
    const auto found = RetinaNet(o).detect(out, {{100, 120}, {80, 70}});
    for (int64_t image = 0; image < 2; ++image) {
      const auto expected = brute(o, out, image, image ? 80 : 100, image ? 70 : 120);
      const auto& got = found[size_t(image)];
      REQUIRE(got.size() == expected.size());
      for (size_t i = 0; i < got.size(); ++i) {
        CHECK(got[i].label == expected[i].label);
        CHECK(got[i].score == Approx(expected[i].score));
        CHECK(test::same_box(got[i].box, expected[i].box, 1e-3));
      }
    }
  }
}

TEST_CASE("detections: options for another number of classes, or out of range, are refused") {
  const auto out = random_output(1, 1, 3);
  CHECK_NOTHROW(detect(small_options(3), out));
  CHECK_THROWS_AS(detect(small_options(2), out), Error);  // its labels would be of other anchors, past the last one
  CHECK_THROWS_AS(detect(small_options(4), out), Error);
  RetinaNetOptions softmax = small_options(3);
  softmax.loss.kind = "softmax";
  CHECK_THROWS_AS(detect(softmax, out), Error);
  CHECK_THROWS_AS(detect(small_options(3), RetinaNet::Output{}), Error);
  RetinaNetOptions negative = small_options(3);
  negative.level_top = -1;
  CHECK_THROWS_WITH(detect(negative, out), contains("level_top must be at least 1"));
  negative.level_top = 10, negative.detections = -1;
  CHECK_THROWS_WITH(detect(negative, out), contains("detections at least 0"));
}

TEST_CASE("detections: the threshold is strict, the last level may have its own, nothing found is legal") {
  RetinaNetOptions o = small_options(1);
  o.score_threshold = 0.5;
  RetinaNet::Output out;
  out.input_hw = {64, 64};
  for (int level = 0; level < 2; ++level) {
    out.logits.push_back(Tensor::from<float>({1, 2, 1}, {0, -3}));  // 0.5 exactly, and 0.047
    out.deltas.push_back(Tensor::zeros({1, 2, 4}));
    out.anchors.push_back(Tensor::from<float>({2, 4}, {0, 0, 8, 8, 20, 20, 40, 40}));
  }
  CHECK(RetinaNet(o).detect(out)[0].empty());
  out.logits[0].data<float>()[0] = 1e-6f;  // just above
  CHECK(RetinaNet(o).detect(out)[0].size() == 1);
  out.logits[0].data<float>()[0] = 0;
  o.last_threshold = 0;
  CHECK(RetinaNet(o).detect(out)[0].size() == 2);
  o.last_threshold = -1, o.score_threshold = 0.49;
  CHECK(RetinaNet(o).detect(out)[0].size() == 1);  // the same box on both levels
}

TEST_CASE("detections: soft suppression lowers scores; an IoU at the threshold may suppress") {
  RetinaNetOptions o = small_options(1);
  RetinaNet::Output out;
  out.input_hw = {64, 64};
  out.logits = {Tensor::from<float>({1, 3, 1}, {2, 1, 0})};
  out.deltas = {Tensor::zeros({1, 3, 4})};
  out.anchors = {
      Tensor::from<float>({3, 4}, {0, 0, 16, 16, 0, 0, 16, 8, 40, 40, 60, 60})};  // IoU of the first two: 0.5
  const auto score = [](double x) { return 1 / (1 + std::exp(-x)); };
  CHECK(detect(o, out)[0].size() == 3);
  o.nms_at_threshold = true;
  CHECK(detect(o, out)[0].size() == 2);
  o.nms = "linear", o.nms_threshold = 0.3;
  auto found = detect(o, out)[0];
  REQUIRE(found.size() == 3);
  CHECK(found[1].box.x1 == 40);
  CHECK(found[2].score == Approx(score(1) * 0.5));
  o.nms = "gaussian", o.nms_sigma = 0.25;
  found = detect(o, out)[0];
  CHECK(found[2].score == Approx(score(1) * std::exp(-0.25 / 0.25)));
  CHECK(found[0].score == Approx(score(2)));
}

TEST_CASE("detections: soft suppression keeps what it lowers below the threshold, down to Detectron's 0.0001") {
  RetinaNetOptions o = small_options(1);
  o.nms = "linear", o.nms_threshold = 0.3;
  RetinaNet::Output out;
  out.input_hw = {128, 128};
  out.logits = {Tensor::from<float>({1, 3, 1}, {2, 1, 0})};
  out.deltas = {Tensor::zeros({1, 3, 4})};
  out.anchors = {Tensor::from<float>({3, 4}, {0, 0, 100, 100, 0, 0, 100, 99.5, 0, 0, 100, 99.99f})};
  const auto found = detect(o, out)[0];
  REQUIRE(found.size() == 2);  // of the last box 5e-5 is left
  CHECK(found[1].box.y2 == 99.5f);
  CHECK(found[1].score == Approx(0.005 / (1 + std::exp(-1))).epsilon(1e-3));
}

TEST_CASE("detections: boxes are cut to the image, and NaN or infinity finds nothing") {
  RetinaNet model(small_options(3));
  auto out = random_output(5, 1, 3);
  const auto found = model.detect(out, {{50, 60}});
  CHECK(!found[0].empty());
  for (auto& d : found[0]) {
    CHECK((d.box.x1 >= 0 && d.box.y1 >= 0 && d.box.x2 <= 60 && d.box.y2 <= 50));
    CHECK((d.label >= 0 && d.label < 3));
  }
  bool wide = false, tall = false;  // without sizes, to the input of 100 x 120
  const auto uncut = model.detect(out);
  for (auto& d : uncut[0]) {
    CHECK((d.box.x2 <= 120 && d.box.y2 <= 100));
    wide = wide || d.box.x2 == 120, tall = tall || d.box.y2 == 100;
  }
  CHECK((wide && tall));
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    for (Tensor& t : out.deltas) t.fill(bad);
    CHECK(model.detect(out)[0].empty());
  }
  out = random_output(5, 1, 3);
  for (Tensor& t : out.logits) t.fill(NAN);
  CHECK(model.detect(out)[0].empty());
}

namespace {

RetinaNet::Output moved(const RetinaNet::Output& output, Device device) {  // in f64, which a played device computes in
  RetinaNet::Output out = output;
  for (auto* list : {&out.logits, &out.deltas})
    for (Tensor& t : *list) t = t.to(DType::f64).to(device);
  return out;
}

}  // namespace

TEST_CASE("detections on a device are the processor's, and are copied back once") {
  Dice dice(11);
  const std::vector<std::pair<int, int>> sizes{{100, 120}, {80, 70}};
  for (uint64_t round = 0; round < 36; ++round) {
    RetinaNetOptions o = small_options(3);
    o.level_top = round % 3 == 0 ? 20 : round % 3 == 1 ? 1000 : 1024, o.detections = int(dice.integer(0, 200));
    o.score_threshold = std::array{0.05, -1.0, 0.0, 0.5, 0.9999}[round % 5];
    if (round % 2) o.last_threshold = 0.2;
    if (round % 4 == 3) o.loss.kind = "softmax";
    if (dice.chance(0.5)) o.nms = dice.chance(0.5) ? "linear" : "gaussian", o.nms_threshold = 0.3, o.nms_sigma = 0.1;
    else o.nms_threshold = std::array{0.5, 0.0, 1.0, 0.7}[round % 4], o.nms_at_threshold = round % 7 == 0;
    if (round % 8 == 5) o.coder.style = BoxCoder::Style::corners;
    auto out = random_output(round, 2, o.loss.kind == "softmax" ? 4 : 3);
    if (round % 3 == 2)  // ties
      for (Tensor& t : out.logits)
        for (int64_t i = 0; i < t.size(); ++i) t.data<float>()[i] = std::round(t.data<float>()[i]);
    if (round % 5 == 4)
      for (Tensor& t : out.deltas)
        for (int64_t i = 0; i < t.size(); i += 7) t.data<float>()[i] = i % 2 ? NAN : INFINITY;
    const auto expected = detect(o, moved(out, Device::cpu), sizes);
    const test::WithFakeDevice fake;
    const auto got = detect(o, moved(out, Device::cuda), sizes);
    CHECK(fake.device->counts.to_host == 1);
    CHECK(fake.device->counts.synchronizations == 1);
    REQUIRE(got.size() == expected.size());
    for (size_t image = 0; image < got.size(); ++image) {
      INFO("round " << round << ", image " << image);
      const auto same = [](const Detection& a, const Detection& b) {
        return a.label == b.label && a.score == b.score && a.box.x1 == b.box.x1 && a.box.y1 == b.box.y1 &&
               a.box.x2 == b.box.x2 && a.box.y2 == b.box.y2;
      };
      CHECK(std::equal(got[image].begin(), got[image].end(), expected[image].begin(), expected[image].end(), same));
    }
  }
}

TEST_CASE("detections on a device: a level of many scores, and more of a level than lists are long") {
  RetinaNetOptions o = small_options(3);
  o.detections = 3000, o.nms_threshold = 1;
  Dice dice(12);
  RetinaNet::Output out;
  out.input_hw = {100, 120};
  Tensor logits({1, 9000, 3}), anchors({9000, 4});
  for (int64_t i = 0; i < logits.size(); ++i) logits.data<float>()[i] = float(dice.integer(-900, 900)) / 100;
  for (int64_t i = 0; i < anchors.size(); ++i) anchors.data<float>()[i] = float(i % 4 < 2 ? i % 50 : 60 + i % 40);
  out.logits = {logits}, out.deltas = {Tensor::zeros({1, 9000, 4})}, out.anchors = {anchors};
  for (const int top : {1000, 2500}) {
    o.level_top = top;
    const auto expected = detect(o, moved(out, Device::cpu))[0];
    const test::WithFakeDevice fake;
    const auto got = detect(o, moved(out, Device::cuda))[0];
    REQUIRE(int(got.size()) == top);
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i)
      CHECK((got[i].score == expected[i].score && got[i].label == expected[i].label));
  }
}
