// fovea eval: the COCO figures of trained weights on a data set.
#include <cmath>
#include <filesystem>
#include <iostream>

#include "data/eval_json.h"
#include "tools/coco_names.h"
#include "tools/command.h"
#include "tools/evaluate.h"
#include "tools/run_dir.h"
#include "tools/trainer.h"
#include "tools/weights.h"

namespace fovea {
namespace {
namespace fs = std::filesystem;

const char* const kExamples =
    "fovea eval --weights runs/toy --data shapes --split val\n"
    "fovea eval --weights runs/bccd --data bccd --format voc --split test --json\n"
    "fovea eval --weights runs/toy/checkpoints/step-500.safetensors --data shapes --split val --out found.json\n"
    "fovea eval --weights coco.safetensors --preset tv_retinanet_r50 --annotations instances_val2017.json "
    "--images val2017";

struct Flags {
  WeightsOptions weights;
  DatasetOptions data;
  std::string out;
  bool json = false;
};

// Before minutes of scoring, not after them.
void check_out(const std::string& out) {
  const fs::path folder = fs::path(out).parent_path();
  check(Code::usage, out.empty() || !fs::exists(out), "'", out, "' exists: choose another --out");
  check(Code::usage, folder.empty() || fs::is_directory(folder), "--out ", out, ": there is no folder '",
        folder.string(), "'\n  hint: make it first, or choose another --out");
}

// Weights whose labels are COCO's ids, on data that numbers its categories in its own way: scored in vain.
void check_ids(const Dataset& data) {
  for (size_t k = 0; k < data.classes().size(); ++k) {
    const int64_t id = data.class_ids()[k];
    const auto label = static_cast<size_t>(id);
    const std::string name = label < coco_names().size() ? coco_names()[label] : "";
    if (name == data.classes()[k]) continue;
    return warn(text("the weights' label ", id, " is ", name.empty() ? "no class" : "'" + name + "'",
                     ", the data's category ", id, " is '", data.classes()[k], "'"));
  }
}

void print(const Evaluation& result, const LoadedModel& loaded, const Dataset& data) {
  std::cout << coco_table(result.coco) << "\n"
            << class_table(result.coco, data) << "\n"
            << ap_line(result.coco) << "\n";
  std::fprintf(stderr, "%s: %s in %s\n", loaded.path.c_str(), counted(result.images, "picture").c_str(),
               duration(result.seconds).c_str());
}

void eval(const Flags& flags) {
  DatasetOptions options = flags.data;
  check(Code::usage, !options.dir.empty() || !options.annotations.empty(), "--data is required: the data set's folder");
  check_out(flags.out);
  LoadedModel loaded = load_model(flags.weights);
  if (std::isnan(options.val_fraction)) options.val_fraction = loaded.config.data.val_fraction;
  options.classes = loaded.classes;
  const Dataset data = open_dataset(options);
  const bool ids = loaded.labels_are_ids();
  const int64_t classes = static_cast<int64_t>(data.classes().size());
  check(Code::model, ids || classes == loaded.config.model.classes, "'", loaded.path, "' was trained for ",
        counted(loaded.config.model.classes, "class"), ", '", data.name(), "' has ", classes);
  if (ids) check_ids(data);
  if (!data.problems().summary().empty()) warn(data.name() + ": " + data.problems().summary());
  Progress progress("scoring", data.size());
  const Evaluation result = evaluate(
      *loaded.model, data,
      {.loader = loader_options(loaded.config, false), .labels_are_ids = ids, .progress = [&](int64_t done, int64_t) {
         progress.update(done);
         return true;
       }});
  progress.clear();
  for (auto& warning : result.coco.warnings) warn(warning);
  if (flags.json) {
    Json json = to_json(result.coco);
    json["classes"] = data.classes();
    json["loss"] = {{"classification", result.classification}, {"box", result.box}};
    json["images"] = result.images, json["seconds"] = result.seconds, json["weights"] = loaded.path;
    print_json(json);
  } else {
    print(result, loaded, data);
  }
  if (!flags.out.empty()) write_coco_detections(flags.out, result.detections);  // last: the figures are safe
}

}  // namespace

void add_eval(Command& program) {
  Command app =
      program.command("eval", "Scores weights on a data set: COCO's twelve figures and AP by class.", kExamples);
  auto flags = std::make_shared<Flags>();
  add_weights_flags(app, flags->weights);
  add_data_flags(app, flags->data);
  flags->data.val_fraction = NAN;  // without the flag a run's own: pictures of another part were trained on
  app.option("--out", flags->out, "also write the detections there, as COCO's JSON").type("FILE");
  app.flag("--json", flags->json, "print the figures as JSON");
  app.run([flags] { eval(*flags); });
}

}  // namespace fovea
