// Lists of records in JSON files (COCO's), one record at a time: each is checked and dropped at once, so memory follows
// the boxes and not the text (a mask polygon is skipped, never stored). Internal to data/.
#pragma once
#include <cmath>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "data/coco_eval.h"

namespace fovea::detail {

using Json = nlohmann::json;

// One object of a file's list, e.g. annotations[12] of val.json.
struct JsonRecord {
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

// Reads a file whose lists are at `depth` - 1 (2: an annotation file, 1: a results file, whose only list is then called
// `list`) and hands every object in a list to `visit`. What is left of the document is returned: its lists, emptied.
// Throws Code::data in one line: a file that cannot be read or is cut off, anything that is not JSON.
Json read_records(const std::string& path, int depth, const std::string& list,
                  const std::function<void(const JsonRecord&)>& visit);

// The same for an annotation file: throws, too, where a list of it is missing.
void read_coco_lists(const std::string& path, const std::function<void(const JsonRecord&)>& visit);

struct CocoRecord {  // one of "annotations"
  std::int64_t image = 0;
  std::size_t index = 0;  // in the file
  CocoGroundTruth truth;
};
CocoRecord read_annotation(const JsonRecord& record);
// Throws Code::data where the image or the category of an annotation is not known.
void check_known(const std::string& path, const CocoRecord& annotation, bool image, bool category);
std::string category_name(const JsonRecord& record, const std::string& otherwise);  // of one of "categories"

}  // namespace fovea::detail
