// fovea coco-eval: COCO's twelve figures for a file of detections against a file of ground truth.
#include <iostream>

#include "data/eval_json.h"
#include "tools/command.h"
#include "tools/evaluate.h"

namespace fovea {
namespace {

struct CocoEvalFlags {
  std::string truth, detections;
  CocoOptions options;
  bool json = false, classes = false, agnostic = false, errors = false;
};

void print_classes(const CocoResult& result, const std::vector<std::string>& names) {
  Table table({"class", "id", "AP"});
  for (size_t k = 0; k < result.categories.size(); ++k)
    table.row({k < names.size() ? names[k] : "all", std::to_string(result.categories[k]),
               result.category_ap[k] < 0 ? "n/a" : number(result.category_ap[k])});
  std::cout << "\n" << table.str();
}

ErrorReport errors_of(const CocoTruthFile& truth, const std::vector<std::vector<CocoDetection>>& detections) {
  ErrorAnalysis analysis(truth.categories);
  for (size_t i = 0; i < truth.images.size(); ++i)
    analysis.add_image(truth.images[i], truth.ground_truths[i], detections[i]);
  return analysis.report();
}

void run_coco_eval(const CocoEvalFlags& flags) {
  const CocoTruthFile truth = read_coco_truth(flags.truth, flags.options.strict);
  const auto detections = read_coco_detections(flags.detections, truth);
  const CocoResult result = evaluate_coco(truth, detections, flags.options);
  for (const std::string& warning : result.warnings) warn(warning);
  check(Code::usage, !flags.errors || !flags.agnostic, "--errors tells classes apart: leave out --class-agnostic");
  check(Code::usage, !flags.errors || flags.options.max_dets == CocoOptions().max_dets, "--errors judges the best ",
        kJudgedDetections, " of each picture: leave out --max-dets");
  if (flags.json) {
    Json json = to_json(result);
    if (flags.errors) json["errors"] = to_json(errors_of(truth, detections));
    std::cout << json_text(json) << "\n";
    return;
  }
  std::cout << coco_table(result);
  if (flags.classes) print_classes(result, flags.agnostic ? std::vector<std::string>() : truth.names);
  if (flags.errors) std::cout << "\n" << error_table(errors_of(truth, detections));
}

}  // namespace

void add_coco_eval(Command& program) {
  auto flags = std::make_shared<CocoEvalFlags>();
  Command app = program.command("coco-eval", "Scores a COCO results file: AP and AR as COCO defines them.",
                                "fovea coco-eval annotations.json detections.json\n"
                                "fovea coco-eval annotations.json detections.json --errors\n"
                                "fovea coco-eval annotations.json detections.json --json | jq '.stats[0]'");
  app.option("gt", flags->truth, "ground truth: a COCO annotation file").required().type("GT.json");
  app.option("dt", flags->detections, "detections: a COCO results file").required().type("DT.json");
  app.flag("--json", flags->json, "print {\"stats\": [12 figures], \"per_category_ap\": {\"id\": ap}}");
  app.flag("--per-class", flags->classes, "print the AP of each class as well");
  app.flag("--errors", flags->errors, "what kinds of errors there are, and what each costs (TIDE)");
  app.flag("--class-agnostic", flags->agnostic, "treat all classes as one");
  app.flag("--strict", flags->options.strict,
           "repeat two faults of the COCO toolkit (id 0; AP needs 100 in --max-dets)");
  app.option("--max-dets", flags->options.max_dets, "detections kept per picture and class: three numbers, ascending")
      .type("N N N");
  app.run([flags] {
    flags->options.use_categories = !flags->agnostic;
    run_coco_eval(*flags);
  });
}

}  // namespace fovea
