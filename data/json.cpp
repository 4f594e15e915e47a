// All that parses and writes JSON: values, the records of COCO's files, and those files of any data set. nlohmann-json
// with a filter takes each record out of a document as soon as it is complete.
#include "data/json.h"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/words.h"
#include "data/dataset.h"
#include "data/eval_json.h"
#include "data/image.h"

namespace fovea {

Json::Json(const Json&) = default;
Json::Json(Json&&) noexcept = default;
Json& Json::operator=(const Json&) = default;
Json& Json::operator=(Json&&) noexcept = default;
Json::~Json() = default;

Json::Json(std::initializer_list<Json> braces) : kind(Kind::object) {
  for (const Json& pair : braces)
    if (pair.items.size() != 2 || !pair.items[0].is(Kind::text)) kind = Kind::list;
  if (braces.size() == 0 || is(Kind::list)) kind = Kind::list, items = braces;
  else
    for (const Json& pair : braces) (*this)[pair.items[0].string] = pair.items[1];
}
Json Json::list(std::vector<Json> items) {
  Json json;
  json.kind = Kind::list, json.items = std::move(items);
  return json;
}
Json Json::object() {
  Json json;
  json.kind = Kind::object;
  return json;
}
double Json::number(double otherwise) const {
  if (is(Kind::natural)) return static_cast<double>(static_cast<uint64_t>(whole));
  return is(Kind::real) ? real : is(Kind::integer) ? static_cast<double>(whole) : otherwise;
}
int64_t Json::integer(int64_t otherwise) const {
  if (is(Kind::real) && std::abs(real) < 0x1p63) return static_cast<int64_t>(real);
  return is(Kind::integer) ? whole : otherwise;
}
const Json& Json::operator[](const std::string& key) const {
  static const Json none;
  for (const Member& member : members)
    if (member.first == key) return member.second;
  return none;
}
Json& Json::operator[](const std::string& key) {
  kind = Kind::object;
  for (Member& member : members)
    if (member.first == key) return member.second;
  return members.emplace_back(key, nullptr).second;
}
void Json::add(Json item) { kind = Kind::list, items.push_back(std::move(item)); }
bool Json::operator==(const Json& other) const {
  return kind == other.kind && whole == other.whole && real == other.real && string == other.string &&
         items == other.items && members == other.members;
}
void Json::update(const Json& object) {
  for (const Member& member : object.members) (*this)[member.first] = member.second;
}

static Json from(const detail::Parsed& value) {
  Json json;
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get_ref<const std::string&>();
  if (value.is_array()) json = Json::list();
  if (value.is_object()) json = Json::object();
  for (auto item = value.begin(); item != value.end(); ++item)
    if (value.is_array()) json.items.push_back(from(*item));
    else if (value.is_object()) json.members.emplace_back(item.key(), from(*item));
  return json;
}
static detail::Parsed to(const Json& json) {
  using enum Json::Kind;
  detail::Parsed value;
  if (json.is(list)) value = detail::Parsed::array();
  if (json.is(object)) value = detail::Parsed::object();
  for (const Json& item : json.items) value.push_back(to(item));
  for (auto& [key, member] : json.members) value[key] = to(member);
  switch (json.kind) {
    case boolean: return json.whole != 0;
    case integer: return json.whole;
    case natural: return static_cast<uint64_t>(json.whole);
    case real: return json.real;
    case text: return json.string;
    default: return value;
  }
}

constexpr int kDeepest = 100;  // lists and objects within one another: copies and dump() take stack for each

Json parse_json(const std::string& text) {
  bool deep = false;
  const auto keep = [&](int depth, detail::Parsed::parse_event_t, detail::Parsed&) {
    deep = deep || depth > kDeepest;
    return !deep;
  };
  const detail::Parsed value = detail::Parsed::parse(text, keep, false);
  return deep ? Json() : from(value);
}
std::string json_text(const Json& value, int indent) {
  return to(value).dump(indent, ' ', false, detail::Parsed::error_handler_t::replace);
}

bool is_utf8(const std::string& text) { return parse_json(json_text(text)).string == text; }
bool is_utf16(std::string_view text) { return text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"); }

namespace detail {

std::string brief(std::string text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && !begins_character(text[most])) --most;  // no character of UTF-8 is cut
  return text.substr(0, most) + "...";
}

namespace {

std::string shown(const Parsed& value) { return brief(value.dump()); }

using Event = Parsed::parse_event_t;

class Reader {
 public:
  Reader(const std::string& path, int depth, std::string list) : path_(path), list_(std::move(list)), depth_(depth) {}

  Parsed read(const std::function<void(const JsonRecord&)>& visit) {
    const std::vector<uint8_t> file = read_bytes(path_, {.pipe = uint64_t{2} << 30});  // of millions of boxes
    const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
    try {
      return Parsed::parse(bytes,
                           [&](int depth, Event event, Parsed& value) { return keep(depth, event, value, visit); });
    } catch (const Parsed::parse_error& error) {
      fail(Code::data, explain(bytes, error.byte, error.what()));
    } catch (const Parsed::exception& error) {  // a number beyond double's range
      fail(Code::data, text(path_, ": ", place(), reason(error.what()), "; correct it, or leave its record out"));
    }
  }

 private:
  bool keep(int depth, Event event, Parsed& value, const std::function<void(const JsonRecord&)>& visit) {
    if (depth > kDeepest)
      fail(Code::data, text(path_, ": ", place(), "more than ", kDeepest,
                            " lists or objects within one another; is the file damaged?"));
    if (depth == 0 && event != Event::object_end && event != Event::array_end)
      check(Code::data, event == (depth_ == 2 ? Event::object_start : Event::array_start), path_, ": is not ",
            depth_ == 2 ? "a COCO annotation file, which is one object" : "a COCO results file, which is one list",
            "; are the ground truth and the detections swapped?");
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
      JsonRecord{path_, list_, index_, value}.reject("is ", shown(value), ", not an object");
    return true;
  }
  bool known() const {
    return list_ == "images" || list_ == "annotations" || list_ == "categories" || list_ == "detections";
  }
  std::string place() const { return known() ? text("near ", list_, "[", index_, "]: ") : std::string(); }

  // "[json.exception.parse_error.101] parse error at line 3 ...": what follows the name.
  static std::string reason(const std::string& what) { return brief(what.substr(what.find("] ") + 2), 200); }

  std::string explain(std::string_view bytes, std::size_t byte, const std::string& what) const {
    if (bytes.empty()) return path_ + ": the file is empty; was it copied or written completely?";
    if (byte > bytes.size())
      return text(path_, ": ", place(), "the JSON is cut off: the file ends at byte ", bytes.size(),
                  " in the middle; was it copied or written completely?");
    if (is_utf16(bytes)) return path_ + ": is UTF-16; save the file as UTF-8";
    const std::size_t at = byte > 0 ? byte - 1 : 0;
    for (const std::string word : {"NaN", "Infinity", "nan", "inf"})
      if (bytes.compare(at, word.size(), word) == 0 || bytes.compare(at - (at > 0), word.size(), word) == 0)
        return text(path_, ": ", place(), word, " at byte ", at,
                    " is no number of JSON; the program that wrote the file computed it; leave such boxes out");
    if (what.find("UTF-8") != std::string::npos)
      return text(path_, ": ", place(), "not UTF-8 at byte ", at, "; save the file as UTF-8");
    return text(path_, ": ", place(), "not valid JSON: ", reason(what));
  }

  std::string path_, list_;
  int depth_;
  std::size_t index_ = 0;
};

double number_in(const JsonRecord& record, const Parsed& value, const std::string& what) {
  if (!value.is_number()) record.reject("has ", what, " ", shown(value), ", which is not a number");
  return value.get<double>();
}

}  // namespace

std::string JsonRecord::called() const {
  std::string name = text(path, ": ", list, "[", index, "]");
  if (const auto id = json.find("id"); json.is_object() && id != json.end()) name += " (id " + shown(*id) + ")";
  return name;
}
void JsonRecord::reject_as(const std::string& what) const { fail(Code::data, called() + " " + what); }
bool JsonRecord::has(const char* key) const {  // null is as good as nothing: pandas writes it for what is missing
  const auto at = json.find(key);
  return at != json.end() && !at->is_null();
}
const Parsed& JsonRecord::field(const char* key) const {
  const auto at = json.find(key);
  if (at == json.end()) reject("has no \"", key, "\"");
  return *at;
}
double JsonRecord::number(const char* key) const { return number_in(*this, field(key), key); }
std::int64_t JsonRecord::integer(const char* key) const {
  const Parsed& value = field(key);
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{INT64_MAX})
    reject("has ", key, " ", shown(value), ", which is above 2^63 - 1");
  if (value.is_number_integer()) return value.get<std::int64_t>();
  const double real = value.is_number_float() ? value.get<double>() : 0.5;  // 7.0 is the id 7
  if (real != std::floor(real) || std::abs(real) > 9e15)
    reject("has ", key, " ", shown(value), ", which is not a whole number");
  return static_cast<std::int64_t>(real);
}
std::string JsonRecord::name(const char* key) const {
  const Parsed& value = field(key);
  if (!value.is_string()) reject("has ", key, " ", shown(value), ", which is not a text");
  return value.get<std::string>();
}
std::string JsonRecord::name_if_any(const char* key) const {
  return has(key) && field(key).is_string() ? field(key).get<std::string>() : "";
}
CocoBox JsonRecord::box() const {
  const Parsed& value = field("bbox");
  if (!value.is_array() || value.size() != 4) reject("has bbox ", shown(value), ", not [x, y, width, height]");
  const auto side = [&](int i) { return number_in(*this, value[i], "in its bbox"); };
  return {side(0), side(1), side(2), side(3)};
}

void read_coco_lists(const std::string& path, const std::function<void(const JsonRecord&)>& visit) {
  const Parsed rest = Reader(path, 2, "").read(visit);
  for (const char* list : {"images", "annotations", "categories"})
    check(Code::data, rest.contains(list) && rest[list].is_array(), path, ": has no list \"", list,
          "\"; is it a COCO annotation file?");
}
void read_coco_results(const std::string& path, const std::function<void(const JsonRecord&)>& visit) {
  Reader(path, 1, "detections").read(visit);
}

void check_known(const std::string& path, const CocoRecord& a, bool image, bool category) {
  if (image && category) return;
  fail(Code::data, text(path, ": annotations[", a.index, "] (id ", a.truth.id, ") is of ",
                        image ? text("category ", a.truth.category) : text("image ", a.image), ", which \"",
                        image ? "categories" : "images", "\" does not have; add it there or leave the annotation out"));
}

std::string category_name(const JsonRecord& record, const std::string& otherwise) {
  const auto name = record.json.find("name");
  if (name == record.json.end() || !(name->is_string() || name->is_number())) return otherwise;
  if (name->is_number()) return name->dump();  // digits are called 0 to 9, their ids 1 to 10
  const std::string said = name->get<std::string>();
  return trimmed(said).empty() ? otherwise : said;
}

CocoRecord read_annotation(const JsonRecord& record) {
  CocoRecord a{record.integer("image_id"), record.index, {}};
  a.truth.category = record.integer("category_id");
  if (!record.has("bbox"))
    record.reject("has no \"bbox\"; add the box around its segmentation, [x, y, width, height], or leave it out");
  a.truth.box = record.box();
  if (record.has("area")) a.truth.area = record.number("area");
  if (record.has("iscrowd")) {
    const Parsed& crowd = record.field("iscrowd");
    a.truth.crowd = crowd.is_boolean() ? crowd.get<bool>() : record.integer("iscrowd") != 0;
  }
  a.truth.id = record.has("id") ? record.integer("id") : static_cast<std::int64_t>(record.index) + 1;
  return a;
}

}  // namespace detail

using detail::Parsed;

static void write_json(const std::string& path, const Parsed& json) {
  std::string text;
  try {
    text = json.dump() + "\n";
  } catch (const Parsed::exception&) {
    fail(Code::data, path + ": the name of a class or a picture is not UTF-8, which JSON is; rename it");
  }
  write_bytes(path, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

void write_coco_truth(const std::string& path, const Dataset& dataset) {
  Parsed json;
  json["images"] = json["categories"] = json["annotations"] = Parsed::array();
  for (size_t k = 0; k < dataset.classes().size(); ++k)
    json["categories"].push_back({{"id", dataset.class_ids()[k]}, {"name", dataset.classes()[k]}});
  int64_t id = 0;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const Annotation& a = dataset.annotation(i);
    const std::string name = std::filesystem::path(a.path).filename().string();
    json["images"].push_back({{"id", a.id}, {"file_name", name}, {"width", a.width}, {"height", a.height}});
    for (const CocoGroundTruth& t : a.truths)
      json["annotations"].push_back({{"id", ++id},
                                     {"image_id", a.id},
                                     {"category_id", t.category},
                                     {"bbox", {t.box.x, t.box.y, t.box.w, t.box.h}},
                                     {"area", t.area.value_or(t.box.w * t.box.h)},
                                     {"iscrowd", int(t.crowd)}});
  }
  write_json(path, json);
}

void write_coco_detections(const std::string& path, const std::vector<ImageDetections>& images) {
  Parsed json = Parsed::array();
  for (const ImageDetections& image : images)
    for (const CocoDetection& d : image.detections)
      json.push_back({{"image_id", image.image_id},
                      {"category_id", d.category},
                      {"bbox", {d.box.x, d.box.y, d.box.w, d.box.h}},
                      {"score", d.score}});
  write_json(path, json);
}

Json to_json(const CocoResult& result) {
  Json classes = Json::object();
  for (std::size_t k = 0; k < result.categories.size(); ++k)
    classes[std::to_string(result.categories[k])] = result.category_ap[k];
  return {{"stats", result.stats}, {"per_category_ap", classes}};
}

}  // namespace fovea
