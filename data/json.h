// JSON values, and lists of records in JSON files (COCO's), one record at a time: each is checked and dropped at once,
// so memory follows the boxes and not the text (a mask polygon is skipped, never stored). nlohmann-json parses and
// writes, in json.cpp alone: it costs whoever compiles it seconds.
#pragma once
#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "data/coco_eval.h"

namespace fovea {

// A value of JSON, which looks as it is written there: {{"box", {1, 2}}, {"score", 0.5}}. Braces are an object where
// each item is a pair that begins with a text, otherwise a list.
struct Json {
  enum class Kind { null, boolean, integer, natural, real, text, list, object };
  using Member = std::pair<std::string, Json>;
  Kind kind = Kind::null;
  int64_t whole = 0;  // of a boolean or an integer; the bits of a natural number, which is above 2^63 - 1
  double real = 0;
  std::string string;
  std::vector<Json> items;  // of a list
  std::vector<Member> members;

  Json(std::nullptr_t = nullptr) {}
  Json(bool value) : kind(Kind::boolean), whole(value) {}
  template <std::signed_integral T> Json(T value) : kind(Kind::integer), whole(value) {}
  template <std::unsigned_integral T>
  Json(T value)
      : kind(value > uint64_t{INT64_MAX} ? Kind::natural : Kind::integer), whole(static_cast<int64_t>(value)) {}
  template <std::floating_point T> Json(T value) : kind(Kind::real), real(value) {}
  Json(std::string value) : kind(Kind::text), string(std::move(value)) {}
  Json(const char* value) : Json(std::string(value)) {}
  Json(std::initializer_list<Json> braces);
  template <class List>
  requires(!std::convertible_to<List, std::string_view> && requires(const List& all) { Json(*all.begin()), all.end(); })
      Json(const List& all)
      : kind(Kind::list), items(all.begin(), all.end()) {}
  static Json list(std::vector<Json> items = {});
  static Json object();
  // Once, in json.cpp, not in each file that has a value.
  Json(const Json&);
  Json(Json&&) noexcept;
  Json& operator=(const Json&);
  Json& operator=(Json&&) noexcept;
  ~Json();

  bool is(Kind one) const { return kind == one; }
  bool is_whole() const { return is(Kind::integer) || is(Kind::natural); }
  bool is_number() const { return is_whole() || is(Kind::real); }
  double number(double otherwise = 0) const;     // `otherwise` where it is none
  int64_t integer(int64_t otherwise = 0) const;  // rounded towards 0; `otherwise` also beyond its range
  bool has(const std::string& key) const { return !(*this)[key].is(Kind::null); }  // and it is not null
  const Json& operator[](const std::string& key) const;                            // null where there is none
  Json& operator[](const std::string& key);  // makes it where there is none, and an object of null
  void add(Json item);                       // to a list, or to null, which becomes one
  void update(const Json& object);           // takes over its members
  bool operator==(const Json& other) const;
};

Json parse_json(const std::string& text);  // null where the text is no JSON, or more than 100 deep
// With line breaks where indent >= 0. Text that is not UTF-8 is repaired, NaN becomes null.
std::string json_text(const Json& value, int indent = -1);
bool is_utf8(const std::string& text);  // whether json_text() leaves it as it is
bool is_utf16(std::string_view text);   // by the mark that it begins with

namespace detail {

std::string brief(std::string text, std::size_t most = 60);  // for messages: the rest of a longer one is "..."

using Parsed = nlohmann::ordered_json;

// One object of a file's list, e.g. annotations[12] of val.json. All throw Code::data in one line.
struct JsonRecord {
  const std::string& path;
  const std::string& list;  // "images", "annotations", "categories"; "detections" for a results file
  std::size_t index;
  const Parsed& json;

  template <class... A> [[noreturn]] void reject(const A&... what) const { reject_as(text(what...)); }
  [[noreturn]] void reject_as(const std::string& what) const;
  std::string called() const;  // "val.json: annotations[12] (id 7)"
  bool has(const char* key) const;
  const Parsed& field(const char* key) const;
  double number(const char* key) const;
  std::int64_t integer(const char* key) const;
  std::string name(const char* key) const;
  std::string name_if_any(const char* key) const;  // "" where it has none, or no text
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
// Of one of "categories"; `otherwise` where it has none, or only white space.
std::string category_name(const JsonRecord& record, const std::string& otherwise);

}  // namespace detail
}  // namespace fovea
