// fovea bench eval: how long the COCO figures of many random detections take.
#include <memory>

#include "data/coco_eval.h"
#include "tools/bench.h"

namespace fovea {
namespace {

constexpr int kCategories = 80, kTruths = 7, kDetections = 100;  // COCO's val2017 has 7.3 objects a picture

struct EvalFlags : BenchFlags {
  int images = 500;
};

struct Picture {
  std::vector<CocoGroundTruth> truths;
  std::vector<CocoDetection> detections;
};

// Half of the detections are near an object and of its category, so that there is something to match.
Picture random_picture(Dice& dice) {
  Picture p;
  const auto box = [&] {
    const double w = dice.uniform(8, 200), h = dice.uniform(8, 200);
    return CocoBox{dice.uniform(0, 640 - w), dice.uniform(0, 480 - h), w, h};
  };
  for (int i = 0; i < kTruths; ++i)
    p.truths.push_back({.category = dice.integer(0, kCategories - 1), .box = box(), .id = i + 1});
  for (int i = 0; i < kDetections; ++i) {
    CocoDetection d{dice.integer(0, kCategories - 1), box(), dice.uniform()};
    if (i % 2) {
      const CocoGroundTruth& near = p.truths[size_t(dice.integer(0, kTruths - 1))];
      d.category = near.category, d.box = near.box;
      d.box.x += dice.normal(0, 0.1) * d.box.w, d.box.y += dice.normal(0, 0.1) * d.box.h;
    }
    p.detections.push_back(d);
  }
  return p;
}

void bench_eval(const EvalFlags& o) {
  Report report("eval", o);
  const Machine machine = measure_machine();
  report.use(machine);
  Dice dice(1);
  std::vector<Picture> pictures;
  for (int i = 0; i < o.images; ++i) pictures.push_back(random_picture(dice));
  Times match, summary;  // the two parts of each round
  const Times all = measure(o, [&] {
    const auto start = Clock::now();
    CocoEvaluator evaluator(kCategories);
    for (int i = 0; i < o.images; ++i)
      evaluator.add_image(i, pictures[size_t(i)].truths, pictures[size_t(i)].detections);
    match.ms.push_back(ms_since(start));
    evaluator.summarize();
  });
  match.ms.erase(match.ms.begin(), match.ms.end() - o.rounds);  // of the warm-up
  for (size_t i = 0; i < all.ms.size(); ++i) summary.ms.push_back(all.ms[i] - match.ms[i]);
  const double found = double(o.images) * kDetections;
  const double bytes = found * sizeof(CocoDetection) + double(o.images) * kTruths * sizeof(CocoGroundTruth);
  for (const auto& [name, times] : {std::pair("match", match), {"summarise", summary}, {"all", all}}) {
    Json row = timed_row(text(name, " ", o.images, "x", kDetections), times);
    row["detections_per_s"] = 1e3 * found / times.median();
    row["roofline"] = roofline(machine, bytes, 0, times.median());
    report.add(std::move(row));
  }
  report.print();
}

}  // namespace

void add_bench_eval(Command& bench) {
  Command eval = bench.command("eval", "Times the COCO figures of random detections, 100 a picture, 80 categories.",
                               "fovea bench eval --images 5000\nfovea bench eval --images 500 --json");
  auto o = std::make_shared<EvalFlags>();
  eval.option("--images", o->images, "pictures").show_default().range(1, 1e7);
  add_bench_flags(eval, *o);
  eval.run([o] { bench_eval(*o); });
}

}  // namespace fovea
