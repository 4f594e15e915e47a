// RetinaNet as a whole: names, sizes, initial values, frozen parts, odd images, batches.
#include <cmath>
#include <map>

#include "core/allocator.h"
#include "core/autograd.h"
#include "core/error.h"
#include "core/threads.h"
#include "models/names.h"
#include "models/presets.h"
#include "models/summary.h"
#include "nn/init.h"
#include "nn/optim.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "tests/tensors.h"
#include "tests/tiny_retinanet.h"

using namespace fovea;
using namespace fovea::test;

namespace {

std::map<std::string, Tensor> by_name(const std::vector<Module::Named>& list) {
  std::map<std::string, Tensor> all;
  for (auto& n : list) all[n.name] = n.value;
  return all;
}

}  // namespace

TEST_CASE("modules that are computed together give what they give one by one, gradients too") {
  for (const char* backbone : {"tiny", "resnet50"})
    for (const char* norm : {"batch", "frozen", "group"})
      for (const bool training : {true, false}) {
        RetinaNetOptions o = tiny();
        o.backbone = backbone, o.backbone_norm = norm, o.width = 8;
        const ParameterType exact(DType::f64);  // f32 would differ where rounding moves an activation over relu's kink
        RetinaNet model(o, 3);
        for (auto& n : model.state())  // norms that do something
          if (n.value.dtype() == DType::f64 && n.value.rank() == 1)
            for (int64_t i = 0; i < n.value.size(); ++i) n.value.data<double>()[i] += 0.1 * double(i % 7);
        model.train(training);
        const Tensor images = noise({2, 64, 64, 3}, 5).to(DType::f64);
        const auto run = [&] {
          model.zero_grad();
          std::vector<Tensor> all = model(images).logits;
          Tensor sum = mean(all[0] * all[0]);
          for (size_t i = 1; i < all.size(); ++i) sum = sum + mean(all[i] * all[i]);
          backward(sum);
          for (auto& p : model.parameters()) all.push_back(p.value.grad() ? p.value.grad().clone() : Tensor());
          return all;
        };
        const auto together = run();
        const CallObserver observer([](const Module&, const std::vector<Tensor>&) {});
        const auto apart = run();
        INFO(backbone << " " << norm << (training ? " training" : " evaluation"));
        for (size_t i = 0; i < apart.size(); ++i) {
          REQUIRE(bool(together[i]) == bool(apart[i]));
          if (apart[i]) CHECK(distance(together[i], apart[i]) < 1e-9 * worse(largest(apart[i]), 1e-6));
        }
      }
}

TEST_CASE("parameters of the published networks, and torchvision's names") {
  const Uninitialised counted_alone;
  RetinaNet paper(preset("retinanet_r50").model);
  CHECK(paper.parameter_count() == 37915572);
  int64_t pyramid = 0;
  for (auto& p : paper.parameters())
    if (p.name.starts_with("backbone.")) pyramid += p.value.size();
  CHECK(pyramid == 31452352);

  RetinaNet v1(preset("tv_retinanet_r50").model);
  CHECK(v1.parameter_count() == 34014999);
  RetinaNet v2(preset("tv_retinanet_r50_v2").model);
  CHECK(v2.state().size() == 362);
  CHECK(v2.parameter_count() == 38198935);
  const auto names = by_name(v2.state());
  for (auto [name, shape] :
       std::map<std::string, Shape>{{"backbone.body.conv1.weight", {7, 7, 3, 64}},
                                    {"backbone.body.layer1.0.downsample.0.weight", {1, 1, 64, 256}},
                                    {"backbone.body.layer3.5.bn2.running_var", {256}},
                                    {"backbone.body.layer4.2.conv3.weight", {1, 1, 512, 2048}},
                                    {"backbone.fpn.inner_blocks.2.0.weight", {1, 1, 2048, 256}},
                                    {"backbone.fpn.layer_blocks.0.0.bias", {256}},
                                    {"backbone.fpn.extra_blocks.p6.weight", {3, 3, 2048, 256}},
                                    {"backbone.fpn.extra_blocks.p7.bias", {256}},
                                    {"head.classification_head.conv.0.0.weight", {3, 3, 256, 256}},
                                    {"head.classification_head.conv.3.1.bias", {256}},
                                    {"head.classification_head.cls_logits.weight", {3, 3, 256, 819}},
                                    {"head.regression_head.bbox_reg.bias", {36}}}) {
    INFO(name);
    REQUIRE(names.count(name));
    CHECK(names.at(name).shape() == shape);
  }
  CHECK(!names.count("head.classification_head.conv.0.0.bias"));  // GroupNorm has one
}

TEST_CASE("initial values: the prior, towers of N(0, 0.01), the pyramid's uniform, He's normal") {
  RetinaNet model(preset("retinanet_r18").model, 7);
  const auto p = by_name(model.parameters());
  const Tensor bias = p.at("head.classification_head.cls_logits.bias");
  for (int64_t i = 0; i < bias.size(); ++i) CHECK(bias.at(i) == Approx(-4.59511985013459));
  for (const char* name : {"head.classification_head.conv.2.0.weight", "head.regression_head.bbox_reg.weight"})
    CHECK(deviation(p.at(name)) == Approx(0.01).epsilon(0.02));
  CHECK(deviation(p.at("backbone.fpn.inner_blocks.2.0.weight")) == Approx(std::sqrt(1 / 512.0)).epsilon(0.02));
  CHECK(deviation(p.at("backbone.fpn.layer_blocks.1.0.weight")) == Approx(std::sqrt(1 / 2304.0)).epsilon(0.02));
  CHECK(deviation(p.at("backbone.body.layer3.0.conv1.weight")) == Approx(std::sqrt(2 / 2304.0)).epsilon(0.02));
  CHECK(deviation(p.at("backbone.fpn.layer_blocks.1.0.bias")) == 0);
  RetinaNet other(preset("retinanet_r18").model, 8);
  CHECK(by_name(other.parameters()).at("backbone.body.conv1.weight").at(0) != p.at("backbone.body.conv1.weight").at(0));
}

TEST_CASE("a softmax's head: the background's logit comes first and holds the prior") {
  RetinaNetOptions o = tiny(5);
  o.loss.kind = "softmax", o.final_std = 0;
  RetinaNet model(o);
  const auto out = model(noise({1, 64, 64, 3}, 2));
  CHECK(out.logits[0].shape() == Shape{1, out.anchors[0].dim(0), 6});
  const Tensor bias = by_name(model.parameters()).at("head.classification_head.cls_logits.bias");
  REQUIRE(bias.size() == 9 * 6);
  for (int64_t i = 0; i < bias.size(); ++i) CHECK(bias.at(i) == Approx(i % 6 ? 0 : std::log(5 * 0.99 / 0.01)));
  const auto losses = model.loss(out, {{.boxes = {{10, 10, 40, 40}}, .labels = {4}}});
  CHECK(losses.classification.item() == Approx(expected_initial_loss(o, losses.stats())).epsilon(1e-4));
  CHECK(model.detect(out)[0].empty());  // every class has 0.01 / 5
  backward(losses.total());
}

TEST_CASE("a norm of each level: own statistics, one affine map, their names") {
  Module root;
  LevelNorm norm(root, "norm", 2, 2, 1e-5);
  const std::vector<Tensor> maps = {noise({2, 3, 4, 2}, 1), noise({2, 1, 2, 2}, 2) * 3 + 5};
  const auto out = norm(maps);
  auto state = by_name(root.state());
  CHECK(state.size() == 6);
  for (size_t level = 0; level < 2; ++level)
    for (int64_t c = 0; c < 2; ++c) {
      const int64_t n = maps[level].size() / 2;
      double mean = 0, square = 0;
      for (int64_t i = 0; i < n; ++i) mean += maps[level].at(2 * i + c) / double(n);
      for (int64_t i = 0; i < n; ++i) square += std::pow(maps[level].at(2 * i + c) - mean, 2) / double(n);
      for (int64_t i = 0; i < n; ++i)
        CHECK(out[level].at(2 * i + c) ==
              Approx(std::max(0.0, (maps[level].at(2 * i + c) - mean) / std::sqrt(square + 1e-5))).margin(1e-5));
      CHECK(state.at(text("norm.running_mean_", level)).at(c) == Approx(0.1 * mean).margin(1e-6));
    }
  norm.eval();
  const double m = state.at("norm.running_mean_1").at(0), v = state.at("norm.running_var_1").at(0);
  CHECK(norm(maps)[1].at(0) == Approx(std::max(0.0, (maps[1].at(0) - m) / std::sqrt(v + 1e-5))));
  CHECK_THROWS_AS(norm(std::vector<Tensor>{maps[0]}), Error);

  RetinaNetOptions o = tiny();
  o.head_norm = "batch_per_level", o.last_level = 6;
  RetinaNet model(o);
  const auto names = by_name(model.state());
  for (const char* name : {"weight", "bias", "running_mean_0", "running_var_3"})
    CHECK(names.count(std::string("head.regression_head.conv.0.1.") + name));
  CHECK(!names.count("head.regression_head.conv.0.1.running_mean_4"));
  CHECK(!names.count("head.regression_head.conv.0.0.bias"));
  backward(model.loss(model(noise({1, 64, 64, 3}, 1)), {{.boxes = {{10, 10, 40, 40}}, .labels = {1}}}).total());
}

TEST_CASE("fixed norms: running statistics in training, too; a trained affine map; not for a start from scratch") {
  RetinaNetOptions o = tiny();
  o.backbone_norm = "fixed", o.freeze_stages = 2;
  CHECK_THROWS_AS(check_from_scratch(o), Error);
  RetinaNet model(o);
  const Tensor image = noise({1, 64, 64, 3}, 1);
  const auto out = model(image);
  backward(model.loss(out, {{.boxes = {{10, 10, 40, 40}}, .labels = {1}}}).total());
  const auto state = by_name(model.state()), trained = by_name(model.parameters());
  CHECK(!trained.count("backbone.body.layer1.0.bn1.weight"));  // a frozen stage
  CHECK(bool(trained.at("backbone.body.layer2.0.bn1.weight").grad()));
  CHECK(deviation(state.at("backbone.body.layer2.0.bn1.running_mean")) == 0);
  model.eval();
  CHECK(model(image).logits[0].values<float>() == out.logits[0].values<float>());
}

TEST_CASE("frozen stages get no gradient, and need weights") {
  RetinaNetOptions o = tiny();
  o.backbone_norm = "frozen", o.freeze_stages = 2;
  RetinaNet model(o);
  const auto out = model(noise({1, 64, 64, 3}, 1));
  backward(model.loss(out, {{.boxes = {{10, 10, 40, 40}}, .labels = {1}}}).total());
  for (auto& p : model.parameters()) {
    INFO(p.name);
    const bool frozen = p.name.starts_with("backbone.body.conv1") || p.name.starts_with("backbone.body.layer1");
    CHECK(p.value.requires_grad() == !frozen);
    CHECK(bool(p.value.grad()) == !frozen);
  }
  CHECK_THROWS_AS(check_from_scratch(o), Error);
  o.freeze_stages = 0;
  CHECK_THROWS_WITH(check_from_scratch(o), contains("backbone_norm = frozen"));  // nothing would train its norms
  o.backbone_norm = "group", o.freeze_stages = 2;
  CHECK_THROWS_AS(check_from_scratch(o), Error);
  o.freeze_stages = 0;
  CHECK_NOTHROW(check_from_scratch(o));
}

TEST_CASE("odd image sizes: a row of anchors for every row of logits; losses and detections in both modes") {
  for (auto [h, w] : {std::pair{97, 131}, {32, 33}, {1, 200}}) {
    RetinaNet model(tiny());
    for (bool training : {true, false}) {
      model.train(training);
      const auto out = model(noise({2, h, w, 3}, 3));
      REQUIRE(out.logits.size() == 5);
      for (size_t i = 0; i < 5; ++i) {
        CHECK(out.logits[i].shape() == Shape{2, out.anchors[i].dim(0), 3});
        CHECK(out.deltas[i].shape() == Shape{2, out.anchors[i].dim(0), 4});
      }
      CHECK(std::isfinite(model.loss(out, std::vector<Target>(2)).total().item()));
      CHECK(model.detect(out).size() == 2);
    }
  }
  RetinaNet model(tiny());
  CHECK_THROWS_AS(model(noise({1, 32, 32, 4}, 1)), Error);
}

TEST_CASE("a model that sees one size after another has the anchors of each") {
  RetinaNet model(tiny());
  for (auto [h, w] : {std::pair{64, 96}, {96, 64}, {64, 96}}) {  // as many anchors in each
    const auto out = model(noise({1, h, w, 3}, 3));
    CHECK(out.input_hw == std::pair{h, w});
    CHECK(out.anchors[0].values<float>() ==
          make_anchors(model.options.anchors, 3, {h / 8, w / 8}, {h, w}).values<float>());
  }
}

TEST_CASE("an image gives the same alone and in a batch") {
  RetinaNet model(tiny());
  model.eval();
  const Tensor two = noise({2, 96, 64, 3}, 5);
  const auto both = model(two), second = model(two.rows(1, 2).clone());
  for (size_t i = 0; i < 5; ++i) {
    const int64_t n = second.logits[i].size();
    for (int64_t k = 0; k < n; ++k) REQUIRE(both.logits[i].at(n + k) == Approx(second.logits[i].at(k)).margin(1e-5));
  }
}

TEST_CASE("without objects and at step 0 the loss is what the prior says") {
  RetinaNet model(tiny());
  const auto losses =
      model.loss(model(noise({2, 128, 128, 3}, 9)), {{.boxes = {{30, 20, 90, 100}}, .labels = {2}}, {}});
  CHECK(losses.classification.item() == Approx(expected_initial_loss(model.options, losses.stats())).epsilon(0.05));
  CHECK(losses.stats().boxes == 1);
  CHECK(losses.stats().unmatched == 0);
}

TEST_CASE("NaN pixels do not crash") {
  RetinaNet model(tiny());
  Tensor image = noise({1, 64, 64, 3}, 2);
  image.fill(NAN);
  const auto out = model(image);
  CHECK(model.detect(out)[0].empty());
  CHECK(std::isnan(model.loss(out, {{.boxes = {{10, 10, 40, 40}}, .labels = {1}}}).total().item()));
}

TEST_CASE("receptive fields: published ones, and the gradient's extent") {
  // Araujo et al. 2019, "Computing Receptive Fields of Convolutional Neural Networks"; ResNet v1 strides in 1x1
  ResNetOptions r50 = resnet_options("resnet50"), r101 = resnet_options("resnet101");
  r50.stride_1x1 = r101.stride_1x1 = true;
  CHECK(receptive_fields(r50)[2] == 483);
  CHECK(receptive_fields(r101)[2] == 1027);
  CHECK(receptive_fields(resnet_options("resnet18"))[2] == 435);
  CHECK(receptive_fields(resnet_options("resnet50"))[2] == 427);

  const auto fields = receptive_fields(resnet_options("tiny"));
  RetinaNet model(tiny());
  model.eval();
  Tensor image = noise({1, 1, 512, 3}, 8);  // of one row: the extent along x
  image.set_requires_grad();
  const Tensor c5 = model.backbone.body(image)[2];
  backward(sum(slice(c5, 2, 8, 9)));
  double largest = 0;  // what is far below it is rounding
  for (int64_t i = 0; i < image.size(); ++i) largest = std::max(largest, std::abs(image.grad().at(i)));
  int64_t low = 512, high = -1;
  for (int64_t x = 0; x < 512; ++x)
    for (int64_t c = 0; c < 3; ++c)
      if (std::abs(image.grad().at(3 * x + c)) > 1e-5 * largest) low = std::min(low, x), high = std::max(high, x);
  CHECK(high - low + 1 <= fields[2]);
  CHECK(high - low + 1 >= fields[2] - 16);  // zeros of ReLU may hide the ends
}

TEST_CASE("receptive fields of the heads are the extent of their gradients, whatever P6 is made of") {
  for (const char* p6_from : {"c5", "p5"}) {
    RetinaNetOptions o = tiny();
    o.p6_from = p6_from;
    const Summary s = summarise(o, {1, 2048});
    RetinaNet model(o);
    model.eval();
    for (size_t level = 2; level < 5; ++level) {  // P5 to P7; a finer one sees much through its coarse neighbours alone
      Tensor image = noise({1, 1, 2048, 3}, 8).set_requires_grad();
      const Tensor logits = model(image).logits[level];
      backward(sum(slice(logits, 1, logits.dim(1) / 2, logits.dim(1) / 2 + 9)));  // a cell
      const std::vector<float> g = image.grad().values<float>();
      double largest = 0;  // what is far below it is rounding
      for (const float v : g) largest = std::max(largest, std::abs(double(v)));
      const auto seen = [&](float v) { return std::abs(v) > 1e-5 * largest; };
      const auto first = std::find_if(g.begin(), g.end(), seen) - g.begin();
      const auto last = g.rend() - std::find_if(g.rbegin(), g.rend(), seen);
      INFO(s.levels[level].name << " with P6 from " << p6_from << ": pixels " << first << " to " << last);
      CHECK((last - first) / 3 <= s.levels[level].receptive_field);
      CHECK((last - first) / 3 > s.levels[level].receptive_field - 16);
    }
  }
}

TEST_CASE("multiply-adds of the paper's network") {
  // The head's 6,460,416 a cell is published for 80 classes; 146 GMAC at 800x800 with strides in 1x1 convolutions.
  RetinaNetOptions o = preset("retinanet_r50").model;
  o.stride_1x1 = true;
#ifdef __SANITIZE_ADDRESS__  // the same layers on fewer cells
  const Summary s = summarise(o, {160, 160});
#else
  const Summary s = summarise(o, {800, 800});
  CHECK(double(s.multiply_adds) * 1e-9 == Approx(146).margin(0.6));
#endif
  int64_t head = 0, cells = 0;
  for (auto& layer : s.layers)
    if (layer.path.starts_with("head.")) head += layer.multiply_adds;
  for (auto& level : s.levels) cells += level.height * level.width;
  CHECK(head == 6460416 * cells);
  CHECK(s.parameters == 37915572);
}

TEST_CASE("a summary counts what is trained, and tells of each level its anchors and what they see") {
  RetinaNetOptions o = tiny();
  o.backbone_norm = "frozen", o.freeze_stages = 2;
  o.anchors = {.base = 1, .scales = {2, 1, 4}, .ratios = {1}};
  const Summary s = summarise(o, {64, 96});
  int64_t trainable = 0;
  RetinaNet model(o);
  for (auto& p : model.parameters())
    if (!p.name.starts_with("backbone.body.conv1") && !p.name.starts_with("backbone.body.layer1"))
      trainable += p.value.size();
  CHECK(s.trainable == trainable);
  CHECK(s.trainable < s.parameters);
  const size_t before = memory_stats().current;
  const auto out = model(Tensor::zeros({1, 64, 96, 3}));  // with norms in their convolutions, as in a training step
  CHECK(double(s.activations) == Approx(double(memory_stats().current - before)).epsilon(0.02));
  const LevelSummary& p3 = s.levels[0];
  CHECK((p3.stride == 8 && p3.height == 8 && p3.width == 12 && p3.anchors == 8 * 12 * 3));
  CHECK((p3.smallest == Approx(8) && p3.largest == Approx(32)));
  // Around the corners of cells: of side 8 and 16 one row and one column leave the image, of 32 two, and one at the
  // end.
  CHECK(p3.inside == Approx((7 * 11 + 7 * 11 + 5 * 9) / 288.0));
}

TEST_CASE("a summary's steps of anchors are those between anchors, also where torchvision divides by the map") {
  for (const char* style : {"exact", "torchvision"}) {
    RetinaNetOptions o = tiny();
    o.anchors.style = style;
    const std::pair<int64_t, int64_t> hw{800, 850};
    const Summary s = summarise(o, hw);
    for (const LevelSummary& l : s.levels) {
      const int level = l.name[1] - '0';
      const Tensor anchors = make_anchors(o.anchors, level, {l.height, l.width}, hw);
      const auto y = [&](int64_t row) { return anchors.at((row * l.width * o.anchors.count()) * 4 + 1); };
      const auto x = [&](int64_t column) { return anchors.at(column * o.anchors.count() * 4); };
      INFO(style << " " << l.name);
      CHECK(double(l.anchor_step.first) == Approx(y(1) - y(0)));
      CHECK(double(l.anchor_step.second) == Approx(x(1) - x(0)));
    }
    const std::pair<int64_t, int64_t> p7 = s.levels.back().anchor_step;
    CHECK(p7 == (style == std::string("exact") ? std::pair<int64_t, int64_t>{128, 128}
                                               : std::pair<int64_t, int64_t>{114, 121}));
  }
}

TEST_CASE("torchvision's old names") {
  NamedTensors old;
  for (const char* name : {"head.regression_head.conv.6.bias", "backbone.fpn.inner_blocks.2.weight",
                           "head.classification_head.conv.3.0.weight", "backbone.fpn.extra_blocks.p6.weight",
                           "backbone.fpn.layer_blocks.1.0.bias"})
    old.add(name, Tensor::full({}, 1));
  std::string names;
  for (auto& [name, value] : modern_names(old).tensors) names += name + " ";
  CHECK(names ==
        "head.regression_head.conv.3.0.bias backbone.fpn.inner_blocks.2.0.weight "
        "head.classification_head.conv.3.0.weight "
        "backbone.fpn.extra_blocks.p6.weight backbone.fpn.layer_blocks.1.0.bias ");
}

TEST_CASE("a training step asks the system for no memory once the first two have run") {
  RetinaNet model(tiny(), 2);
  SGD sgd(decay_groups(model, 1e-4));
  const Tensor images = noise({2, 96, 64, 3}, 1);
  const std::vector<Target> targets(2, {.boxes = {{10, 10, 40, 50}}, .labels = {1}});
  const ThreadCount one(1);  // how many scratch blocks are held at once is up to the threads otherwise
  size_t asked = 0;
  for (int step = 0; step < 6; ++step) {
    const size_t before = memory_stats().system_allocations;
    backward(model.loss(model(images), targets).total());
    sgd.step(0.01);
    sgd.zero_grad();
    if (step >= 2) asked += memory_stats().system_allocations - before;
  }
  CHECK(asked == 0);
}

TEST_CASE("without a tape the heads get the memory of the pyramid") {
  RetinaNet model(tiny(20), 2);
  model.train(false);
  const Tensor images = noise({1, 96, 128, 3}, 1);
  const auto taped = model(images);
  const NoGrad off;
  const auto out = model(images);
  CHECK(taped.features.size() == 5);
  CHECK(out.features.empty());
  for (size_t i = 0; i < 5; ++i) CHECK(out.logits[i].values<float>() == taped.logits[i].values<float>());
  const ThreadCount one(1);
  std::vector<Tensor> features = model.backbone(images);
  const auto peak = [&](auto... given) { return reset_peak(), model.head(std::move(given)...), memory_stats().peak; };
  const size_t held = peak(features), moved = peak(std::move(features));
  CHECK(moved + 16 * 16 * 12 * 4 <= held);  // at least the finest level
}
