// One cell of `classify`: a small ResNet says which of two classes a picture is, one of them rare in training.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/autograd.h"
#include "core/random.h"
#include "models/resnet.h"
#include "models/retinanet.h"
#include "nn/optim.h"
#include "nn/schedule.h"
#include "ops/pool.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "tools/lab/bench.h"
#include "tools/lab/scores.h"

namespace fovea::lab {
namespace {

class Classifier : public Layer<Classifier> {
 public:
  Classifier(const ResNetOptions& o, uint64_t seed) : Layer(seed), body(*this, "body", o) {}
  Tensor forward(const Tensor& x) {  // [N,32,32,3] -> logits [N,1,1]
    const Tensor last = body(x).back();
    return reshape(fc(reshape(adaptive_avg_pool2d(last, 1), {x.dim(0), body.channels()[2]})), {x.dim(0), 1, 1});
  }
  ResNet body;
  Linear fc{*this, "fc", {.in = body.channels()[2], .out = 1}};
};

ResNetOptions body_options() {
  ResNetOptions o = resnet_options("tiny");
  o.norm = NormKind::batch;
  return o;
}

struct Example {
  const Image* picture;
  int64_t label;  // 0: the rare class, the positives; -1: the common one
};

// Adds so many of the pictures to the pool.
void draw(const Bench::Pictures& pictures, int64_t label, size_t wanted, Dice& dice, std::vector<Example>& pool) {
  std::vector<const Image*> order;
  for (const Image& picture : pictures) order.push_back(&picture);
  for (size_t i = 0; i < wanted; ++i) {
    std::swap(order[i], order[size_t(dice.integer(int64_t(i), int64_t(order.size()) - 1))]);
    pool.push_back({order[i], label});
  }
}

Tensor pixels(const std::vector<Example>& examples, Dice* mirror) {
  Tensor x({int64_t(examples.size()), 32, 32, 3});
  float* out = x.data<float>();
  for (const Example& e : examples) {
    const bool turned = mirror && mirror->chance(0.5);
    for (int r = 0; r < 32; ++r)
      for (int c = 0; c < 32; ++c)
        for (int k = 0; k < 3; ++k) *out++ = float(e.picture->at(turned ? 31 - c : c, r)[k]) / 64 - 2;
  }
  return x;
}

void train(Classifier& model, const Config& config, const std::vector<Example>& pool, int64_t steps, uint64_t seed) {
  constexpr int64_t kBatch = 32;
  AdamW optimizer(decay_groups(model, 0.01));
  const Schedule rate = warm_up(cosine(2e-3, steps), 20);
  model.train(true);
  Dice dice(seed, 0xC1A55);
  for (int64_t step = 0; step < steps; ++step) {
    std::vector<Example> batch;
    for (int64_t i = 0; i < kBatch; ++i) batch.push_back(pool[size_t(dice.integer(0, int64_t(pool.size()) - 1))]);
    Tensor labels({kBatch, 1}, DType::i64);
    for (int64_t i = 0; i < kBatch; ++i) labels.data<int64_t>()[i] = batch[size_t(i)].label;
    optimizer.zero_grad();
    backward(mean(class_loss_of(config.model.loss, model(pixels(batch, &dice)), labels)));
    optimizer.step(rate(step));
  }
}

Metrics score(Classifier& model, const std::vector<Example>& test) {
  model.train(false);
  const NoGrad no_grad;
  Scores scores;
  for (size_t at = 0; at < test.size(); at += 100) {
    const std::vector<Example> part(test.begin() + std::ptrdiff_t(at),
                                    test.begin() + std::ptrdiff_t(std::min(test.size(), at + 100)));
    const Tensor logits = model(pixels(part, nullptr));
    for (size_t i = 0; i < part.size(); ++i)
      scores.add(1 / (1 + std::exp(-double(logits.at(int64_t(i))))), part[i].label == 0);
  }
  return scores.metrics();
}

}  // namespace

Metrics measure_classifier(Bench& bench, const Keys& keys, uint64_t seed) {
  size_t ratio = 1;
  for (auto& [key, value] : keys)
    if (key == "lab.ratio") ratio = std::stoul(value);
  const Config config = bench.config(keys, seed);
  std::vector<Example> pool, test;
  const auto &rare = bench.pictures(false, 0), &common = bench.pictures(false, 1);
  check(Code::data, common.size() >= ratio, bench.options.data, "/train: 1:", ratio, " needs ", ratio,
        " pictures of the common class, there are ", common.size());
  Dice dice(seed, 0x9A17);  // each seed draws its own pictures
  const size_t wanted = std::min(rare.size(), common.size() / ratio);
  draw(rare, 0, wanted, dice, pool);
  if (wanted < common.size() / ratio) draw(common, -1, wanted * ratio, dice, pool);  // more would be another ratio
  else
    for (const Image& picture : common) pool.push_back({&picture, -1});
  for (int label : {0, 1})
    for (const Image& picture : bench.pictures(true, label)) test.push_back({&picture, label == 0 ? 0 : -1});
  Classifier model(body_options(), seed);
  train(model, config, pool, bench.classifier_steps(), seed);
  Metrics m;
  try {
    m = score(model, test);
  } catch (const Error& error) {
    if (error.code != Code::not_finite) throw;
    Scores nothing;  // what a network knows that says the same of all
    for (const Example& e : test) nothing.add(0.5, e.label == 0);
    m = nothing.metrics(), m["diverged"] = {1};
  }
  m["rare"] = {double(wanted)}, m["common"] = {double(pool.size() - wanted)};
  return m;
}

}  // namespace fovea::lab
