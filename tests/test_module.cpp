// Modules: names, paths, modes, freezing, observers, initial values.
#include <cmath>
#include <deque>

#include "core/autograd.h"
#include "nn/init.h"
#include "nn/layers.h"
#include "nn/pattern.h"
#include "ops/pointwise.h"
#include "tests/catch.h"
#include "tests/fake_device.h"

using namespace fovea;

namespace {

struct Block : Layer<Block> {
  using Layer::Layer;
  Conv2d conv1{*this, "conv1", {.in = 4, .out = 6, .kernel = 3, .pad = 1, .bias = false}};
  Norm bn1{*this, "bn1", {.kind = NormKind::batch, .channels = 6}};
  Tensor forward(const Tensor& x) { return conv1(x); }
};
// A stage whose blocks are a list made at run time, as ResNet's are.
struct Stage : Layer<Stage> {
  Stage(Module& parent, std::string name, int count) : Layer(parent, std::move(name)) {
    for (int i = 0; i < count; ++i) blocks.emplace_back(*this, std::to_string(i));
  }
  Tensor forward(const Tensor& x) { return blocks[1](x); }
  std::deque<Block> blocks;
};
struct Net : Layer<Net> {
  explicit Net(uint64_t seed = 0) : Layer(seed) {}
  Stage layer1{*this, "layer1", 2};
  Linear fc{*this, "fc", {.in = 6, .out = 3}};
  Norm frozen{*this, "frozen", {.kind = NormKind::frozen, .channels = 6}};
  Tensor forward(const Tensor& x) { return layer1(x); }
};

std::vector<std::string> names(const std::vector<Module::Named>& list) {
  std::vector<std::string> out;
  for (auto& n : list) out.push_back(n.name);
  return out;
}
using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("parameters and buffers have torchvision's names, in the order of declaration") {
  Net net;
  CHECK(names(net.parameters()) == Names{"layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.bn1.bias",
                                         "layer1.1.conv1.weight", "layer1.1.bn1.weight", "layer1.1.bn1.bias",
                                         "fc.weight", "fc.bias"});
  CHECK(names(net.layer1.blocks[0].buffers()) ==
        Names{"bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked"});
  CHECK(names(net.frozen.state()) == Names{"weight", "bias", "running_mean", "running_var"});
  CHECK(net.layer1.blocks[1].conv1.path() == "layer1.1.conv1");
  CHECK(net.parameter_count() == 2 * (9 * 4 * 6 + 12) + 6 * 3 + 3);
  CHECK(net.layer1.blocks[0].conv1.weight.shape() == Shape{3, 3, 4, 6});
}

TEST_CASE("a name that is used twice, empty or dotted is refused, and an undefined parameter") {
  Net net;
  CHECK_THROWS_AS(Linear(net, "fc", {.in = 1, .out = 1}), Error);
  CHECK_THROWS_AS(Linear(net, "", {.in = 1, .out = 1}), Error);
  CHECK_THROWS_AS(Linear(net, "a.b", {.in = 1, .out = 1}), Error);
  { Linear passing(net, "extra", {.in = 1, .out = 1}); }
  CHECK(net.children().size() == 3);  // a child that is gone is forgotten
  struct Unset : Layer<Unset> {
    Unset() : Layer(1) { parameter("weight", Tensor()); }
  };
  CHECK_THROWS_AS(Unset(), Error);
}

TEST_CASE("training mode reaches the children; patterns freeze") {
  Net net;
  net.eval();
  CHECK_FALSE(net.layer1.blocks[1].bn1.training());
  CHECK_FALSE(Linear(net, "late", {.in = 1, .out = 1}).training());  // nor in what is added later
  net.train();
  CHECK(net.layer1.blocks[1].bn1.training());
  Tensor(net.layer1.blocks[0].conv1.weight).set_grad(Tensor::zeros({3, 3, 4, 6}));
  CHECK(net.set_trainable("layer1.0.*", false) == 3);
  CHECK(!net.layer1.blocks[0].conv1.weight.grad());  // no later step moves it along
  CHECK_FALSE(net.layer1.blocks[0].conv1.weight.requires_grad());
  CHECK(net.layer1.blocks[1].conv1.weight.requires_grad());
  CHECK(net.set_trainable("nothing*", false) == 0);
}

TEST_CASE("layers name what they cannot be") {
  Module root;
  CHECK_THROWS_WITH(Linear(root, "a", {.in = 0, .out = 1}), contains("a: linear needs .in and .out above 0"));
  CHECK_THROWS_WITH(Conv2d(root, "b", {.in = 4, .out = 0}), contains("b: conv2d needs .in and .out"));
  CHECK_THROWS_WITH(Conv2d(root, "c", {.in = 4, .out = 6, .groups = 4}), contains("4 groups do not divide 4 and 6"));
  CHECK_THROWS_WITH(Conv2d(root, "d", {.in = 6, .out = 4, .groups = 4}), contains("4 groups do not divide 6 and 4"));
  CHECK_THROWS_WITH(Conv2d(root, "e", {.in = 4, .out = 4, .kernel = {3, 0}}), contains("a kernel of 3 x 0"));
  CHECK_THROWS_WITH(Embedding(root, "f", {.count = 0, .features = 2}), contains("f: embedding of 0 rows"));
  for (const double p : {-0.1, 1.0})
    CHECK_THROWS_WITH(Dropout(root, "g", p), contains("g: dropout with a probability"));
  CHECK_THROWS_WITH(Norm(root, "h", {.channels = 0}), contains("h: norm needs .channels above 0"));
  CHECK_THROWS_WITH(LayerNorm(root, "i", 0), contains("i: layer norm over 0 features"));
  CHECK_THROWS_WITH(ParameterType(DType::bf16), contains("f32 or f64, not bf16"));
}

TEST_CASE("patterns: stars, question marks, alternatives") {
  CHECK(matches("*.bias", "fc.bias"));
  CHECK_FALSE(matches("*.bias", "fc.biases"));
  CHECK(matches("a*b*c", "aXbXbXc"));
  CHECK(matches("layer?.x,fc.*", "fc.weight"));
  CHECK(matches("layer?.x,fc.*", "layer3.x"));
  CHECK(matches("layer?.x , fc.*", "layer3.x"));
  CHECK(matches("layer?.x , fc.*", "fc.weight"));
  CHECK_FALSE(matches("", "fc.weight"));
  CHECK(matches("*", ""));
}

TEST_CASE("a call opens its scope, also past modules that were not called, and observers see the output") {
  Net net;
  std::vector<std::string> seen;
  {
    CallObserver observer(
        [&](const Module& m, const std::vector<Tensor>& out) { seen.push_back(m.path() + out.at(0).shape().str()); });
    net(Tensor::zeros({1, 5, 5, 4}));
  }
  net(Tensor::zeros({1, 5, 5, 4}));
  CHECK(seen == Names{"layer1.1.conv1[1, 5, 5, 6]", "layer1.1[1, 5, 5, 6]", "layer1[1, 5, 5, 6]", "[1, 5, 5, 6]"});
  std::string message;
  try {
    net(Tensor::zeros({1, 5, 5, 7}));
  } catch (const Error& e) { message = e.what(); }
  CHECK(message.find("at layer1.1.conv1") != message.npos);
  try {  // without the stage's own call
    net.layer1.blocks[0](Tensor::zeros({1, 5, 5, 7}));
  } catch (const Error& e) { message = e.what(); }
  CHECK(message.find("at layer1.0.conv1") != message.npos);
  CHECK(Scope::path().empty());
}

TEST_CASE("initial values depend on the seed and the full name alone") {
  Net a(7), b(7), c(8);
  const auto va = a.fc.weight.values<float>();
  CHECK(va == b.fc.weight.values<float>());
  CHECK(va != c.fc.weight.values<float>());
  CHECK(a.layer1.blocks[0].conv1.weight.values<float>() != a.layer1.blocks[1].conv1.weight.values<float>());
  struct Other : Layer<Other> {  // the same name after other parameters
    Other() : Layer(7) {}
    Linear before{*this, "before", {.in = 2, .out = 2}};
    Linear fc{*this, "fc", {.in = 6, .out = 3}};
  } other;
  CHECK(other.fc.weight.values<float>() == va);
  ParameterType wide(DType::f64);
  const Net d(7);
  for (int64_t i = 0; i < d.fc.weight.size(); ++i) CHECK(va[i] == static_cast<float>(d.fc.weight.at(i)));
  Tensor w = Tensor::full({3, 3}, 5);
  {
    const Uninitialised kept;
    uniform_(w, Philox{7, 1}, 0, 1), normal_(w, Philox{7, 1});
    CHECK(w.values<float>() == std::vector<float>(9, 5));
  }
  uniform_(w, Philox{7, 1}, 0, 1);
  CHECK(w.at(0) < 1);
}

TEST_CASE("initialisers refuse the memory of a device") {
  const test::WithFakeDevice fake;
  const Tensor there({4, 4}, DType::f32, Device::cuda);
  CHECK_THROWS_WITH(normal_(there, {1, 2}), contains("init: the tensor is on cuda"));
  CHECK_THROWS_WITH(kaiming_uniform_(there, {1, 2}, 1), contains("then move_to() the device"));
}

TEST_CASE("initialisers have the mean and deviation they promise") {
  const auto moments = [](const Tensor& t) {
    double sum = 0, squares = 0;
    for (const float v : t.values<float>()) sum += v, squares += double(v) * v;
    const double n = static_cast<double>(t.size()), mean = sum / n;
    return std::pair(mean, std::sqrt(squares / n - mean * mean));
  };
  Tensor w({3, 3, 64, 128});  // 73,728 numbers: the mean is within 5 deviations / sqrt(n), which is 2%
  const Philox random{3, 4};
  normal_(w, random, 0.5, 0.01);
  CHECK(moments(w).first == Approx(0.5).margin(2e-4));
  CHECK(moments(w).second == Approx(0.01).epsilon(0.02));
  kaiming_normal_(w, random);
  CHECK(moments(w).second == Approx(std::sqrt(2.0 / (128 * 9))).epsilon(0.02));
  kaiming_normal_(w, random, false);
  CHECK(moments(w).second == Approx(std::sqrt(2.0 / (64 * 9))).epsilon(0.02));
  const double root3 = std::sqrt(3.0);  // U(-b, b) has deviation b / sqrt 3
  kaiming_uniform_(w, random, 1);
  CHECK(moments(w).second == Approx(std::sqrt(3.0 / (64 * 9)) / root3).epsilon(0.02));
  xavier_uniform_(w, random);
  CHECK(moments(w).second == Approx(std::sqrt(6.0 / (9 * (64 + 128))) / root3).epsilon(0.02));
  const auto before = w.version();
  constant_(w, 2);
  CHECK((w.version() > before && moments(w) == std::pair(2.0, 0.0)));
  Net net;  // layers start with torch's default: U(-1/sqrt(fan_in), 1/sqrt(fan_in))
  const double bound = 1 / std::sqrt(9.0 * 4);
  double largest = 0;
  for (const float v : net.layer1.blocks[0].conv1.weight.values<float>())
    largest = std::max(largest, std::abs(double(v)));
  CHECK((largest <= bound && largest > 0.9 * bound));
  const auto bound_of = [](const Tensor& t, double fan_in) {  // nearly reached, never passed
    double most = 0;
    for (const float v : t.values<float>()) most = std::max(most, std::abs(double(v)));
    CHECK((most <= 1 / std::sqrt(fan_in) && most > 0.9 / std::sqrt(fan_in)));
  };
  Module root;
  const Linear fc(root, "fc", {.in = 100, .out = 64});
  bound_of(fc.weight, 100), bound_of(fc.bias, 100);
  const ConvTranspose2d up(root, "up", {.in = 48, .out = 6, .kernel = 3, .groups = 2});
  bound_of(up.weight, 9 * 3);  // torch's fan of a transposed convolution: outputs of a group
  const Embedding table(root, "table", {.count = 300, .features = 40});
  CHECK(moments(table.weight).first == Approx(0).margin(0.05));
  CHECK(moments(table.weight).second == Approx(1).epsilon(0.02));
  CHECK_THROWS_AS(xavier_uniform_(Tensor({5}), random), Error);
}

TEST_CASE("a shared module's gradient arrives in the module and in what parameters() returns") {
  struct Scaled : Layer<Scaled> {
    Linear fc{*this, "fc", {.in = 2, .out = 1, .bias = false}};
    Tensor forward(const Tensor& x) { return fc(x); }
  } net;
  backward(net(Tensor::from<float>({1, 2}, {3, 5})));
  CHECK(net.parameters()[0].value.grad().values<float>() == std::vector<float>{3, 5});
  net.zero_grad();
  CHECK_FALSE(net.fc.weight.grad());
}

TEST_CASE("norms: the kinds differ in where statistics come from, in what is trained, and in their names") {
  Module root;
  Norm batch(root, "batch", {.kind = NormKind::batch, .channels = 2, .momentum = 0.5});
  Norm frozen(root, "frozen", {.kind = NormKind::frozen, .channels = 2, .relu = true});
  Norm group(root, "group", {.kind = NormKind::group, .channels = 2, .groups = 1});
  Norm none(root, "none", {.kind = NormKind::none});
  const Tensor x = Tensor::from<float>({1, 1, 2, 2}, {1, -10, 3, -30});  // channel means 2, -20, variances 1, 100
  const Tensor y = batch(x);
  CHECK(y.at(0) == Approx(-1).epsilon(1e-4));
  CHECK(y.at(3) == Approx(-1).epsilon(1e-4));
  CHECK(batch.num_batches_tracked.item() == 1);
  CHECK(batch.running_mean.at(1) == Approx(-10));
  CHECK(batch.running_var.at(1) == Approx(0.5 + 100));  // the unbiased variance is 200
  batch.eval();
  CHECK(batch(x).at(0) == Approx((1 - 1) / std::sqrt(1.5)).margin(1e-6));
  CHECK(batch.num_batches_tracked.item() == 1);
  CHECK(frozen(x).at(0) == Approx(1).epsilon(1e-4));
  CHECK(frozen(x).at(1) == 0);  // relu
  CHECK(group(x).at(0) == Approx((1 + 9) / std::sqrt(171.5)).epsilon(1e-4));
  CHECK(none(x).at(3) == -30);
  CHECK(names(root.parameters()) == Names{"batch.weight", "batch.bias", "group.weight", "group.bias"});
  CHECK(norm_kind("group") == NormKind::group);
  CHECK_THROWS_AS(norm_kind("layer"), Error);
  CHECK_THROWS_AS(Norm(root, "odd", {.kind = NormKind::group, .channels = 33}), Error);
}

TEST_CASE("every norm takes its eps, alone and behind a convolution") {
  const Tensor x = Tensor::from<float>({1, 1, 2, 2}, {1, -10, 3, -30});
  Module root;
  for (const NormKind kind : {NormKind::batch, NormKind::fixed, NormKind::frozen, NormKind::group}) {
    const std::string name = text("norm", int(kind));
    Norm norm(root, name, {.kind = kind, .channels = 2, .groups = 2, .eps = 3});
    const bool of_x = kind == NormKind::batch || kind == NormKind::group;  // channel mean 2, variance 1
    CHECK(norm(x).at(0) == Approx(of_x ? (1 - 2) / std::sqrt(1.0 + 3) : 1 / std::sqrt(1.0 + 3)));
    Conv2d same(root, name + "conv", {.in = 2, .out = 2, .bias = false});
    same.weight.copy_from(Tensor::from<float>({1, 1, 2, 2}, {1, 0, 0, 1}));
    NoGrad quiet;
    CHECK(conv_norm(same, norm, x).at(0) == Approx(norm(x).at(0)));
  }
  LayerNorm rows(root, "rows", 2, 0.75);
  CHECK(rows(Tensor::from<float>({1, 2}, {1, 2})).at(1) == Approx(0.5 / std::sqrt(0.25 + 0.75)));
}

TEST_CASE("a convolution and its norm give what they give one by one, in training and evaluation") {
  Tensor x({1, 4, 4, 2});
  normal_(x, Philox{1});
  for (const int own : {0, 1, 2, 3}) {  // none, a bias, a relu of the convolution's, of the norm's
    Module root(3);
    Conv2d conv(root, "conv", {.in = 2, .out = 3, .kernel = 3, .bias = own == 1, .relu = own == 2});
    Norm norm(root, "norm", {.channels = 3, .relu = own == 3});
    Relu last(root, "relu");
    const Tensor residual = Tensor::full({1, 2, 2, 3}, 0.1);
    for (const bool training : {true, false}) {
      root.train(training);
      NoGrad quiet;
      const Tensor parts = norm(conv(x)), with = relu(parts + residual);
      const Tensor one = conv_norm(conv, norm, x), two = conv_norm(conv, norm, x, &last, residual);
      for (int64_t i = 0; i < one.size(); ++i) {
        CHECK(one.at(i) == Approx(parts.at(i)).margin(1e-5));
        CHECK(two.at(i) == Approx(with.at(i)).margin(1e-5));
      }
    }
  }
}

TEST_CASE("a convolution with a relu of its own refuses what comes after it in one pass") {
  Module root;
  Conv2d conv(root, "conv", {.in = 2, .out = 2, .relu = true});
  const Tensor x = Tensor::full({1, 1, 1, 2}, -3);
  CHECK_THROWS_WITH(conv(x, Conv2d::After{.residual = x}), contains("a relu of its own takes no After"));
}

TEST_CASE("sequential counts functions as positions, as torch does") {
  Module root;
  Sequential conv(root, "conv");
  conv.add<Conv2d>({.in = 2, .out = 3});
  conv.add(relu);
  conv.add<Conv2d>({.in = 3, .out = 1, .bias = false});
  CHECK(names(root.parameters()) == Names{"conv.0.weight", "conv.0.bias", "conv.2.weight"});
  CHECK(conv(Tensor::zeros({1, 4, 4, 2})).shape() == Shape{1, 4, 4, 1});
}

TEST_CASE("dropout draws by step and call, keeps the mean, and is off in evaluation") {
  Module root(3);
  Dropout drop(root, "drop", 0.25);
  const Tensor x = Tensor::full({20'000}, 1);
  Dropout::set_step(5);
  const auto a = drop(x).values<float>(), b = drop(x).values<float>();
  Dropout::set_step(6);
  const auto c = drop(x).values<float>();
  Dropout::set_step(5);
  CHECK(drop(x).values<float>() == a);
  CHECK((a != b && a != c && b != c));
  double sum = 0;
  for (const float v : a) sum += v;
  CHECK(sum / 20'000 == Approx(1).margin(0.02));
  drop.eval();
  CHECK(drop(x).values<float>() == x.values<float>());
}

TEST_CASE("layer norm, embedding and transposed convolution have torch's names and shapes") {
  Module root;
  LayerNorm norm(root, "norm", 4);
  Embedding table(root, "table", {.count = 5, .features = 4});
  ConvTranspose2d up(root, "up", {.in = 4, .out = 2, .kernel = 2, .stride = 2});
  const Tensor rows = table(Tensor::from<int64_t>({2}, {4, 0}));
  CHECK(rows.at(0) == table.weight.at(16));
  CHECK(norm(rows).shape() == Shape{2, 4});
  CHECK(up(Tensor::zeros({1, 3, 5, 4})).shape() == Shape{1, 6, 10, 2});
  {
    ConvTranspose2d more(root, "more", {.in = 4, .out = 2, .kernel = 2, .stride = 2, .output_pad = {1, 0}});
    CHECK(more(Tensor::zeros({1, 3, 5, 4})).shape() == Shape{1, 7, 10, 2});
  }
  CHECK(up.weight.shape() == Shape{2, 2, 2, 4});
  CHECK(names(root.parameters()) == Names{"norm.weight", "norm.bias", "table.weight", "up.weight", "up.bias"});
}
