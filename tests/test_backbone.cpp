// The residual network, the pyramid and the towers against the same written op by op, and how they begin.
#include <cmath>
#include <map>

#include "core/autograd.h"
#include "nn/init.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "ops/resize.h"
#include "ops/shape.h"
#include "tests/tensors.h"
#include "tests/tiny_retinanet.h"

using namespace fovea;
using namespace fovea::test;

namespace {

// A network whose norms do something, and its tensors by name.
struct Written {
  explicit Written(const RetinaNetOptions& options) : eps(options.norm_eps), model(options, 4) {
    model.eval();
    uint64_t seed = 100;
    for (auto& n : model.state()) {
      state[n.name] = n.value;
      const bool spread = n.name.find("running_var") != n.name.npos || n.name.find(".bn") != n.name.npos;
      if (n.value.rank() == 1 && n.value.dtype() == DType::f32)
        uniform_(n.value, Philox{++seed}, spread ? 0.5 : -0.3, 1);
    }
  }
  Tensor conv(const std::string& name, const Tensor& x, int stride, int pad) const {
    const auto bias = state.find(name + ".bias");
    return conv2d(x, state.at(name + ".weight"), bias == state.end() ? Tensor() : bias->second,
                  {.stride = stride, .pad = pad});
  }
  Tensor norm(const std::string& name, const Tensor& x, const std::string& level = "") const {
    const auto of = [&](const std::string& part) { return state.at(name + part); };
    return (x - of(".running_mean" + level)) / sqrt(of(".running_var" + level) + eps) * of(".weight") + of(".bias");
  }
  Tensor block(const std::string& name, const Tensor& x, int stride, bool bottleneck) const {
    const auto step = [&](int i, const Tensor& t, int s, int pad) {
      return norm(text(name, ".bn", i), conv(text(name, ".conv", i), t, s, pad));
    };
    Tensor y = relu(bottleneck ? step(1, x, 1, 0) : step(1, x, stride, 1));
    y = bottleneck ? step(3, relu(step(2, y, stride, 1)), 1, 0) : step(2, y, 1, 1);
    const bool same = !state.count(name + ".downsample.0.weight");
    return relu(y + (same ? x : norm(name + ".downsample.1", conv(name + ".downsample.0", x, stride, 0))));
  }
  double eps;
  RetinaNet model;
  std::map<std::string, Tensor> state;
};

}  // namespace

TEST_CASE("a residual network is its blocks, one after another") {
  const NoGrad off;
  for (const char* backbone : {"tiny", "resnet50"}) {
    RetinaNetOptions o = tiny();
    o.backbone = backbone, o.width = 8, o.backbone_norm = "frozen", o.norm_eps = 0.5;
    Written w(o);
    CHECK(w.state.at("backbone.body.conv1.weight").shape() == Shape{7, 7, 3, 8});
    const Tensor image = noise({1, 64, 96, 3}, 3);
    Tensor x = max_pool2d(relu(w.norm("backbone.body.bn1", w.conv("backbone.body.conv1", image, 2, 3))),
                          {.kernel = 3, .stride = 2, .pad = 1});
    const auto maps = w.model.backbone.body(image);
    const ResNetOptions body = resnet_options(backbone);
    for (int stage = 0; stage < 4; ++stage) {
      for (int i = 0; i < body.blocks[size_t(stage)]; ++i)
        x = w.block(text("backbone.body.layer", stage + 1, ".", i), x, i == 0 && stage > 0 ? 2 : 1, body.bottleneck);
      if (stage > 0) check_near(maps[size_t(stage) - 1], x);
    }
  }
}

TEST_CASE("the result of a block takes the place of what only the block holds") {
  const Written net({.backbone = "resnet50", .backbone_norm = "fixed"});
  const NoGrad off;
  auto& block = *dynamic_cast<ResidualBlock*>(net.model.backbone.body.children()[4]->children()[1]);
  REQUIRE(block.path() == "backbone.body.layer1.1");
  Tensor x({1, 6, 5, 256});
  normal_(x, Philox{3});
  const Tensor kept = x.clone();
  const Tensor held = block(x);
  CHECK(!held.shares_storage(x));
  CHECK(x.values<float>() == kept.values<float>());
  Tensor own = x.clone();
  const void* place = own.raw();
  const Tensor y = block(std::move(own));
  CHECK(y.raw() == place);
  CHECK(y.values<float>() == held.values<float>());
}

TEST_CASE("a pyramid is laterals and what comes from above; P6 and P7 are strided convolutions") {
  const NoGrad off;
  for (const char* p6_from : {"c5", "p5"}) {
    RetinaNetOptions o = tiny();
    o.p6_from = p6_from;
    Written w(o);
    const Tensor image = noise({1, 72, 104, 3}, 3);  // sizes that do not double from level to level
    const auto c = w.model.backbone.body(image), p = w.model.backbone(image);
    REQUIRE(p.size() == 5);
    Tensor above;
    for (int level = 2; level >= 0; --level) {
      const Tensor own = w.conv(text("backbone.fpn.inner_blocks.", level, ".0"), c[size_t(level)], 1, 0);
      above = above ? own + resize_nearest(above, own.dim(1), own.dim(2)) : own;
      check_near(p[size_t(level)], w.conv(text("backbone.fpn.layer_blocks.", level, ".0"), above, 1, 1));
    }
    check_near(p[3], w.conv("backbone.fpn.extra_blocks.p6", p6_from == std::string("c5") ? c[2] : p[2], 2, 1));
    check_near(p[4], w.conv("backbone.fpn.extra_blocks.p7", relu(p[3]), 2, 1));
  }
}

TEST_CASE("towers are convolutions, norms and ReLUs") {
  const NoGrad off;
  for (const std::string norm : {"none", "group", "batch", "batch_per_level"}) {
    RetinaNetOptions o = tiny();
    o.head_norm = norm, o.tower_depth = 2, o.norm_eps = 0.5;
    Written w(o);
    const auto maps = w.model.backbone(noise({2, 64, 96, 3}, 3));
    const auto out = w.model.head(maps);
    for (const std::string tower : {"classification_head", "regression_head"}) {
      Tensor x = maps[1];
      for (int i = 0; i < 2; ++i) {
        const std::string name = text("head.", tower, ".conv.", i);
        x = w.conv(name + ".0", x, 1, 1);
        if (norm == "group") x = group_norm(x, w.state.at(name + ".1.weight"), w.state.at(name + ".1.bias"), 8, 0.5);
        if (norm.starts_with("batch")) x = w.norm(name + ".1", x, norm == "batch" ? "" : "_1");
        x = relu(x);
      }
      const bool classes = tower == "classification_head";
      x = w.conv(text("head.", tower, classes ? ".cls_logits" : ".bbox_reg"), x, 1, 1);
      const Tensor& found = classes ? out.logits[1] : out.deltas[1];
      check_near(found, reshape(x, found.shape()));
    }
  }
}

TEST_CASE("groups of channels: 32, or fewer of two channels at least; ResNeXt's are of eight times the width's share") {
  for (auto [channels, groups] : {std::pair{256, 32}, {64, 32}, {32, 16}, {16, 8}, {6, 2}, {3, 1}, {1, 1}}) {
    INFO(channels);
    CHECK(norm_groups(channels) == groups);
  }
  Module root;
  ResNet net(root, "net", {.blocks = {1, 1, 1, 1}, .width = 16, .groups = 32, .group_width = 8});
  std::map<std::string, Shape> shapes;
  for (auto& p : net.parameters()) shapes[p.name] = p.value.shape();
  CHECK(shapes.at("layer1.0.conv1.weight") == Shape{1, 1, 16, 64});  // a quarter of 32x8d's 64 to 256
  CHECK(shapes.at("layer1.0.conv2.weight") == Shape{3, 3, 2, 64});
  CHECK(shapes.at("layer4.0.conv2.weight") == Shape{3, 3, 16, 512});
  CHECK(shapes.at("layer4.0.conv3.weight") == Shape{1, 1, 512, 512});
}

TEST_CASE("the first stages are frozen, their batch norms with them") {
  for (int frozen = 0; frozen <= 5; ++frozen) {
    RetinaNetOptions o = tiny();
    o.width = 8, o.freeze_stages = frozen;
    RetinaNet model(o);
    std::map<std::string, bool> trained;
    for (auto& p : model.parameters()) trained[p.name] = p.value.requires_grad();
    INFO(frozen << " stages");
    CHECK(trained.at("backbone.body.conv1.weight") == (frozen < 1));
    CHECK(trained.count("backbone.body.bn1.weight") == (frozen < 1));  // otherwise a buffer
    for (int stage = 1; stage <= 4; ++stage) {
      const std::string layer = text("backbone.body.layer", stage, ".0.");
      CHECK(trained.at(layer + "conv2.weight") == (frozen < stage + 1));
      CHECK(trained.count(layer + "bn2.weight") == (frozen < stage + 1));
    }
    CHECK(trained.at("backbone.fpn.inner_blocks.0.0.weight"));
  }
}

TEST_CASE("first values follow the options: the prior, the last deviation; other biases of heads and pyramid are 0") {
  RetinaNetOptions o = tiny();
  o.prior = 0.2, o.final_std = 0.05, o.channels = 64;
  RetinaNet model(o, 3);
  std::map<std::string, Tensor> p;
  for (auto& n : model.parameters()) p[n.name] = n.value;
  for (int64_t i = 0; i < 27; ++i)
    CHECK(p.at("head.classification_head.cls_logits.bias").at(i) == Approx(-std::log(0.8 / 0.2)));
  for (const char* last : {"classification_head.cls_logits", "regression_head.bbox_reg"})
    CHECK(deviation(p.at(text("head.", last, ".weight"))) == Approx(0.05).epsilon(0.03));
  CHECK(deviation(p.at("head.regression_head.conv.0.0.weight")) == Approx(0.01).epsilon(0.03));
  CHECK(deviation(p.at("backbone.fpn.extra_blocks.p6.weight")) == Approx(std::sqrt(1 / (9 * 256.0))).epsilon(0.02));
  CHECK(deviation(p.at("backbone.fpn.extra_blocks.p7.weight")) == Approx(std::sqrt(1 / (9 * 64.0))).epsilon(0.02));
  for (const char* name : {"head.regression_head.bbox_reg", "head.classification_head.conv.0.0",
                           "backbone.fpn.extra_blocks.p7", "backbone.fpn.inner_blocks.0.0"})
    CHECK(deviation(p.at(text(name, ".bias"))) == 0);
}
