// COCO data sets, in the layouts that they come in:
//   DIR/annotations.json + DIR/images/                      without splits
//   DIR/SPLIT/annotations.json + DIR/SPLIT/images/          made by `fovea data make`
//   DIR/SPLIT/_annotations.coco.json + DIR/SPLIT/*.jpg      Roboflow
//   DIR/annotations/instances_SPLIT.json + DIR/SPLIT/       COCO itself (also DIR/images/SPLIT/)
#include <algorithm>
#include <climits>
#include <filesystem>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "data/json.h"
#include "data/readers.h"

namespace fovea::detail {
namespace {

namespace fs = std::filesystem;

struct Place {
  fs::path annotations, images;
};

// The folder of the pictures: the first of these that exists.
fs::path first_folder(std::initializer_list<fs::path> folders) {
  for (const fs::path& folder : folders)
    if (is_folder(folder)) return folder;
  return *(folders.end() - 1);
}

// The layout of a split ("" for a data set without); no annotations where there is none.
Place find_place(const fs::path& dir, const std::string& split) {
  const fs::path base = split.empty() ? dir : dir / split;
  for (const char* name : {"annotations.json", "_annotations.coco.json"})
    if (is_file(base / name)) return {base / name, first_folder({base / "images", base})};
  const fs::path instances = dir / "annotations" / ("instances_" + split + ".json");
  if (split.empty() || !is_file(instances)) return {};
  return {instances, first_folder({dir / split, dir / "images" / split, dir / "images", dir})};
}

Place place_of(const DatasetOptions& options, bool& divide) {
  if (!options.annotations.empty() || !options.images.empty()) {
    check(Code::usage, !options.annotations.empty() && !options.images.empty(),
          "annotations and images belong together: name both, or a folder that holds them");
    divide = true;
    return {options.annotations, options.images};
  }
  Place place = find_place(options.dir, options.split);
  if (!place.annotations.empty()) return place;
  place = find_place(options.dir, "");
  divide = true;
  if (!place.annotations.empty()) return place;
  const std::vector<std::string> known = coco_splits(options.dir);
  check(Code::data, !known.empty() || !is_voc(options.dir), options.dir,
        ": has no annotations.json (COCO); it is a PASCAL VOC folder, which --format voc reads");
  check(Code::data, !known.empty() || !is_yolo(options.dir), options.dir,
        ": has no annotations.json (COCO); it is a YOLO folder, which --format yolo reads");
  check(Code::data, !known.empty() || !is_csv(options.dir), options.dir,
        ": has no annotations.json (COCO); its .csv files are what --format csv reads");
  const std::string csv = known.empty() ? csv_fault(options.dir) : "";
  check(Code::data, !known.empty(), options.dir,
        ": has neither annotations.json (COCO) nor Annotations/ (PASCAL VOC) nor labels/ (YOLO) nor a .csv file of ",
        "boxes", csv.empty() ? "" : " (" + csv + ")", "; is it the right folder? ",
        "A COCO file that is called otherwise is named by --annotations, with --images");
  unknown_split(options.split, options.dir, known);
}

struct Picture {
  Annotation annotation;
  bool sized = false;
};

// The file that is called so, also where the name has folders that are not there or Windows' backslashes; else empty.
fs::path find_picture(const fs::path& folder, const std::string& file) {
  std::string trouble;
  for (const std::string& name : spellings(file))
    for (const fs::path& path : {folder / name, folder / fs::path(name).filename()}) {
      std::error_code error;
      if (fs::exists(path, error) && !fs::is_directory(path, error)) return path;
      const bool there = error && error != std::errc::filename_too_long;  // too long a name is none of a file either
      if (there && trouble.empty()) trouble = path.string() + ": cannot be opened: " + error.message();
    }
  check(Code::data, trouble.empty(), trouble);
  return {};
}

Picture read_picture(const JsonRecord& record, const fs::path& path) {
  Picture picture;
  picture.annotation.id = record.integer("id");
  picture.annotation.path = path.string();
  picture.sized = record.has("width") && record.has("height");
  if (!picture.sized) {
    const ImageSize size = read_image_size(picture.annotation.path);
    picture.annotation.width = size.width, picture.annotation.height = size.height;
    return picture;
  }
  const auto side = [&](const char* key) {
    const int64_t pixels = record.integer(key);
    if (pixels < 1 || pixels > INT_MAX) record.reject("has ", key, " ", pixels, ", which no picture has; correct it");
    return int(pixels);
  };
  picture.annotation.width = side("width"), picture.annotation.height = side("height");
  return picture;
}

// The classes by their ids. Of two with one name, one without objects is left out: Roboflow writes such.
void add_classes(Source& source, std::vector<std::pair<int64_t, std::string>> categories,
                 const std::unordered_set<int64_t>& used) {
  std::sort(categories.begin(), categories.end());
  std::unordered_map<std::string, int64_t> named;
  for (size_t i = 0; i < categories.size(); ++i) {
    const auto& [id, name] = categories[i];
    check(Code::data, i == 0 || categories[i - 1].first != id, source.name, ": two categories have the id ", id,
          "; ids must differ");
    const auto [first, fresh] = named.emplace(name, id);
    if (fresh) continue;
    check(Code::data, !used.count(first->second) || !used.count(id), source.name, ": the categories ", first->second,
          " and ", id, " are both called \"", name, "\"; make one of them, or give them two names");
    if (!used.count(first->second)) first->second = id;
  }
  for (const auto& [id, name] : categories)
    if (named.at(name) == id) source.class_ids.push_back(id), source.classes.push_back(name);
}

}  // namespace

std::vector<std::string> coco_splits(const fs::path& dir) {
  std::vector<std::string> splits;
  if (!find_place(dir, "").annotations.empty()) splits.push_back("");
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error))
    if (const std::string name = entry.path().filename().string(); is_folder(entry))
      if (!find_place(dir, name).annotations.empty()) splits.push_back(name);
  for (const auto& entry : fs::directory_iterator(dir / "annotations", error)) {
    const std::string name = entry.path().stem().string();
    if (entry.path().extension() != ".json" || name.rfind("instances_", 0) != 0) continue;
    if (std::find(splits.begin(), splits.end(), name.substr(10)) == splits.end()) splits.push_back(name.substr(10));
  }
  std::sort(splits.begin(), splits.end());
  return splits;
}

Source read_coco(const DatasetOptions& options) {
  bool divide = false;
  const Place place = place_of(options, divide);
  const std::string path = place.annotations.string();
  check(Code::data, fs::is_directory(place.images), place.images.string(), ": is not a folder of pictures");
  Source source{path, {}, {}, {}};
  std::vector<CocoRecord> records;
  std::vector<std::pair<int64_t, std::string>> categories;
  std::unordered_map<int64_t, size_t> at;
  std::unordered_map<std::string, std::string> names;  // of the pictures, by path
  Missing missing;
  read_coco_lists(path, [&](const JsonRecord& record) {
    if (record.list == "annotations") records.push_back(read_annotation(record));
    if (record.list == "categories") {
      const int64_t id = record.integer("id");
      categories.emplace_back(id, category_name(record, text(id)));
      if (categories.back().second.find('\n') != std::string::npos)
        record.reject("has a line break in its name; remove it");
    }
    if (record.list != "images") return;
    const std::string name = record.name("file_name");
    const fs::path file = find_picture(place.images, name);
    if (file.empty()) {
      const std::string path = (place.images / brief(name, 200)).string();
      return missing.add(text(record.called(), " is of the picture ", path, ", which does not exist"));
    }
    Picture picture = read_picture(record, file);
    if (!at.emplace(picture.annotation.id, source.annotations.size()).second)
      record.reject("has the id of another image; ids must differ");
    const auto [same, fresh] = names.emplace(picture.annotation.path, name);
    if (!fresh && same->second != name)  // a/1.jpg and b/1.jpg in one folder
      record.reject("is of ", same->first, ", as \"", brief(same->second, 200),
                    "\" is; put the pictures into the folders that their names say");
    source.annotations.push_back(std::move(picture.annotation));
  });
  missing.check_none(source.annotations.size(), "is the folder of pictures right?");
  std::unordered_set<int64_t> used;
  for (const CocoRecord& record : records) used.insert(record.truth.category);
  add_classes(source, std::move(categories), used);
  for (const CocoRecord& record : records) {
    const auto image = at.find(record.image);
    check_known(path, record, image != at.end(),
                std::binary_search(source.class_ids.begin(), source.class_ids.end(), record.truth.category));
    source.annotations[image->second].truths.push_back(record.truth);
  }
  std::stable_sort(source.annotations.begin(), source.annotations.end(),
                   [](const Annotation& a, const Annotation& b) { return a.id < b.id; });
  if (divide) keep_fraction(source, options.split, options.val_fraction);
  return source;
}

}  // namespace fovea::detail
