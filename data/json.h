// JSON values, and lists of records in JSON files (COCO's), one record at a time: each is checked and dropped at once,
// so memory follows the boxes and not the text (a mask polygon is skipped, never stored). Parsing and writing are in
// json.cpp alone: each costs whoever compiles it seconds.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/error.h"
#include "data/coco_eval.h"

namespace fovea {

using Json = nlohmann::ordered_json;

Json parse_json(const std::string& text);  // is_discarded() where the text is no JSON
// With line breaks where indent >= 0. Text that is not UTF-8 is repaired, NaN becomes null.
std::string json_text(const Json& value, int indent = -1);

namespace detail {

// One object of a file's list, e.g. annotations[12] of val.json. All throw Code::data in one line.
struct JsonRecord {
  const std::string& path;
  const std::string& list;  // "images", "annotations", "categories"; "detections" for a results file
  std::size_t index;
  const Json& json;

  template <class... A> [[noreturn]] void reject(const A&... what) const { reject_as(text(what...)); }
  [[noreturn]] void reject_as(const std::string& what) const;
  bool has(const char* key) const;
  const Json& field(const char* key) const;
  double number(const char* key) const;
  std::int64_t integer(const char* key) const;
  std::string name(const char* key) const;
  CocoBox box() const;
};

// Reads an annotation file or a results file, whose only list is then called "detections", and hands every object in a
// list to `visit`. Throws Code::data in one line: a file that cannot be read or is cut off, anything that is not JSON;
// a list that an annotation file lacks.
void read_coco_lists(const std::string& path, const std::function<void(const JsonRecord&)>& visit);
void read_coco_results(const std::string& path, const std::function<void(const JsonRecord&)>& visit);

struct CocoRecord {  // one of "annotations"
  std::int64_t image = 0;
  std::size_t index = 0;  // in the file
  CocoGroundTruth truth;
};
CocoRecord read_annotation(const JsonRecord& record);
// Throws Code::data where the image or the category of an annotation is not known.
void check_known(const std::string& path, const CocoRecord& annotation, bool image, bool category);
std::string category_name(const JsonRecord& record, const std::string& otherwise);  // of one of "categories"

}  // namespace detail
}  // namespace fovea
