// CSV data sets, a line an object, in the layouts that they come in:
//   DIR/train.csv + DIR/val.csv (train_labels.csv, annotations-val.csv ...), or both in DIR/annotations
//   DIR/SPLIT/_annotations.csv + DIR/SPLIT/*.jpg       Roboflow
//   DIR/boxes.csv                                      a single file: without splits, or with a column of them
// The first line names the columns (filename, class, xmin, ymin, xmax, ymax, in any order), or there is none, and they
// are path,x1,y1,x2,y2,class (keras-retinanet), followed by the picture's size (SKU-110K). Corners are edges in pixels.
// Four empty sides: a picture without objects. Pictures that no line names are not read. The names of the classes are
// lines "name,number" of classes.csv, else those of all files.
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "core/error.h"
#include "core/threads.h"
#include "core/words.h"
#include "data/csv_table.h"
#include "data/json.h"
#include "data/readers.h"

namespace fovea::detail {
namespace {

namespace fs = std::filesystem;

// --- files ---

struct File {
  fs::path path;
  std::string split;       // "" of a file that is called annotations.csv or the like
  std::string fault;       // why it holds no boxes
  bool by_column = false;  // the split is that of some of its lines
};
struct Files {
  std::vector<File> tables, others;
  std::vector<fs::path> classes;
  bool folders = false;  // DIR/SPLIT/ holds each split
  bool divide() const { return tables.size() == 1 && !folders && !tables[0].by_column; }
};

std::string split_of(const fs::path& path) {  // train of train_labels.csv
  std::string stem = path.stem().string();
  for (char& c : stem) c = std::string_view("-. ").find(c) != std::string_view::npos ? '_' : c;
  static const std::set<std::string> kind{"",      "annotations", "annotation", "annots", "annot",   "labels",
                                          "label", "boxes",       "bboxes",     "bbox",   "dataset", "data"};
  std::vector<std::string> words = split(stem, '_');
  std::erase_if(words, [](const std::string& word) { return kind.count(lowered(word)) > 0; });
  return joined(words, "_");
}

// Where the pictures of a file may be.
std::vector<fs::path> picture_folders(const fs::path& file, const fs::path& dir, const std::string& split) {
  const fs::path beside = file.parent_path(), images = entry_named(dir, {"images", "imgs", "img", "jpegimages"});
  std::vector<fs::path> folders{beside, dir, images, entry_named(beside, {"images"})};
  if (!split.empty()) folders.insert(folders.end(), {dir / split, images / split});
  std::erase(folders, fs::path());
  return folders;
}

fs::path find_below(const std::vector<fs::path>& folders, const std::string& file) {
  for (const std::string& name : spellings(file))
    for (const fs::path& folder : folders)
      for (const char* ending : {"", ".jpg", ".jpeg", ".png", ".JPG"})
        if (const fs::path path = folder / (name + ending); is_file(path)) return path;
  return {};
}

struct Found {
  fs::path path;       // empty where there is none
  bool moved = false;  // the folders of its name are not there: those of another machine
};
Found find_picture(const std::vector<fs::path>& folders, const std::string& name) {
  if (const fs::path path = find_below(folders, name); !path.empty()) return {path, false};
  return {find_below(folders, without_folders(name)), true};
}

// Those of `place`, in the data set DIR; `folder`: of the split that they are, "" where their names say it.
void add_files(Files& files, const fs::path& dir, const fs::path& place, const std::string& folder) {
  for (const fs::path& path : entries(place)) {
    if (ending_of(path) != ".csv" || is_folder(path)) continue;
    const std::string stem = lowered(path.stem().string());
    if (stem == "classes" || stem == "_classes" || stem == "class_list") {
      files.classes.push_back(path);
      continue;
    }
    File file{path, folder.empty() ? split_of(path) : folder, ""};
    file.fault = csv_table_fault(path, [&](const std::string& name) {
      return !find_picture(picture_folders(path, dir, file.split), name).path.empty();
    });
    const auto splits = file.fault.empty() && file.split.empty() ? csv_table_splits(path) : std::vector<std::string>{};
    for (const std::string& split : splits) files.tables.push_back({path, split, "", true});
    if (splits.empty()) (file.fault.empty() ? files.tables : files.others).push_back(file);
  }
}

Files find_files(const fs::path& dir) {
  Files files;
  for (const fs::path& place : {dir, entry_named(dir, {"annotations", "labels"})})
    if (!place.empty()) add_files(files, dir, place, "");
  if ((files.folders = files.tables.empty()))
    for (const fs::path& folder : entries(dir)) {
      const auto is_picture = [](const fs::path& path) { return is_image_name(path.string()); };
      if (any_entry(folder, is_picture) || any_entry(entry_named(folder, {"images"}), is_picture))
        add_files(files, dir, folder, folder.filename().string());
    }
  for (File& file : files.tables)  // annotations.csv beside val_annotations.csv is what is trained on
    if (file.split.empty() && !files.divide()) file.split = "train";
  return files;
}

struct Table : File, CsvTable {};

// --- classes ---

// Those of classes.csv (Roboflow puts the same into every split), else those of all objects, sorted.
std::vector<std::string> find_classes(const Files& files, const std::vector<Table>& tables,
                                      const std::set<std::string>& labels) {
  std::vector<std::string> names(labels.begin(), labels.end());
  if (files.classes.empty()) {
    const auto digits = [](const std::string& s) { return s.find_first_not_of("0123456789") == s.npos; };
    if (std::all_of(names.begin(), names.end(), digits))  // 10 comes after 9
      std::stable_sort(names.begin(), names.end(), [](auto& a, auto& b) { return a.size() < b.size(); });
    return names;
  }
  const fs::path& path = files.classes[0];
  names = read_csv_classes(path);
  for (const fs::path& other : files.classes)
    check(Code::data, read_csv_classes(other) == names, other.string(), ": differs from ", path.string(),
          "; a data set has one list of classes");
  for (const Table& table : tables)
    for (const auto& [name, picture] : table.pictures)
      for (const CsvTable::Object& object : picture.objects)
        if (std::find(names.begin(), names.end(), *object.label) == names.end())
          reject(table.path, object.line,
                 text("class \"", brief(*object.label), "\" is not in ", path.string(),
                      suggestion(*object.label, names), "; add it there or correct it"));
  return names;
}

// --- pictures ---

std::vector<Annotation> read_pictures(const Table& table, const fs::path& dir,
                                      const std::map<std::string, int64_t>& ids) {
  const std::vector<fs::path> folders = picture_folders(table.path, dir, table.split);
  std::map<std::string, Annotation> by_path;  // a.jpg and ./a.jpg are one
  std::set<std::string> moved;
  Missing missing;
  for (const auto& [name, picture] : table.pictures) {
    const auto [path, is_moved] = find_picture(folders, name);
    if (path.empty()) {
      const std::string places = "neither beside this file nor in " + dir.string() + " or its images/";
      missing.add(at_line(table.path, picture.line, "picture \"" + brief(name, 200) + "\" is " + places));
      continue;
    }
    if (is_unread_image_name(path.string()))
      reject(table.path, picture.line, path.string() + " is of a kind that is not read; convert it to .png or .jpg");
    const std::string normal = path.lexically_normal().string();
    if (by_path.count(normal) > 0 && (is_moved || moved.count(normal) > 0))
      reject(table.path, picture.line,
             "\"" + brief(name, 200) + "\" and another picture may both be " + normal +
                 "; put the pictures where their paths say");
    if (is_moved) moved.insert(normal);
    Annotation& a = by_path[normal];
    a.path = path.string(), a.file = table.path.string();
    for (const CsvTable::Object& object : picture.objects) {
      a.lines.push_back(int(object.line));
      a.truths.push_back({ids.at(*object.label), object.box, {}, false});
    }
  }
  missing.check_none(by_path.size(), "correct the path, or remove its lines");
  std::vector<Annotation> all;
  for (auto& [path, a] : by_path) all.push_back(std::move(a)), all.back().id = int64_t(all.size());
  parallel_for(int64_t(all.size()), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Annotation& a = all[size_t(i)];
      const ImageSize size = read_image_size(a.path);
      a.width = size.width, a.height = size.height;
    }
  });
  return all;
}

}  // namespace

bool is_csv(const fs::path& dir) { return !find_files(dir).tables.empty(); }

std::string csv_fault(const fs::path& dir) {
  const Files files = find_files(dir);
  return files.others.empty() ? "" : files.others[0].path.string() + ": " + files.others[0].fault;
}

std::vector<std::string> csv_splits(const fs::path& dir) {
  const Files files = find_files(dir);
  std::set<std::string> names;
  for (const File& file : files.tables) names.insert(file.split);
  return files.divide() ? std::vector<std::string>{} : std::vector<std::string>(names.begin(), names.end());
}

Source read_csv(const DatasetOptions& options) {
  const fs::path dir = options.dir;
  const Files files = find_files(dir);
  for (const File& file : files.others) {
    const auto same = [&](const File& table) { return table.split == file.split; };
    const bool wanted = file.split == options.split && std::none_of(files.tables.begin(), files.tables.end(), same);
    if (wanted || files.tables.empty()) reject(file.path, 1, file.fault);
  }
  check(Code::data, !files.tables.empty(), options.dir, ": has no .csv file of boxes; is it the right folder?");
  std::set<std::string> labels;
  std::vector<Table> tables;
  for (const File& file : files.tables) {
    for (const Table& other : tables)
      check(Code::data, other.split != file.split, file.path.string(), ": is split \"", file.split, "\" as ",
            other.path.string(), " is; rename or remove one");
    tables.push_back({file, read_csv_table(file.path, file.by_column ? file.split : "", labels)});
  }
  const auto table = std::find_if(tables.begin(), tables.end(),
                                  [&](const Table& each) { return files.divide() || each.split == options.split; });
  if (table == tables.end()) unknown_split(options.split, options.dir, csv_splits(dir));
  Source source{table->path.string(), find_classes(files, tables, labels), {}, {}};
  std::map<std::string, int64_t> ids;
  for (const std::string& name : source.classes) {
    source.class_ids.push_back(int64_t(source.class_ids.size()) + 1);
    ids[name] = source.class_ids.back();
  }
  source.annotations = read_pictures(*table, dir, ids);
  if (files.divide()) keep_fraction(source, options.split, options.val_fraction);
  return source;
}

}  // namespace fovea::detail
