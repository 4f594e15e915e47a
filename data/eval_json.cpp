// Record by record through nlohmann-json: each record is checked and dropped at once, so memory follows the boxes and
// not the text (a mask polygon is skipped, never stored).
#include "data/eval_json.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "core/error.h"

namespace fovea {
namespace {

using Json = nlohmann::json;
using Event = Json::parse_event_t;

// One object of a file's list, e.g. annotations[12] of val.json.
struct Record {
  const std::string& path;
  const std::string& list;  // "images", "annotations", "categories"; "detections" for a results file
  std::size_t index;
  const Json& json;

  template <class... A> [[noreturn]] void reject(const A&... what) const {
    std::string name = text(path, ": ", list, "[", index, "]");
    if (const auto id = json.find("id"); json.is_object() && id != json.end()) name += " (id " + id->dump() + ")";
    fail(Code::data, name + " " + text(what...));
  }
  const Json& field(const char* key) const {
    const auto at = json.find(key);
    if (at == json.end()) reject("has no \"", key, "\"");
    return *at;
  }
  double number(const Json& value, const char* what) const {
    if (!value.is_number()) reject("has ", what, " ", value.dump(), ", which is not a number");
    return value.get<double>();
  }
  std::int64_t integer(const char* key) const {
    const Json& value = field(key);
    if (value.is_number_integer()) return value.get<std::int64_t>();
    const double real = value.is_number_float() ? value.get<double>() : 0.5;  // 7.0 is the id 7
    if (real != std::floor(real) || std::abs(real) > 9e15)
      reject("has ", key, " ", value.dump(), ", which is not a whole number");
    return static_cast<std::int64_t>(real);
  }
  CocoBox box() const {
    const Json& value = field("bbox");
    if (!value.is_array() || value.size() != 4) reject("has bbox ", value.dump(), ", not [x, y, width, height]");
    const auto side = [&](int i) { return number(value[i], "in its bbox"); };
    return {side(0), side(1), side(2), side(3)};
  }
};

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  check(Code::data, in.good(), path, ": cannot be opened: ", std::strerror(errno));
  const std::streamoff size = in.tellg();
  check(Code::data, size >= 0 && size < std::streamoff{1} << 40, path, ": is not a file");
  std::string bytes(static_cast<std::size_t>(size), '\0');
  in.seekg(0).read(bytes.data(), size);
  check(Code::data, in.good(), path, ": cannot be read: ", std::strerror(errno));
  return bytes;
}

// Reads a file whose lists are at `depth` - 1 and hands every object in a list to `visit`.
// What is left of the document is returned: its lists, emptied.
class Reader {
 public:
  Reader(const std::string& path, int depth, std::string list) : path_(path), list_(std::move(list)), depth_(depth) {}

  Json read(const std::function<void(const Record&)>& visit) {
    const std::string bytes = read_file(path_);
    try {
      return Json::parse(bytes, [&](int depth, Event event, Json& value) { return keep(depth, event, value, visit); });
    } catch (const Json::parse_error& error) {
      fail(Code::data, explain(bytes, error.byte, error.what()));
    } catch (const Json::exception& error) {  // a number beyond double's range, a broken UTF-8 text
      fail(Code::data, text(path_, ": ", place(), error.what()));
    }
  }

 private:
  bool keep(int depth, Event event, Json& value, const std::function<void(const Record&)>& visit) {
    if (depth == 0 && event != Event::object_end && event != Event::array_end)
      check(Code::data, event == (depth_ == 2 ? Event::object_start : Event::array_start), path_, ": is not ",
            depth_ == 2 ? "a COCO annotation file, which is one object" : "a COCO results file, which is one list",
            "\n  hint: are the ground truth and the detections swapped?");
    if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (depth == depth_ - 1) list_ = key, index_ = 0;
      return depth < depth_ || key != "segmentation";
    }
    if (depth != depth_ || !known()) return true;
    if (event == Event::object_end) {
      visit({path_, list_, index_, value});
      ++index_;
      return false;
    }
    if (event == Event::value || event == Event::array_end)
      Record{path_, list_, index_, value}.reject("is ", value.dump().substr(0, 40), ", not an object");
    return true;
  }
  bool known() const {
    return list_ == "images" || list_ == "annotations" || list_ == "categories" || list_ == "detections";
  }
  std::string place() const { return known() ? text("near ", list_, "[", index_, "]: ") : std::string(); }

  std::string explain(const std::string& bytes, std::size_t byte, const std::string& what) const {
    if (byte > bytes.size() || bytes.empty())
      return text(path_, ": ", place(), "the JSON is cut off: the file ends at byte ", bytes.size(),
                  " in the middle\n  hint: was it copied or written completely?");
    const std::size_t at = byte > 0 ? byte - 1 : 0;
    for (const std::string word : {"NaN", "Infinity", "nan", "inf"})
      if (bytes.compare(at, word.size(), word) == 0 || bytes.compare(at - (at > 0), word.size(), word) == 0)
        return text(path_, ": ", place(), word, " at byte ", at,
                    " is no number of JSON\n  hint: the program that wrote the file computed it; leave such boxes out");
    return text(path_, ": ", place(), "not valid JSON: ", what.substr(what.find("] ") + 2));
  }

  std::string path_, list_;
  int depth_;
  std::size_t index_ = 0;
};

struct Annotation {
  std::int64_t image = 0;
  std::size_t index = 0;  // in the file
  CocoGroundTruth truth;
};

Annotation read_annotation(const Record& record) {
  Annotation a{record.integer("image_id"), record.index, {}};
  a.truth.category = record.integer("category_id");
  a.truth.box = record.box();
  if (record.json.contains("area")) a.truth.area = record.number(record.json["area"], "area");
  const auto crowd = record.json.find("iscrowd");
  if (crowd != record.json.end())
    a.truth.crowd = crowd->is_boolean() ? crowd->get<bool>() : record.integer("iscrowd") != 0;
  a.truth.id = record.json.contains("id") ? record.integer("id") : static_cast<std::int64_t>(record.index) + 1;
  return a;
}

// The toolkit keeps annotations by id, so those that share one all turn into the last of them, in the places of each.
std::size_t share_ids(std::vector<Annotation>& annotations, bool strict) {
  std::unordered_map<std::int64_t, std::size_t> last;
  for (std::size_t i = 0; i < annotations.size(); ++i) last[annotations[i].truth.id] = i;
  const std::size_t shared = annotations.size() - last.size();
  if (!strict || shared == 0) return shared;
  std::stable_sort(annotations.begin(), annotations.end(),
                   [](const Annotation& a, const Annotation& b) { return a.image < b.image; });
  std::unordered_map<std::int64_t, Annotation> winner;
  for (const Annotation& a : annotations)
    if (const auto at = winner.try_emplace(a.truth.id, a).first; a.index > at->second.index) at->second = a;
  for (Annotation& a : annotations) a = winner.at(a.truth.id);
  return shared;
}

std::unordered_map<std::int64_t, std::size_t> places(const std::vector<std::int64_t>& ids) {
  std::unordered_map<std::int64_t, std::size_t> at;
  for (std::size_t i = 0; i < ids.size(); ++i) at[ids[i]] = i;
  return at;
}

}  // namespace

CocoTruthFile read_coco_truth(const std::string& path, bool strict) {
  CocoTruthFile file;
  file.path = path;
  std::set<std::int64_t> images;
  std::map<std::int64_t, std::string> categories;
  std::vector<Annotation> annotations;
  const Json rest = Reader(path, 2, "").read([&](const Record& record) {
    if (record.list == "images") images.insert(record.integer("id"));
    if (record.list == "annotations") annotations.push_back(read_annotation(record));
    if (record.list == "categories") {
      const auto name = record.json.find("name");
      const bool named = name != record.json.end() && name->is_string();
      categories[record.integer("id")] = named ? name->get<std::string>() : "";
    }
  });
  for (const char* list : {"images", "annotations", "categories"})
    check(Code::data, rest.contains(list) && rest[list].is_array(), path, ": has no list \"", list, "\"");

  file.images.assign(images.begin(), images.end());
  for (const auto& [id, name] : categories) file.categories.push_back(id), file.names.push_back(name);
  const auto at = places(file.images);
  for (const Annotation& a : annotations) {
    const auto name = [&] { return text(path, ": annotations[", a.index, "] (id ", a.truth.id, ")"); };
    if (!at.count(a.image))
      fail(Code::data, text(name(), " is of image ", a.image, ", which \"images\" does not have"));
    if (!categories.count(a.truth.category))
      fail(Code::data, text(name(), " is of category ", a.truth.category, ", which \"categories\" does not have"));
  }
  if (const std::size_t shared = share_ids(annotations, strict))
    file.warnings.push_back(text(path, ": ", shared, " annotation(s) have an id that another one has too; the COCO ",
                                 "toolkit reads such a group as copies of its last one",
                                 strict ? ", and so does this strict evaluation" : ", here each is its own"));
  file.ground_truths.resize(file.images.size());
  for (const Annotation& a : annotations) file.ground_truths[at.at(a.image)].push_back(a.truth);
  return file;
}

std::vector<std::vector<CocoDetection>> read_coco_detections(const std::string& path, const CocoTruthFile& truth) {
  std::vector<std::vector<CocoDetection>> detections(truth.images.size());
  const auto at = places(truth.images);
  Reader(path, 1, "detections").read([&](const Record& record) {
    const std::int64_t image = record.integer("image_id");
    const auto place = at.find(image);
    if (place == at.end()) record.reject("is of image ", image, ", which ", truth.path, " does not have");
    CocoDetection detection;
    detection.category = record.integer("category_id");
    detection.box = record.box();
    detection.score = record.number(record.field("score"), "score");
    detections[place->second].push_back(detection);
  });
  return detections;
}

CocoResult evaluate_coco_files(const std::string& truth_path, const std::string& detections_path,
                               const CocoOptions& options) {
  const CocoTruthFile truth = read_coco_truth(truth_path, options.strict);
  const std::vector<std::vector<CocoDetection>> detections = read_coco_detections(detections_path, truth);
  CocoEvaluator evaluator(truth.categories, options);
  for (std::size_t i = 0; i < truth.images.size(); ++i)
    evaluator.add_image(truth.images[i], truth.ground_truths[i], detections[i]);
  CocoResult result = evaluator.summarize();
  result.warnings.insert(result.warnings.begin(), truth.warnings.begin(), truth.warnings.end());
  return result;
}

std::string to_json(const CocoResult& result) {
  nlohmann::ordered_json json;
  json["stats"] = result.stats;
  json["per_category_ap"] = nlohmann::ordered_json::object();
  for (std::size_t k = 0; k < result.categories.size(); ++k)
    json["per_category_ap"][std::to_string(result.categories[k])] = result.category_ap[k];
  return json.dump();
}

}  // namespace fovea
