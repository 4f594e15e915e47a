// nlohmann-json with a filter that takes each record out of the document as soon as it is complete.
#include "data/json.h"

#include "data/image.h"

namespace fovea::detail {
namespace {

using Event = Json::parse_event_t;

class Reader {
 public:
  Reader(const std::string& path, int depth, std::string list) : path_(path), list_(std::move(list)), depth_(depth) {}

  Json read(const std::function<void(const JsonRecord&)>& visit) {
    const std::vector<uint8_t> file = read_bytes(path_);
    const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
    try {
      return Json::parse(bytes, [&](int depth, Event event, Json& value) { return keep(depth, event, value, visit); });
    } catch (const Json::parse_error& error) {
      fail(Code::data, explain(bytes, error.byte, error.what()));
    } catch (const Json::exception& error) {  // a number beyond double's range, a broken UTF-8 text
      fail(Code::data, text(path_, ": ", place(), error.what()));
    }
  }

 private:
  bool keep(int depth, Event event, Json& value, const std::function<void(const JsonRecord&)>& visit) {
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
      JsonRecord{path_, list_, index_, value}.reject("is ", value.dump().substr(0, 40), ", not an object");
    return true;
  }
  bool known() const {
    return list_ == "images" || list_ == "annotations" || list_ == "categories" || list_ == "detections";
  }
  std::string place() const { return known() ? text("near ", list_, "[", index_, "]: ") : std::string(); }

  std::string explain(std::string_view bytes, std::size_t byte, const std::string& what) const {
    if (byte > bytes.size() || bytes.empty())
      return text(path_, ": ", place(), "the JSON is cut off: the file ends at byte ", bytes.size(),
                  " in the middle; was it copied or written completely?");
    const std::size_t at = byte > 0 ? byte - 1 : 0;
    for (const std::string word : {"NaN", "Infinity", "nan", "inf"})
      if (bytes.compare(at, word.size(), word) == 0 || bytes.compare(at - (at > 0), word.size(), word) == 0)
        return text(path_, ": ", place(), word, " at byte ", at,
                    " is no number of JSON; the program that wrote the file computed it; leave such boxes out");
    return text(path_, ": ", place(), "not valid JSON: ", what.substr(what.find("] ") + 2));
  }

  std::string path_, list_;
  int depth_;
  std::size_t index_ = 0;
};

}  // namespace

Json read_records(const std::string& path, int depth, const std::string& list,
                  const std::function<void(const JsonRecord&)>& visit) {
  return Reader(path, depth, list).read(visit);
}

void read_coco_lists(const std::string& path, const std::function<void(const JsonRecord&)>& visit) {
  const Json rest = read_records(path, 2, "", visit);
  for (const char* list : {"images", "annotations", "categories"})
    check(Code::data, rest.contains(list) && rest[list].is_array(), path, ": has no list \"", list,
          "\"; is it a COCO annotation file?");
}

void check_known(const std::string& path, const CocoRecord& a, bool image, bool category) {
  if (image && category) return;
  fail(Code::data, text(path, ": annotations[", a.index, "] (id ", a.truth.id, ") is of ",
                        image ? text("category ", a.truth.category) : text("image ", a.image), ", which \"",
                        image ? "categories" : "images", "\" does not have; add it there or leave the annotation out"));
}

std::string category_name(const JsonRecord& record, const std::string& otherwise) {
  const auto name = record.json.find("name");
  return name != record.json.end() && name->is_string() ? name->get<std::string>() : otherwise;
}

CocoRecord read_annotation(const JsonRecord& record) {
  CocoRecord a{record.integer("image_id"), record.index, {}};
  a.truth.category = record.integer("category_id");
  a.truth.box = record.box();
  if (record.json.contains("area")) a.truth.area = record.number(record.json["area"], "area");
  const auto crowd = record.json.find("iscrowd");
  if (crowd != record.json.end())
    a.truth.crowd = crowd->is_boolean() ? crowd->get<bool>() : record.integer("iscrowd") != 0;
  a.truth.id = record.json.contains("id") ? record.integer("id") : static_cast<std::int64_t>(record.index) + 1;
  return a;
}

}  // namespace fovea::detail
