// fovea bench parts: what stands around the network, on sizes at which it is felt: the focal loss with its gradient,
// the matcher, and non-maximum suppression.
#include <memory>

#include "core/autograd.h"
#include "models/matcher.h"
#include "ops/focal_loss.h"
#include "ops/nms.h"
#include "ops/reduce.h"
#include "tools/bench.h"

namespace fovea {
namespace {

struct PartsFlags : BenchFlags {
  int64_t locations = 58'750, classes = 80;  // 4.7 million logits
  int64_t anchors = 200'000, truths = 500, boxes = 10'000;
};

// Corners anywhere in a picture of `side` pixels, sides of 16 to 272 pixels: so many that most of 10,000 overlap.
std::vector<Box<float>> random_boxes(int64_t n, double side, Dice& dice) {
  std::vector<Box<float>> boxes;
  for (int64_t i = 0; i < n; ++i) {
    const double x = dice.uniform(0, side), y = dice.uniform(0, side);
    boxes.push_back({float(x), float(y), float(x + dice.uniform(16, 272)), float(y + dice.uniform(16, 272))});
  }
  return boxes;
}

// One logit of a thousand is that of an object.
Times time_focal_loss(const PartsFlags& o, Dice& dice) {
  Tensor logits = noise({1, o.locations, o.classes}, 1);
  const Tensor labels({1, o.locations}, DType::i64);
  for (int64_t i = 0; i < o.locations; ++i)
    labels.data<int64_t>()[i] = dice.uniform() < 1e-3 * double(o.classes) ? dice.integer(0, o.classes - 1) : -1;
  logits.set_requires_grad();
  return measure(o, [&] {
    logits.set_grad({});
    backward(sum(sigmoid_focal_loss(logits, labels)));
  });
}

Times time_matcher(const PartsFlags& o, Dice& dice) {
  const std::vector<Box<float>> anchors = random_boxes(o.anchors, 800, dice),
                                truths = random_boxes(o.truths, 800, dice);
  return measure(o, [&] { match(anchors, truths, {}, {}); });
}

Times time_nms(const PartsFlags& o, Dice& dice) {
  const std::vector<Box<float>> drawn = random_boxes(o.boxes, 1000, dice);
  const Tensor boxes({o.boxes, 4}), scores({o.boxes});
  for (int64_t i = 0; i < o.boxes; ++i) {
    static_cast<Box<float>*>(boxes.raw())[i] = drawn[size_t(i)];
    scores.data<float>()[i] = float(dice.uniform());
  }
  return measure(o, [&] { nms(boxes, scores, 0.5); });
}

void bench_parts(const PartsFlags& o) {
  Report report("parts", o);
  const Machine machine = measure_machine();
  report.use(machine);
  Dice dice(1);
  // bytes: the logits are read and their gradient written; boxes are read once
  const auto add = [&](const std::string& name, double bytes, const Times& times) {
    Json row = timed_row(name, times);
    row["roofline"] = roofline(machine, bytes, 0, times.median());
    report.add(std::move(row));
  };
  add(text("focal loss with gradient, ", o.locations, "x", o.classes), 8.0 * double(o.locations * o.classes),
      time_focal_loss(o, dice));
  add(text("matcher, ", o.anchors, " anchors, ", o.truths, " boxes"), 16.0 * double(o.anchors), time_matcher(o, dice));
  add(text("nms, ", o.boxes, " boxes"), 20.0 * double(o.boxes), time_nms(o, dice));
  report.print();
}

}  // namespace

void add_bench_parts(Command& bench) {
  Command parts = bench.command("parts", "Times what stands around the network: focal loss, matcher, NMS.",
                                "fovea bench parts\nfovea bench parts --boxes 1000 --anchors 20000 --json");
  auto o = std::make_shared<PartsFlags>();
  parts.option("--locations", o->locations, "of the focal loss: rows of logits").show_default().range(1, 1e8);
  parts.option("--classes", o->classes, "of the focal loss: logits a row").show_default().range(1, 1e5);
  parts.option("--anchors", o->anchors, "of the matcher").show_default().range(1, 1e8);
  parts.option("--truths", o->truths, "of the matcher: boxes to find").show_default().range(1, 1e6);
  parts.option("--boxes", o->boxes, "of NMS").show_default().range(1, 1e6);
  add_bench_flags(parts, *o);
  parts.run([o] { bench_parts(*o); });
}

}  // namespace fovea
