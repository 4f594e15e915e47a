// fovea eval: the COCO figures of trained weights on a data set.
#include <cmath>
#include <iostream>

#include "data/eval_json.h"
#include "tools/command.h"
#include "tools/evaluate.h"
#include "tools/run_dir.h"
#include "tools/weights.h"

namespace fovea {
namespace {

const char* const kExamples =
    "fovea eval --weights runs/toy --data shapes --split val\n"
    "fovea eval --weights runs/toy --data shapes --split val --errors   # and what is wrong\n"
    "fovea eval --weights runs/bccd --data bccd --format voc --split test --json\n"
    "fovea eval --weights runs/toy/checkpoints/step-500.safetensors --data shapes --split val --out found.json\n"
    "fovea eval --weights coco.safetensors --preset tv_retinanet_r50 --annotations instances_val2017.json "
    "--images val2017";

struct Flags {
  WeightsOptions weights;
  DatasetOptions data;
  std::string out;
  bool json = false, errors = false;
};

void print(const Evaluation& result, const LoadedModel& loaded, const Dataset& data, bool errors) {
  std::cout << coco_table(result.coco) << "\n" << class_table(result.coco, data) << "\n";
  if (errors) std::cout << error_table(errors_of(result, data)) << "\n";
  std::cout << ap_line(result.coco) << "\n";
  std::fprintf(stderr, "%s: %s in %s\n", loaded.path.c_str(), counted(result.images, "picture").c_str(),
               duration(result.seconds).c_str());
}

void eval(const Flags& flags) {
  const DatasetOptions& options = flags.data;
  check_named_once(options.dir, options.annotations);
  check_new_file("--out", flags.out);
  LoadedModel loaded = load_model(flags.weights);
  const Dataset data = open_for(loaded, options);
  const Evaluation result = evaluate(loaded, data);
  for (auto& warning : result.coco.warnings) warn(warning);
  if (flags.json) {
    Json json = to_json(result.coco);
    json["classes"] = data.classes();
    json["loss"] = {{"classification", result.classification}, {"box", result.box}};
    json["images"] = result.images, json["seconds"] = result.seconds, json["weights"] = loaded.path;
    if (flags.errors) json["errors"] = to_json(errors_of(result, data));
    print_json(json);
  } else {
    print(result, loaded, data, flags.errors);
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
  app.flag("--errors", flags->errors, "what kinds of errors there are, and what each costs (TIDE)");
  app.flag("--json", flags->json, "print the figures as JSON");
  app.run([flags] { eval(*flags); });
}

}  // namespace fovea
