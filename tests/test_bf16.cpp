// RetinaNet in bf16: how near it comes to f64, rounded weights, and that it learns, beside f32.
#include <cmath>

#include "core/autograd.h"
#include "core/threads.h"
#include "ops/cpu/kernels.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "tests/tensors.h"
#include "tests/tiny_retinanet.h"

using namespace fovea;
using namespace fovea::test;

TEST_CASE("bf16: logits and gradients near f64's, outputs in f32, the same bits on any number of threads") {
  if (!has_bf16()) return;
  for (const char* backbone : {"tiny", "resnet50"}) {
    RetinaNetOptions o = tiny();
    // not batch norms: on the few pixels of C5 untrained ones make 50 times more of any rounding, of f32 as of bf16
    o.backbone = backbone, o.backbone_norm = "frozen", o.width = 16, o.channels = 64;
    size_t levels = 0;
    const Tensor images = noise({2, 96, 96, 3}, 5);
    const auto add_logits = [](std::vector<Tensor>& all, const RetinaNet::Output& out) {  // without their prior
      for (auto& logits : out.logits) all.push_back(logits.detach() - std::log(0.01 / 0.99));
    };
    const auto run = [&](bool half) {  // logits, then gradients
      const DType type = half ? DType::f32 : DType::f64;
      const ParameterType parameters(type);
      RetinaNet model(o, 3);
      model.in_bf16 = half;
      const auto out = model(images.to(type));
      const Target target{.boxes = {{20, 16, 44, 48}}, .labels = {1}};
      backward(model.loss(out, {target, target}).total());
      std::vector<Tensor> all;
      add_logits(all, out);
      levels = all.size();
      for (auto& p : model.parameters()) all.push_back(p.value.grad());
      for (auto& t : all) CHECK(t.dtype() == type);
      return all;
    };
    const auto exact = run(false), half = run(true);
    const auto error = [&](const std::vector<Tensor>& found, size_t first, size_t last) {
      double difference = 0, size = 0;
      for (size_t i = first; i < last; ++i) {
        const Tensor d = found[i].to(DType::f64) - exact[i];
        difference += sum(d * d).item(), size += sum(exact[i] * exact[i]).item();
      }
      return std::sqrt(difference / size);
    };
    std::vector<Tensor> inference;
    {
      const NoGrad off;
      RetinaNet model(o, 3);
      model.in_bf16 = true, model.round_weights();
      add_logits(inference, model(images));
    }
    const double logits = error(half, 0, levels), rounded = error(inference, 0, levels),
                 gradients = error(half, levels, half.size());
    INFO(backbone << ": relative error of the logits " << logits << ", of those of inference " << rounded
                  << ", of the gradients " << gradients);
    CHECK(logits <= 0.02);
    CHECK(rounded <= 0.02);
    CHECK(gradients <= 0.1);
    const ThreadCount restored;
    for (const int threads : {1, 2, 3, 8}) {
      set_num_threads(threads);
      const auto again = run(true);
      for (size_t i = 0; i < half.size(); ++i) CHECK((again[i].values<float>() == half[i].values<float>()));
    }
  }
}

TEST_CASE("rounded weights: what the same numbers give as f32, but for the heads' last convolutions; no gradients") {
  if (!has_bf16()) return;
  RetinaNetOptions o = tiny();
  o.backbone = "resnet18", o.head_norm = "group";
  RetinaNet wide(o, 3), rounded(o, 3);
  wide.in_bf16 = rounded.in_bf16 = true;
  rounded.round_weights();
  rounded.move_to(Device::cpu);  // which asks all parameters for their gradients
  int halves = 0;
  const auto theirs = rounded.parameters();
  for (size_t i = 0; auto& mine : wide.parameters()) {
    const auto& other = theirs[i++];
    REQUIRE(mine.name == other.name);
    const bool product = mine.layout == Layout::conv && mine.name.find("cls_logits") == std::string::npos &&
                         mine.name.find("bbox_reg") == std::string::npos;
    CHECK(other.value.dtype() == (product ? DType::bf16 : DType::f32));
    halves += product;
    mine.value.copy_from(other.value);
  }
  CHECK(halves == 20 + 3 + 3 + 2 + 2);  // backbone, laterals, their outputs, P6 and P7, towers
  const Tensor image = noise({1, 70, 90, 3}, 5);
  {
    const NoGrad off;
    const auto a = wide(image), b = rounded(image);
    for (size_t i = 0; i < a.logits.size(); ++i) {
      CHECK((a.logits[i].values<float>() == b.logits[i].values<float>()));
      CHECK((a.deltas[i].values<float>() == b.deltas[i].values<float>()));
    }
  }
  CHECK_THROWS_WITH(rounded(image), contains("hint: for values alone use NoGrad"));
}

TEST_CASE("it learns: one image, one box, in f32 and in bf16") {
  RetinaNetOptions o = tiny(2);
  o.head_norm = "group", o.last_level = 5;
  for (const bool half : {false, true}) {
    if (half && !has_bf16()) return;
    RetinaNet model(o, 3);
    model.in_bf16 = half;
    Tensor image = noise({1, 64, 64, 3}, 4);
    for (int64_t y = 16; y < 48; ++y)
      for (int64_t x = 20; x < 44; ++x)
        for (int64_t c = 0; c < 3; ++c) image.data<float>()[(y * 64 + x) * 3 + c] += 3;
    const Target target{.boxes = {{20, 16, 44, 48}}, .labels = {1}};
    std::vector<Tensor> weights;
    for (auto& p : model.parameters()) weights.push_back(p.value);
    double first = 0, last = 0;
    std::vector<Tensor> speed(weights.size());
    for (int step = 0; step < 60; ++step) {  // SGD with momentum, written out
      model.zero_grad();
      const Tensor loss = model.loss(model(image), {target}).total();
      (step == 0 ? first : last) = loss.item();
      backward(loss);
      NoGrad off;
      for (size_t i = 0; i < weights.size(); ++i) {
        speed[i] = speed[i] ? speed[i] * 0.9 + weights[i].grad() : weights[i].grad().clone();
        weights[i].copy_from(weights[i].detach() - speed[i] * 0.01);
      }
    }
    CHECK(last < 0.3 * first);
    const auto found = model.detect(model(image))[0];
    REQUIRE(!found.empty());
    CHECK(found[0].label == 1);
    CHECK(iou(found[0].box, target.boxes[0]) > 0.7f);
  }
}
