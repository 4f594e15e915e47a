// The evaluator's view of COCO's files: ground truth by image, detections by image.
#include "data/eval_json.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

#include "core/error.h"
#include "core/words.h"
#include "data/json.h"

namespace fovea {

using namespace detail;

namespace {

// The toolkit keeps annotations by id, so those that share one all turn into the last of them, in the places of each.
std::size_t share_ids(std::vector<CocoRecord>& annotations, bool strict) {
  std::unordered_map<std::int64_t, std::size_t> last;
  for (std::size_t i = 0; i < annotations.size(); ++i) last[annotations[i].truth.id] = i;
  const std::size_t shared = annotations.size() - last.size();
  if (!strict || shared == 0) return shared;
  std::stable_sort(annotations.begin(), annotations.end(),
                   [](const CocoRecord& a, const CocoRecord& b) { return a.image < b.image; });
  std::unordered_map<std::int64_t, CocoRecord> winner;
  for (const CocoRecord& a : annotations)
    if (const auto at = winner.try_emplace(a.truth.id, a).first; a.index > at->second.index) at->second = a;
  for (CocoRecord& a : annotations) a = winner.at(a.truth.id);
  return shared;
}

std::unordered_map<std::int64_t, std::size_t> places(const std::vector<std::int64_t>& ids) {
  std::unordered_map<std::int64_t, std::size_t> at;
  for (std::size_t i = 0; i < ids.size(); ++i) at[ids[i]] = i;
  return at;
}

// Pictures by the longest end of a path that names one: a/b/c.jpg, b/c.jpg, c.jpg, then by the file alone.
class Names {
 public:
  explicit Names(const CocoTruthFile& truth) {
    for (std::size_t i = 0; i < truth.files.size(); ++i) {
      if (truth.files[i].empty()) continue;
      whole_.emplace(truth.files[i], i);
      const auto [at, first] = last_.emplace(after_slash(truth.files[i]), i);
      if (!first) at->second = kSeveral;
    }
    for (std::size_t k = 0; k < truth.names.size(); ++k) categories_.emplace(truth.names[k], truth.categories[k]);
  }
  // Those of the record, where it names them.
  void find(const JsonRecord& record, const std::string& truth, std::size_t& image, std::int64_t& category) const {
    const std::string file = record.name_if_any("file_name");
    if (file.empty() || whole_.empty()) return;
    const auto found = place(file);
    if (!found) record.reject("is of the picture ", file, ", which ", truth, " does not have");
    image = *found;
    if (const auto at = categories_.find(record.name_if_any("category")); at != categories_.end())
      category = at->second;
  }

 private:
  static constexpr std::size_t kSeveral = SIZE_MAX;
  static std::string after_slash(const std::string& path) { return path.substr(path.find_last_of("/\\") + 1); }
  std::optional<std::size_t> place(std::string path) const {
    const std::string file = after_slash(path);
    for (std::size_t slash = 0; slash != path.npos; slash = path.find('/'), path = path.substr(slash + 1))
      if (const auto at = whole_.find(path); at != whole_.end()) return at->second;
    const auto at = last_.find(file);
    return at == last_.end() || at->second == kSeveral ? std::nullopt : std::optional(at->second);
  }
  std::unordered_map<std::string, std::size_t> whole_, last_;
  std::unordered_map<std::string, std::int64_t> categories_;
};

}  // namespace

CocoTruthFile read_coco_truth(const std::string& path, bool strict) {
  CocoTruthFile file;
  file.path = path;
  std::map<std::int64_t, std::string> images, categories;
  std::vector<CocoRecord> annotations;
  read_coco_lists(path, [&](const JsonRecord& record) {
    if (record.list == "images") images[record.integer("id")] = record.name_if_any("file_name");
    if (record.list == "annotations") annotations.push_back(read_annotation(record));
    if (record.list == "categories") categories[record.integer("id")] = category_name(record, "");
  });
  for (const auto& [id, name] : images) file.images.push_back(id), file.files.push_back(name);
  for (const auto& [id, name] : categories) file.categories.push_back(id), file.names.push_back(name);
  const auto at = places(file.images);
  for (const CocoRecord& a : annotations)
    check_known(path, a, at.count(a.image) > 0, categories.count(a.truth.category) > 0);
  if (const std::size_t shared = share_ids(annotations, strict))
    file.warnings.push_back(text(path, ": ", counted(int64_t(shared), "annotation"),
                                 " with the id of another; the COCO ",
                                 "toolkit reads such a group as copies of its last one",
                                 strict ? ", and so does this strict evaluation" : ", here each is its own"));
  file.ground_truths.resize(file.images.size());
  for (const CocoRecord& a : annotations) file.ground_truths[at.at(a.image)].push_back(a.truth);
  return file;
}

std::vector<std::vector<CocoDetection>> read_coco_detections(const std::string& path, const CocoTruthFile& truth) {
  std::vector<std::vector<CocoDetection>> detections(truth.images.size());
  const auto at = places(truth.images);
  const Names names(truth);
  read_coco_results(path, [&](const JsonRecord& record) {
    constexpr std::size_t kUnnamed = SIZE_MAX;
    const std::int64_t image = record.integer("image_id");
    std::size_t place = kUnnamed;
    CocoDetection detection;
    detection.category = record.integer("category_id");
    names.find(record, truth.path, place, detection.category);
    if (place == kUnnamed) {
      const auto by_id = at.find(image);
      if (by_id == at.end()) record.reject("is of image ", image, ", which ", truth.path, " does not have");
      place = by_id->second;
    }
    detection.box = record.box();
    detection.score = record.number("score");
    detections[place].push_back(detection);
  });
  return detections;
}

CocoResult evaluate_coco_files(const std::string& truth_path, const std::string& detections_path,
                               const CocoOptions& options) {
  const CocoTruthFile truth = read_coco_truth(truth_path, options.strict);
  return evaluate_coco(truth, read_coco_detections(detections_path, truth), options);
}

CocoResult evaluate_coco(const CocoTruthFile& truth, const std::vector<std::vector<CocoDetection>>& detections,
                         const CocoOptions& options) {
  CocoEvaluator evaluator(truth.categories, options);
  for (std::size_t i = 0; i < truth.images.size(); ++i)
    evaluator.add_image(truth.images[i], truth.ground_truths[i], detections[i]);
  CocoResult result = evaluator.summarize();
  result.warnings.insert(result.warnings.begin(), truth.warnings.begin(), truth.warnings.end());
  return result;
}

Json to_json(const ErrorReport& report) {
  Json json{{"ap50", report.ap50},
            {"objects", report.objects},
            {"found", report.found},
            {"detections", report.detections},
            {"false_positives", {{"gain", report.false_positives}}},
            {"false_negatives", {{"gain", report.false_negatives}}}};
  for (const ErrorKind& kind : report.kinds) json[kind.name] = {{"count", kind.count}, {"gain", kind.gain}};
  return json;
}

}  // namespace fovea
