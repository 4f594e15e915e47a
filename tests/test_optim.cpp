// Optimisers against recurrences in f64 and numbers of torch; clipping, schedules, the moving average.
#include "nn/optim.h"

#include <cmath>

#include "core/threads.h"
#include "nn/ema.h"
#include "nn/schedule.h"
#include "tests/catch.h"

using namespace fovea;

namespace {

// A module of one matrix and one bias: what decay_groups() tells apart.
struct Pair : Module {
  explicit Pair(int64_t n = 3) : Module(1) {
    w = parameter("weight", Tensor::zeros({n, 1}));
    b = parameter("bias", Tensor::zeros({n}));
    count = buffer("count", Tensor::zeros({}, DType::i64));
    for (int64_t i = 0; i < n; ++i) w.data<float>()[i] = start(i), b.data<float>()[i] = start(i + 7);
  }
  static float start(int64_t i) { return static_cast<float>(std::sin(1.0 + static_cast<double>(i))); }
  static float slope(int64_t i, int step) { return static_cast<float>(std::cos(0.3 * static_cast<double>(i) + step)); }
  void set_grads(int step) {
    for (Tensor* t : {&w, &b}) {
      Tensor g(t->shape());
      for (int64_t i = 0; i < g.size(); ++i) g.data<float>()[i] = slope(i, step);
      t->set_grad(g);
    }
  }
  Tensor w, b, count;
};

double rate(int step) { return 0.1 / (1 + step); }

}  // namespace

TEST_CASE("sgd follows its recurrence, with and without nesterov; norms and biases have their own decay") {
  for (const bool nesterov : {false, true}) {
    Pair net;
    SGD sgd(decay_groups(net, 0.01, 0.002), {.momentum = 0.9, .nesterov = nesterov});
    double w[3], b[3], vw[3] = {}, vb[3] = {};
    for (int i = 0; i < 3; ++i) w[i] = Pair::start(i), b[i] = Pair::start(i + 7);
    for (int step = 0; step < 20; ++step) {
      net.set_grads(step);
      sgd.step(rate(step));
      const auto follow = [&](double* p, double* v, double decay) {
        for (int i = 0; i < 3; ++i) {
          const double g = Pair::slope(i, step) + decay * p[i];
          v[i] = 0.9 * v[i] + g;
          p[i] -= rate(step) * (nesterov ? g + 0.9 * v[i] : v[i]);
        }
      };
      follow(w, vw, 0.01), follow(b, vb, 0.002);
    }
    for (int i = 0; i < 3; ++i) {
      CHECK(net.w.at(i) == Approx(w[i]).margin(2e-6));
      CHECK(net.b.at(i) == Approx(b[i]).margin(2e-6));
    }
    CHECK(sgd.steps() == 20);
  }
}

TEST_CASE("adamw follows the paper's recurrence") {
  Pair net;
  AdamW adam(decay_groups(net, 0.05), {.beta1 = 0.8, .beta2 = 0.95, .eps = 0.1});  // outside of both roots
  double w[3], m[3] = {}, v[3] = {};
  for (int i = 0; i < 3; ++i) w[i] = Pair::start(i);
  for (int step = 0; step < 20; ++step) {
    net.set_grads(step);
    adam.step(rate(step));
    for (int i = 0; i < 3; ++i) {
      const double g = Pair::slope(i, step), t = step + 1;
      m[i] = 0.8 * m[i] + 0.2 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      w[i] -= rate(step) * 0.05 * w[i];
      w[i] -= rate(step) * (m[i] / (1 - std::pow(0.8, t))) / (std::sqrt(v[i] / (1 - std::pow(0.95, t))) + 0.1);
    }
  }
  for (int i = 0; i < 3; ++i) CHECK(net.w.at(i) == Approx(w[i]).margin(2e-6));
}

TEST_CASE("adamw's first step moves by the rate, however near the betas are to 1") {
  for (const double beta1 : {0.9, 0.9999999})
    for (const double beta2 : {0.999, 0.99999, 0.99999999}) {
      Pair net;
      AdamW adam(decay_groups(net, 0), {.beta1 = beta1, .beta2 = beta2});
      net.set_grads(0);
      adam.step(0.125);
      INFO(beta1 << " " << beta2);
      for (int i = 0; i < 3; ++i) CHECK(Pair::start(i) - net.w.at(i) == Approx(0.125).epsilon(1e-5));
    }
}

TEST_CASE("ten steps give the numbers of torch.optim") {
  const auto after = [](auto&& make) {
    Pair net;
    auto optimizer = make(net);
    for (int step = 0; step < 10; ++step) net.set_grads(step), optimizer.step(rate(step));
    return net.w;
  };
  const auto agree = [](const Tensor& w, const std::vector<double>& torch) {  // made by torch 1.13 in f64
    for (int i = 0; i < 3; ++i) CHECK(w.at(i) == Approx(torch[i]).margin(2e-6));
  };
  agree(after([](Pair& p) { return SGD(decay_groups(p, 0.01), {.momentum = 0.9}); }),
        {0.629889992, 0.756007801, 0.065916937});
  agree(after([](Pair& p) { return SGD(decay_groups(p, 0.01), {.momentum = 0.9, .nesterov = true}); }),
        {0.557056870, 0.700068969, 0.033457102});
  agree(after([](Pair& p) { return AdamW(decay_groups(p, 0.05)); }), {0.669399972, 0.757222490, 0.027039942});
}

TEST_CASE("groups by pattern: the first rule that matches decides; the scale multiplies the rate") {
  Pair net;
  const auto groups = groups_by_pattern(net, {{"bias", 0, 0}, {"*", 0.5, 0.25}}, 1);
  CHECK(groups[0].params.size() == 1);
  CHECK(groups[1].params.size() == 1);
  CHECK(groups[2].params.empty());
  SGD sgd(groups, {.momentum = 0});
  net.set_grads(0);
  sgd.step(0.2);
  CHECK(net.b.at(1) == Pair::start(8));  // scale 0
  CHECK(net.w.at(1) == Approx(Pair::start(1) - 0.1 * (Pair::slope(1, 0) + 0.25 * Pair::start(1))));
  CHECK(sgd.state().size() == 1);  // no momentum, no state but the count
}

TEST_CASE("a frozen parameter has no state, one without a gradient keeps its value") {
  Pair net;
  net.set_trainable("weight", false);
  AdamW adam(decay_groups(net, 0.1));
  CHECK(adam.state().size() == 3);
  CHECK(adam.state()[1].name == "m/bias");
  adam.step(1);
  CHECK(net.b.at(0) == Pair::start(7));
}

TEST_CASE("a step without a gradient for one parameter leaves the others their own state") {
  Pair net;
  SGD sgd(decay_groups(net, 0), {.momentum = 0.5});
  double b = Pair::start(7), v = 0;
  for (int step = 0; step < 4; ++step) {
    net.set_grads(step);
    if (step % 2) net.w.set_grad({});
    sgd.step(0.1);
    v = 0.5 * v + Pair::slope(0, step), b -= 0.1 * v;
    CHECK(net.b.at(0) == Approx(b).margin(1e-6));
  }
  const double w = Pair::start(0) - 0.1 * (Pair::slope(0, 0) + 0.5 * Pair::slope(0, 0) + Pair::slope(0, 2));
  CHECK(net.w.at(0) == Approx(w).margin(1e-6));
  sgd.zero_grad();
  CHECK(!net.w.grad());
  CHECK(!net.b.grad());
}

TEST_CASE("options that no optimiser, average or schedule can have are refused") {
  Pair net;
  for (const double momentum : {-0.1, 1.0})
    CHECK_THROWS_WITH(SGD({}, {.momentum = momentum}), contains("sgd: momentum"));
  CHECK_THROWS_WITH(SGD({}, {.momentum = 0, .nesterov = true}), contains("nesterov needs"));
  for (const AdamW::Options& betas : {AdamW::Options{1, 0.9}, {0.9, 1}, {-0.1, 0.9}, {0.9, -0.1}})
    CHECK_THROWS_WITH(AdamW({}, betas), contains("adamw: the betas"));
  CHECK_THROWS_WITH(AdamW({}, {.eps = -1}), contains("adamw: eps -1 is negative"));
  CHECK_THROWS_WITH(SGD(decay_groups(net, -1)), contains("weight decay -1 is negative"));
  CHECK_THROWS_WITH(SGD(decay_groups(net, 0)).step(NAN), contains("a learning rate of nan"));
  CHECK_THROWS_WITH(groups_by_pattern(net, {{"*", 1, 0}, {"bias", 1, 0}}, 0), contains("'bias' matches no parameter"));
  CHECK_THROWS_WITH(clip_grad_value({net.w}, 0), contains("limit 0"));
  for (const double decay : {-0.1, 1.0}) CHECK_THROWS_WITH(Ema(net, decay), contains("ema: the decay"));
  CHECK_THROWS_WITH(cosine(1, 0), contains("cosine: 0 steps"));
  CHECK_THROWS_WITH(warm_up(constant(1), -1, 0), contains("warm_up: -1 steps"));
  for (const double part : {0.0, 1.0})
    CHECK_THROWS_WITH(one_cycle(1, 20, {.warm_part = part}), contains("is not between 0 and 1"));
  CHECK_THROWS_WITH(one_cycle(1, 3), contains("3 steps are too few"));
}

TEST_CASE("parameters that come twice and those of bf16 are refused, not moved twice or never") {
  Pair net;
  std::vector<ParamGroup> twice = decay_groups(net, 0);
  twice.push_back({{net.parameters()[1]}, 0.1});
  CHECK_THROWS_WITH(SGD(twice),
                    contains("optimizer: the parameter bias is given twice: each step would move it twice"));
  Tensor half = Tensor::full({2}, 1, DType::bf16).set_requires_grad();
  CHECK_THROWS_WITH(AdamW({{{{"half", half}}}}), "optimizer: the parameter half is bf16, expected f32 or f64");
  half.set_grad(Tensor::full({2}, 1, DType::bf16));
  CHECK_THROWS_AS(clip_grad_value({half}, 0.5), Error);
}

TEST_CASE("a step and a norm have the same bits on 1, 2, 3 and 8 threads") {
  const ThreadCount restored;
  std::vector<float> first;
  double first_norm = 0;
  for (const int n : {1, 2, 3, 8}) {
    set_num_threads(n);
    Pair net(100'003);
    AdamW adam(decay_groups(net, 0.01));
    double norm = 0;
    for (int step = 0; step < 2; ++step) {
      net.set_grads(step);
      norm = clip_grad_norm(adam.params(), 3);
      adam.step(0.01);
    }
    if (n == 1) first = net.w.values<float>(), first_norm = norm;
    CHECK(net.w.values<float>() == first);
    CHECK(norm == first_norm);
  }
}

TEST_CASE("clipping by norm scales all gradients together, by value each element") {
  Pair net(40'000);
  net.set_grads(1);
  double squares = 0;
  for (Tensor t : {net.w, net.b})
    for (const float g : t.grad().values<float>()) squares += double(g) * g;
  const std::vector<Tensor> params{net.w, net.b};
  const float before = net.w.grad().values<float>()[5];
  CHECK(clip_grad_norm(params, 0) == Approx(std::sqrt(squares)).epsilon(1e-12));
  CHECK(net.w.grad().values<float>()[5] == before);
  clip_grad_norm(params, 1e9);
  CHECK(net.w.grad().values<float>()[5] == before);
  clip_grad_norm(params, 2);
  CHECK(net.w.grad().at(5) == Approx(before * 2 / std::sqrt(squares)));
  CHECK(grad_norm(params) == Approx(2).epsilon(1e-6));
  net.set_grads(1);
  clip_grad_value(params, 0.25);
  CHECK(net.w.grad().at(0) == 0.25);
  CHECK(net.w.grad().at(5) == -0.25);
  Tensor bad = Tensor::full({40'000}, 1);
  bad.data<float>()[3] = NAN;
  net.b.set_grad(bad);
  CHECK(std::isnan(clip_grad_norm(params, 1)));
  CHECK(net.w.grad().at(0) == 0.25);  // nothing was scaled
}

TEST_CASE("schedules: detectron2's warm-up, torch's one-cycle and cosine") {
  const auto d2 = warm_up(multi_step(5, {10, 15, 20}), 5, 0.001);
  const double want[] = {0.005, 1.004, 2.003, 3.002, 4.001, 5,   5,   5,   5,   5,   .5,
                         .5,    .5,    .5,    .5,    .05,   .05, .05, .05, .05, .005};
  for (int step = 0; step < 21; ++step) CHECK(d2(step) == Approx(want[step]).epsilon(1e-12));
  CHECK(constant(0.3)(1'000'000) == 0.3);
  CHECK(warm_up(cosine(1, 10), 4, 0.5)(2) == Approx(0.75 * cosine(1, 10)(2)));  // of the rate at that step
  const double torch[] = {0.016,         0.05266873708, 0.1486687371,  0.2673312629,   0.3633312629,
                          0.4,           0.3949856025,  0.3801938528,  0.356366471,    0.3246982616,
                          0.2867772007,  0.2445048088,  0.2000008,     0.1554967912,   0.1132243993,
                          0.07530333842, 0.04363512897, 0.01980774719, 0.005015997506, 1.6e-06};
  for (int step = 0; step < 20; ++step) CHECK(one_cycle(0.4, 20)(step) == Approx(torch[step]).epsilon(1e-9));
  const auto c = cosine(0.1, 100, 0.02);
  CHECK(c(0) == Approx(0.1));
  CHECK(c(50) == Approx(0.06));
  CHECK(c(25) == Approx(0.02 + 0.04 * (1 + std::sqrt(0.5))));
  CHECK(c(100) == Approx(0.02));
  CHECK(c(1000) == Approx(0.02));
  CHECK_THROWS_AS(multi_step(1, {5, 3}), Error);
  CHECK_THROWS_AS(one_cycle(1, 1), Error);
}

TEST_CASE("the moving average warms up, follows buffers, and swaps in and out to the bit") {
  Pair net;
  Ema ema(net, 0.5);
  std::vector<double> average(3);
  for (int i = 0; i < 3; ++i) average[i] = Pair::start(i);
  for (int step = 0; step < 30; ++step) {
    for (int i = 0; i < 3; ++i) net.w.data<float>()[i] = Pair::slope(i, step);
    net.count.fill(step);
    ema.update(step);
    const double d = std::min(0.5, (1.0 + step) / (10.0 + step));
    for (int i = 0; i < 3; ++i) average[i] += (1 - d) * (Pair::slope(i, step) - average[i]);
  }
  const auto before = net.w.values<float>();
  const auto version = net.w.version();
  {
    Ema::Swap swap(ema);
    for (int i = 0; i < 3; ++i) CHECK(net.w.at(i) == Approx(average[i]).margin(1e-6));
    CHECK(net.count.item() == 29);
    CHECK(net.w.version() > version);  // caches of transformed weights notice
  }
  CHECK(net.w.values<float>() == before);
  Ema steady(net, 0.75, false);  // from the first step on
  net.w.fill(8);
  steady.update(0);
  CHECK(steady.state()[0].value.at(0) == Approx(0.75 * before[0] + 0.25 * 8));
}
