// Evaluation: the same code for the scores during training, `fovea eval` and the pictures of a run.
#include "tools/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/autograd.h"
#include "tools/coco_names.h"
#include "tools/trainer.h"

namespace fovea {

void add_data_flags(Command& command, DatasetOptions& data, const std::string& folder) {
  command.option(folder, data.dir, "the folder of the data set").type("DIR");
  command.option("--format", data.format, "auto, coco, voc, yolo, csv or shapes").show_default();
  command.option("--split", data.split, "train, val ...; a VOC folder may do without: all its pictures");
  command.option("--annotations", data.annotations, "a COCO annotation file, instead of DIR").type("FILE");
  command.option("--images", data.images, "the folder of its pictures").type("DIR");
  command.option("--policy", data.policy, "for bad boxes: error, clip or drop").show_default();
  command
      .option("--val-fraction", data.val_fraction,
              "part that is val where there are no splits: 0.1, or with a run's weights its own")
      .type("X");
}

void check_named_once(const std::string& dir, const std::string& annotations) {
  check(Code::usage, !dir.empty() || !annotations.empty(), "--data is required: the folder of the data set");
  check(
      Code::usage, dir.empty() || annotations.empty(), "the data are named twice: the folder '", dir,
      "' (--data) and the COCO file '", annotations,
      "' (--annotations, with --images)\n  hint: leave one out; --data '' or --annotations '' --images '' undoes what ",
      "a configuration says");
}

// Weights whose labels are COCO's ids, on data that numbers its categories in its own way: scored in vain.
static void check_ids(const Dataset& data) {
  for (size_t k = 0; k < data.classes().size(); ++k) {
    const int64_t id = data.class_ids()[k];
    const auto label = static_cast<size_t>(id);
    const std::string name = label < coco_names().size() ? coco_names()[label] : "";
    if (name == data.classes()[k]) continue;
    return warn(text("the weights' label ", id, " is ", name.empty() ? "no class" : "'" + name + "'",
                     ", the data's category ", id, " is '", data.classes()[k], "'"));
  }
}

void note_part(const DatasetOptions& options, const Dataset& data) {
  if (options.annotations.empty() || options.split.empty() || options.split == "all") return;
  warn(text(options.annotations, " has no splits: \"", options.split, "\" is ", counted(data.size(), "picture"),
            " of it, by a val_fraction of ", options.val_fraction, "; without --split all are taken"));
}

Dataset open_for(const LoadedModel& loaded, DatasetOptions options) {
  if (std::isnan(options.val_fraction)) options.val_fraction = loaded.config.data.val_fraction;
  options.classes = loaded.classes;
  Dataset data = open_dataset(options);
  note_part(options, data);
  const int64_t classes = static_cast<int64_t>(data.classes().size());
  check(Code::model, loaded.labels_are_ids() || classes == loaded.config.model.classes, "'", loaded.path,
        "' was trained for ", counted(loaded.config.model.classes, "class"), ", '", data.name(), "' has ", classes);
  if (loaded.labels_are_ids()) check_ids(data);
  if (!data.problems().summary().empty())
    warn(
        data.name() + ": " + data.problems().summary() +
        (data.problems().dropped ? "; what is dropped is no object of the figures, unlike in COCO's (coco-eval)" : ""));
  return data;
}

std::vector<Detection> to_picture(const std::vector<Detection>& detections, const Transform& transform, int width,
                                  int height) {
  std::vector<Detection> out;
  const float w = static_cast<float>(width), h = static_cast<float>(height);
  for (auto& d : detections) {
    const Box<float> b = transform.inverse(d.box);
    out.push_back(
        {{std::clamp(b.x1, 0.f, w), std::clamp(b.y1, 0.f, h), std::clamp(b.x2, 0.f, w), std::clamp(b.y2, 0.f, h)},
         d.score,
         d.label});
  }
  return out;
}

Evaluation evaluate(RetinaNet& model, const Dataset& data, const EvaluationOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  Evaluation all;
  NoGrad no_grad;
  model.train(false);
  CocoEvaluator evaluator(data.class_ids());
  LoaderOptions batches_of = options.loader;
  batches_of.device = model.device();
  Loader loader(data, batches_of);
  while (auto batch = loader.next()) {
    if (options.progress && !options.progress(all.images, data.size())) throw Exit{130};
    const auto output = model(batch->images);
    auto targets = targets_of(*batch);
    for (auto& target : targets)
      for (auto& label : target.labels)
        if (options.labels_are_ids) label = data.class_ids()[static_cast<size_t>(label)];
    const auto losses = model.loss(output, targets);
    const double pictures = static_cast<double>(batch->items.size());
    all.classification += losses.classification.item() * pictures, all.box += losses.box.item() * pictures;
    const auto found = model.detect(output, sizes_of(*batch));
    for (size_t i = 0; i < found.size(); ++i) {
      auto& item = batch->items[i];
      auto& annotation = data.annotation(item.index);
      ImageDetections image{item.id, {}};
      for (auto& d : to_picture(found[i], item.transform, annotation.width, annotation.height))
        image.detections.push_back({options.labels_are_ids ? d.label : data.class_ids()[static_cast<size_t>(d.label)],
                                    coco_box(d.box.x1, d.box.y1, d.box.x2, d.box.y2), d.score});
      evaluator.add_image(item.id, annotation.truths, image.detections);
      all.detections.push_back(std::move(image));
    }
    all.images += static_cast<int64_t>(batch->items.size());
  }
  const double count = static_cast<double>(std::max<int64_t>(all.images, 1));
  all.classification /= count, all.box /= count;
  all.coco = evaluator.summarize();
  all.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return all;
}

Evaluation evaluate(const LoadedModel& loaded, const Dataset& data) {
  Progress progress("scoring", data.size());
  const auto show = [&](int64_t done, int64_t) { return progress.update(done), true; };
  return evaluate(
      *loaded.model, data,
      {.loader = loader_options(loaded.config, false), .labels_are_ids = loaded.labels_are_ids(), .progress = show});
}

const std::vector<std::string> kErrorHeads{"error", "count", "AP50 if mended", "what it is"};

std::map<int64_t, const std::vector<CocoDetection>*> by_image(const std::vector<ImageDetections>& images) {
  std::map<int64_t, const std::vector<CocoDetection>*> found;
  for (auto& image : images) found[image.image_id] = &image.detections;
  return found;
}

ErrorReport errors_of(const Evaluation& result, const Dataset& data) {
  const auto found = by_image(result.detections);
  ErrorAnalysis analysis(data.class_ids());
  for (int64_t i = 0; i < data.size(); ++i)
    analysis.add_image(data.annotation(i).id, data.annotation(i).truths, *found.at(data.annotation(i).id));
  return analysis.report();
}

Rows error_rows(const ErrorReport& report) {
  Rows rows;
  for (auto& kind : report.kinds)
    rows.push_back({kind.name, count_text(kind.count), "+" + number(kind.gain), kind.meaning});
  return rows;
}

std::string ap50_text(const ErrorReport& report) { return report.ap50 < 0 ? "n/a" : number(report.ap50); }

std::string error_table(const ErrorReport& report) {
  Table table(kErrorHeads);
  for (auto& row : error_rows(report)) table.row(row);
  const std::string best = report.left_out
                               ? text(", the ", kJudgedDetections, " best of each picture, with an AP50 of ",
                                      ap50_text(report), " (", count_text(report.left_out), " left out)")
                               : "";
  return text(count_text(report.found), " of ", counted(report.objects, "object"), " found by ",
              counted(report.detections, "detection"), best, "; what is wrong (TIDE, at IoU 0.5):\n", table.str(),
              "all false positives +", number(report.false_positives), ", all objects not found +",
              number(report.false_negatives), "\n");
}

std::string ap_line(const CocoResult& result) {
  auto figure = [](double v) { return v < 0 ? std::string("n/a") : number(v); };
  return "AP = " + figure(result.stats[0]) + "  AP50 = " + figure(result.stats[1]);
}

std::vector<double> class_aps(const CocoResult& result, const Dataset& data) {
  std::vector<double> aps;
  for (const int64_t id : data.class_ids()) {
    const auto place = std::find(result.categories.begin(), result.categories.end(), id) - result.categories.begin();
    aps.push_back(
        static_cast<size_t>(place) < result.category_ap.size() ? result.category_ap[static_cast<size_t>(place)] : -1);
  }
  return aps;
}

std::string class_table(const CocoResult& result, const Dataset& data) {
  Table table({"class", "objects", "AP"});
  const std::vector<double> aps = class_aps(result, data);
  for (size_t c = 0; c < data.classes().size(); ++c) {
    const int64_t id = data.class_ids()[c];
    int64_t objects = 0;
    for (int64_t i = 0; i < data.size(); ++i)
      for (auto& truth : data.annotation(i).truths) objects += truth.category == id && !truth.crowd;
    table.row({data.classes()[c], count_text(objects), aps[c] < 0 ? "n/a" : number(aps[c])});
  }
  return table.str();
}

}  // namespace fovea
