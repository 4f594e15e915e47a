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
#include "data/readers.h"

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

// The truth's pictures and categories by what they are called.
class Names {
 public:
  explicit Names(const CocoTruthFile& truth) {
    for (std::size_t i = 0; i < truth.files.size(); ++i) {
      if (truth.files[i].empty()) continue;
      whole_.emplace(truth.files[i], i);
      const auto [at, first] = last_.emplace(without_folders(truth.files[i]), i);
      if (!first) at->second = kSeveral;
    }
    for (std::size_t k = 0; k < truth.names.size(); ++k) categories_.emplace(truth.names[k], truth.categories[k]);
  }
  bool any_picture() const { return !whole_.empty(); }
  // By the longest end of the path that is one's name: a/b/c.jpg, b/c.jpg, c.jpg; then by the file alone.
  std::optional<std::size_t> picture(const std::string& path) const {
    std::string end = path;
    for (std::size_t slash = 0; slash != end.npos; slash = end.find('/'), end = end.substr(slash + 1))
      if (const auto at = whole_.find(end); at != whole_.end()) return at->second;
    const auto at = last_.find(without_folders(path));
    return at == last_.end() || at->second == kSeveral ? std::nullopt : std::optional(at->second);
  }
  std::optional<std::int64_t> category(const std::string& name) const {
    const auto at = categories_.find(name);
    return at == categories_.end() ? std::nullopt : std::optional(at->second);
  }

 private:
  static constexpr std::size_t kSeveral = SIZE_MAX;
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
    const std::int64_t image = record.integer("image_id");
    CocoDetection detection;
    detection.category = record.integer("category_id");
    detection.box = record.box();
    detection.score = record.number("score");
    const std::string file = record.name_if_any("file_name");
    if (file.empty() || !names.any_picture()) {
      const auto by_id = at.find(image);
      if (by_id == at.end()) record.reject("is of image ", image, ", which ", truth.path, " does not have");
      detections[by_id->second].push_back(detection);
      return;
    }
    // Named: its numbers may be another file's.
    const auto picture = names.picture(file);
    if (!picture) record.reject("is of the picture ", file, ", which ", truth.path, " does not have");
    detection.category = names.category(record.name_if_any("category")).value_or(detection.category);
    detections[*picture].push_back(detection);
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
            {"left_out", report.left_out},
            {"false_positives", {{"gain", report.false_positives}}},
            {"false_negatives", {{"gain", report.false_negatives}}}};
  for (const ErrorKind& kind : report.kinds) json[kind.name] = {{"count", kind.count}, {"gain", kind.gain}};
  return json;
}

}  // namespace fovea
