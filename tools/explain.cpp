// fovea explain: how detections come about, picture by picture, and why objects are missed.
#include "tools/explain.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "core/atomic_file.h"
#include "data/eval_json.h"
#include "data/json.h"
#include "tools/command.h"

namespace fovea {
namespace {
namespace fs = std::filesystem;

const char* const kExamples =
    "fovea explain --weights runs/toy photo.jpg --out page.html          # anchors, scores, suppression\n"
    "fovea explain --weights runs/toy --data shapes --split val --out page.html   # and what is wrong, worst first\n"
    "fovea explain --weights runs/toy --data shapes --split val --image 000003.png";

struct Flags {
  WeightsOptions weights;
  DatasetOptions data;
  std::string picture, image, out;
  int64_t number = 6;
  double threshold = 0.4;
  bool json = false;
};

// A page of an earlier explain may be written again, nothing else.
bool is_page(const std::string& path) {
  std::string start(400, ' ');
  std::ifstream(path, std::ios::binary).read(start.data(), static_cast<std::streamsize>(start.size()));
  return start.find("<title>Fovea explain: ") != start.npos;
}

// The place in the data set of the picture that is meant: its file's name, or its id.
int64_t find_image(const Dataset& data, const std::string& image) {
  int64_t id = 0;
  const bool number = read_number(image, id);
  std::vector<std::string> names;
  for (int64_t i = 0; i < data.size(); ++i) {
    const Annotation& a = data.annotation(i);
    names.push_back(fs::path(a.path).filename());
    if (names.back() == image || a.path == image || (number && a.id == id)) return i;
  }
  fail(Code::usage, text("'", data.name(), "' has no picture '", image, "'", suggestion(image, names),
                         "\n  hint: --image takes a file's name or an id"));
}

// Objects without a detection that is shown, and detections that are shown without an object.
int64_t mistakes(const std::vector<CocoGroundTruth>& truths, const std::vector<CocoDetection>& detections,
                 double threshold) {
  const JudgedImage judged = judge_detections(truths, detections);
  const auto shown = [&](int d) { return detections[static_cast<size_t>(d)].score >= threshold; };
  int64_t n = 0;
  for (size_t g = 0; g < truths.size(); ++g)
    n += !truths[g].crowd && (judged.found_by[g] < 0 || !shown(judged.found_by[g]));
  for (size_t d = 0; d < detections.size(); ++d)
    n += shown(static_cast<int>(d)) && judged.detections[d].verdict != Verdict::correct &&
         judged.detections[d].verdict != Verdict::ignored;
  return n;
}

// The places of the `number` pictures with the most mistakes, of equals the first.
std::vector<int64_t> worst(const Dataset& data, const Evaluation& evaluation, const Flags& flags) {
  const auto found = by_image(evaluation.detections);
  std::vector<std::pair<int64_t, int64_t>> counts;  // mistakes, negative, and the place
  for (int64_t i = 0; i < data.size(); ++i) {
    const Annotation& a = data.annotation(i);
    counts.emplace_back(-mistakes(a.truths, *found.at(a.id), flags.threshold), i);
  }
  std::sort(counts.begin(), counts.end());
  std::vector<int64_t> places;
  for (int64_t i = 0; i < std::min(flags.number, data.size()); ++i)
    places.push_back(counts[static_cast<size_t>(i)].second);
  return places;
}

Json box_json(const CocoBox& b) { return Json::list({b.x, b.y, b.w, b.h}); }

Json to_json(const Explanation& e) {
  Json levels = Json::list(), objects = Json::list(), detections = Json::list();
  for (const LevelTrace& l : e.trace.levels)
    levels.add({{"level", l.level},
                {"map", Json::list({l.height, l.width})},
                {"anchors", l.anchors},
                {"best_score", *std::max_element(l.best.begin(), l.best.end())},
                {"above_threshold", l.above},
                {"candidates", l.candidates},
                {"detections", l.kept}});
  const Rows words = object_rows(e);
  for (size_t g = 0; g < e.truths.size(); ++g) {
    const ObjectTrace& o = e.objects[g];
    objects.add({{"category", e.classes[static_cast<size_t>(e.truths[g].category)]},
                 {"bbox", box_json(e.truths[g].box)},
                 {"crowd", e.truths[g].crowd},
                 {"found", e.found(g)},
                 {"how", words[g].back()},
                 {"anchor", {{"level", o.level}, {"iou", o.iou}}},
                 {"positive_anchors", o.positives},
                 {"anchor_score", o.score}});
  }
  for (size_t d = 0; d < e.detections.size(); ++d) {
    const TracedCandidate& c = e.trace.candidates[e.candidates[d]];
    const Box<float> a = e.anchor(c.level, c.anchor);
    Json json{{"category", e.classes[static_cast<size_t>(e.detections[d].category)]},
              {"bbox", box_json(e.detections[d].box)},
              {"score", e.detections[d].score},
              {"level", c.level},
              {"anchor", box_json(coco_box(a.x1, a.y1, a.x2, a.y2))},
              {"suppressed", e.won_over(d)}};
    if (e.labelled)
      json["verdict"] = verdict_name(e.judged.detections[d].verdict), json["iou"] = e.judged.detections[d].iou;
    detections.add(std::move(json));
  }
  return {{"file_name", e.path}, {"levels", levels}, {"objects", objects}, {"detections", detections}};
}

void print(const std::vector<Explanation>& explanations) {
  const auto print_table = [](const std::vector<std::string>& heads, const Rows& rows) {
    if (rows.empty()) return;
    Table table(heads);
    for (auto& row : rows) table.row(row);
    std::cout << "\n" << table.str();
  };
  for (const Explanation& e : explanations) {
    std::cout << "\n" << styled(Style::bold, e.path) << "\n";
    print_table(kLevelHeads, level_rows(e));
    print_table(kObjectHeads, object_rows(e));
    print_table(kDetectionHeads, detection_rows(e));
  }
}

struct Result {
  std::string where;
  std::optional<ErrorReport> report;
  std::vector<Explanation> explanations;
};

Result explain_data(const Flags& flags, LoadedModel& loaded) {
  const Dataset data = open_for(loaded, flags.data);
  const std::vector<int64_t> by_label = loaded.labels_are_ids() ? names_of(loaded).ids : data.class_ids();
  Result result{.where = data.name(), .report = {}, .explanations = {}};
  std::vector<int64_t> places;
  if (!flags.image.empty()) {
    places = {find_image(data, flags.image)};
  } else {
    loaded.config.eval.batch = 1;  // as explain_picture() sees each: padded by no other
    const Evaluation evaluation = evaluate(loaded, data);
    result.report = errors_of(evaluation, data);
    places = worst(data, evaluation, flags);
  }
  for (const int64_t i : places)
    result.explanations.push_back(explain_picture(loaded, data.get(i).image, data.annotation(i).path, flags.threshold,
                                                  &data.annotation(i), by_label));
  return result;
}

void explain(const Flags& flags) {
  const bool data = !flags.data.dir.empty() || !flags.data.annotations.empty();
  check(Code::usage, data != !flags.picture.empty(), "name a picture, or a data set with --data");
  check(Code::usage, data || flags.image.empty(), "--image is a picture of --data");
  check(Code::usage, !fs::is_directory(flags.picture), "'", flags.picture,
        "' is a folder\n  hint: --data takes a data set's; of a picture, name the file");
  if (data) check_named_once(flags.data.dir, flags.data.annotations);
  if (flags.out.empty() || !is_page(flags.out)) check_new_file("--out", flags.out);
  LoadedModel loaded = load_model(flags.weights);
  Result result;
  if (data) {
    result = explain_data(flags, loaded);
  } else {
    result.where = flags.picture;
    result.explanations.push_back(
        explain_picture(loaded, read_image(flags.picture), flags.picture, flags.threshold, nullptr, {}));
  }
  if (flags.json) {
    Json json = Json::object();
    if (result.report) json["errors"] = to_json(*result.report);
    json["pictures"] = Json::list();
    for (const Explanation& e : result.explanations) json["pictures"].add(to_json(e));
    print_json(json);
  } else {
    if (result.report) std::cout << error_table(*result.report);
    print(result.explanations);
  }
  if (flags.out.empty()) return;
  const std::string page =
      explain_page(flags.weights.weights, result.where, result.report ? &*result.report : nullptr, result.explanations);
  write_file_atomically(flags.out, page, false);
  if (!flags.json) std::cout << "\n" << flags.out << "\n";
}

}  // namespace

void add_explain(Command& program) {
  Command app = program.command("explain", "Shows how detections come about, and why objects are missed.", kExamples);
  auto flags = std::make_shared<Flags>();
  app.option("picture", flags->picture, "a picture; without one, those of --data").type("FILE");
  add_weights_flags(app, flags->weights);
  add_data_flags(app, flags->data, "--data");
  flags->data.val_fraction = NAN;  // without the flag a run's own: pictures of another part were trained on
  app.option("--image", flags->image, "only this picture of --data: its file's name or its id").type("NAME|ID");
  app.option("-n,--number", flags->number, "pictures of --data, those with the most mistakes")
      .range(0, 100)
      .show_default();
  app.option("--threshold", flags->threshold, "lowest score that counts as found")
      .type("SCORE")
      .range(0.0, 1.0)
      .show_default();
  app.option("--out", flags->out, "the page: one HTML file with pictures of each stage").type("FILE");
  app.flag("--json", flags->json, "print the tables as JSON");
  app.run([flags] { explain(*flags); });
}

}  // namespace fovea
