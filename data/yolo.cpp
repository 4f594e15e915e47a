// YOLO data sets, in the layouts that they come in (names of folders in any case):
//   DIR/images/SPLIT/*.jpg + DIR/labels/SPLIT/*.txt    Ultralytics
//   DIR/SPLIT/images/*.jpg + DIR/SPLIT/labels/*.txt    Roboflow
//   DIR/images/*.jpg + DIR/labels/*.txt                without splits
//   DIR/*.jpg + DIR/*.txt, or both in a folder         labelImg, CVAT (obj_train_data), darknet (a folder a split)
//   DIR/train.txt + DIR/val.txt, lists of pictures     darknet; also what train: and val: of a YAML file name
// Folders within a split's images/ are those within its labels/. Of a list, the labels of images/a.jpg are
// labels/a.txt, else a.txt beside it.
// A line is an object: "class x y w h" (centre and size) or "class x1 y1 x2 y2 x3 y3 ..." (an outline, which is boxed),
// in parts of the upright picture. Points after a box are not read where DIR/*.yaml has the `kpt_shape` of poses. A
// picture without a label file holds no objects. The names of the classes are `names` of DIR/*.yaml, or the lines of a
// file such as classes.txt.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/threads.h"
#include "core/words.h"
#include "data/json.h"
#include "data/readers.h"

namespace fovea::detail {
namespace {

namespace fs = std::filesystem;

// --- the names of the classes ---

struct Names {
  fs::path path;
  std::vector<std::string> names;
};

// f(place, character) of what is in no quotes, which a word begins with: none is in it's.
template <class F> void unquoted(const std::string& line, F f) {
  char quote = 0, before = ',';  // not counting spaces
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (!quote) f(i, c);
    const bool begins = std::string_view("[{,:-").find(before) != std::string_view::npos;
    if (quote) quote = c == quote ? 0 : quote;
    else if (begins && (c == '"' || c == '\'')) quote = c;
    if (c != ' ') before = c;
  }
}
std::string without_comment(const std::string& line) {  // of YAML: a # after a space
  size_t end = line.size();
  unquoted(line, [&](size_t i, char c) {
    if (c == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) end = std::min(end, i);
  });
  return trimmed(line.substr(0, end));
}
std::vector<std::string> items(const std::string& list) {  // between commas
  std::vector<std::string> all;
  size_t from = 0;
  unquoted(list + ",", [&](size_t i, char c) {
    if (c == ',') all.push_back(trimmed(list.substr(from, i - from))), from = i + 1;
  });
  if (from <= list.size()) all.push_back(trimmed(list.substr(from)));  // from a quote on that is never closed
  if (!all.empty() && all.back().empty()) all.pop_back();              // a, b,
  return all;
}
bool numbered(const std::string& pair, int64_t& number, std::string& name) {  // 0: a
  const size_t colon = pair.find(':');
  return colon != pair.npos && read_number(trimmed(pair.substr(0, colon)), number) &&
         (name = trimmed(pair.substr(colon + 1)), true);
}

// `names` of a YAML file: [a, "b"], {0: a, 1: b}, or either as lines of their own; none where it has no `names`. No
// other YAML is understood.
std::vector<std::string> yaml_names(const fs::path& path) {
  const std::vector<std::string> lines = read_lines(path);
  size_t at = 0;
  while (at < lines.size() && !lines[at].starts_with("names:")) ++at;
  if (at == lines.size()) return {};
  const size_t first = at + 1;
  std::map<int64_t, std::string> names;
  const auto put = [&](int64_t number, std::string name) {
    const bool quoted = name.size() > 1 && (name[0] == '"' || name[0] == '\'') && name.back() == name[0];
    const char quote = quoted ? name[0] : '\0';
    if (!quoted && (name.starts_with('"') || name.starts_with('\'')))
      reject(path, at + 1, brief(name) + " begins with a quote that its end does not close; close it, or remove it");
    if (quoted) name = name.substr(1, name.size() - 2);
    for (size_t at = 0; quote == '\'' && (at = name.find("''", at)) != name.npos; ++at) name.erase(at, 1);
    if (!names.emplace(number, name).second) reject(path, at + 1, text("two names have the number ", number));
  };
  int64_t number = 0;
  std::string name, list = without_comment(lines[at].substr(6));
  if (list.empty()) {
    for (++at; at < lines.size(); ++at) {
      const std::string line = without_comment(lines[at]);
      if (line.starts_with("- ")) put(int64_t(names.size()), trimmed(line.substr(2)));
      else if (numbered(line, number, name)) put(number, name);
      else if (!line.empty()) break;  // the next key
    }
  } else {
    const char end = list[0] == '[' ? ']' : list[0] == '{' ? '}' : 0;
    while (end && list.back() != end && ++at < lines.size()) list += " " + without_comment(lines[at]);
    if (!end || list.back() != end)
      reject(path, first, "`names` is no list; write the names into classes.txt instead, one a line");
    at = first - 1;
    for (const std::string& item : items(list.substr(1, list.size() - 2))) {
      if (end == ']') put(int64_t(names.size()), item);
      else if (numbered(item, number, name)) put(number, name);
      else reject(path, first, "`names` holds \"" + item + "\", which is no number: name");
    }
  }
  std::vector<std::string> all;
  for (auto& [i, each] : names) {
    if (i != int64_t(all.size())) reject(path, first, text("`names` has no name for the number ", all.size()));
    all.push_back(each);
  }
  return all;
}

bool is_yaml(const fs::path& path) {
  const std::string end = ending_of(path);
  return end == ".yaml" || end == ".yml";
}

bool is_names_file(const fs::path& path) {
  const std::string name = lowered(path.filename().string());
  return name == "classes.txt" || name == "_darknet.labels" || path.extension() == ".names";
}

Names read_names(const fs::path& path) {
  std::vector<std::string> names = read_lines(path);
  while (!names.empty() && names.back().empty()) names.pop_back();
  return {path, names};
}

// The first that is found in DIR, or in folders in it, which then must agree; empty without one.
Names find_names(const fs::path& dir) {
  const std::vector<fs::path> inside = entries(dir);
  for (const fs::path& path : inside)
    if (is_yaml(path))
      if (std::vector<std::string> names = yaml_names(path); !names.empty()) return {path, names};
  if (const auto file = std::find_if(inside.begin(), inside.end(), is_names_file); file != inside.end())
    return read_names(*file);
  Names found;
  for (const fs::path& folder : inside)
    for (const fs::path& path : entries(folder)) {
      if (!is_names_file(path)) continue;
      const Names other = read_names(path);
      if (found.path.empty()) found = other;
      check(Code::data, other.names == found.names, path.string(), ": differs from ", found.path.string(),
            "; a data set has one list of classes: write it into ", (dir / "classes.txt").string());
    }
  return found;
}

// Whether points follow each box; those of an outline look the same.
bool has_poses(const fs::path& dir) {
  for (const fs::path& path : entries(dir))
    if (is_yaml(path))
      for (const std::string& line : read_lines(path))
        if (line.starts_with("kpt_shape:")) return true;
  return false;
}

void check_names(const Names& found, const fs::path& dir) {
  check(Code::data, !found.names.empty(), found.path.empty() ? dir.string() : found.path.string(),
        ": has no names of classes; write them into ", (dir / "classes.txt").string(), ", one a line, class 0 first");
  std::set<std::string> seen;
  for (const std::string& name : found.names) {
    check(Code::data, !name.empty(), found.path.string(), ": class ", seen.size(), " has no name");
    check(Code::data, is_utf8(name), found.path.string(), ": a name is not UTF-8; save the file as UTF-8");
    check(Code::data, seen.insert(name).second, found.path.string(), ": two classes are called \"", name,
          "\"; give them two names");
  }
}

// --- folders ---

struct Place {
  fs::path images, labels;
  fs::path list{};  // of pictures, instead of the two
  bool empty() const { return images.empty() && list.empty(); }
};

bool is_label(const fs::path& path) { return ending_of(path) == ".txt" && !is_names_file(path); }

bool is_picture(const fs::path& path) { return is_image_name(path.string()); }

// Also a link to what is not, and what this user may not see: reading it is then an error.
bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::symlink_status(path, error).type() != fs::file_type::not_found;
}
// a.txt of a.jpg, or a.TXT where that is there.
fs::path label_file(fs::path path) {
  const fs::path upper = fs::path(path).replace_extension(".TXT");
  return is_there(path.replace_extension(".txt")) || !is_there(upper) ? path : upper;
}
// Of a folder without splits: pictures, and label files in a folder of their own or beside them. Both are empty where
// it is none.
Place place_in(const fs::path& dir) {
  const fs::path labels = entry_named(dir, {"labels"});
  std::error_code error;
  fs::directory_iterator(labels, error);
  check(Code::data, labels.empty() || !error || error == std::errc::not_a_directory, labels.string(),
        ": cannot be opened: ", error.message());
  for (const fs::path& images : {entry_named(dir, {"images", "imgs", "img", "jpegimages", "obj_train_data"}), dir}) {
    if (images.empty() || !any_entry(images, is_picture)) continue;
    if (!labels.empty() && any_entry(labels, is_label)) return {images, labels};
    const auto labelled = [](const fs::path& path) {  // a README.txt is no label
      return is_picture(path) && is_file(label_file(path));
    };
    if (any_entry(images, labelled)) return {images, images};
  }
  return {};
}
// By name, without hidden ones. What links lead to twice, or in a circle, is found once.
std::vector<fs::path> files_below(const fs::path& root) {
  std::vector<fs::path> files, folders{root};
  std::set<fs::path> seen;
  std::error_code error;
  while (!folders.empty()) {
    std::vector<fs::path> next;
    for (const fs::path& folder : folders) {
      if (!seen.insert(fs::canonical(folder, error)).second) continue;
      for (const auto& entry : fs::directory_iterator(folder, error))
        if (!is_hidden(entry.path().string())) (entry.is_directory(error) ? next : files).push_back(entry.path());
    }
    const auto is_real = [](const fs::path& path) { return !fs::is_symlink(path); };
    std::sort(next.begin(), next.end());
    std::stable_partition(next.begin(), next.end(), is_real);  // which then has its own name
    folders = std::move(next);
  }
  std::sort(files.begin(), files.end());
  return files;
}
bool any_below(const fs::path& dir, bool (*is)(const fs::path&)) {
  if (any_entry(dir, is)) return true;
  const std::vector<fs::path> files = files_below(dir);
  return std::any_of(files.begin(), files.end(), is);
}
// As place_in(), of a split's folder, whose pictures may be in folders within its images/.
Place place_below(const fs::path& dir) {
  if (const Place place = place_in(dir); !place.empty()) return place;
  const fs::path images = entry_named(dir, {"images"}), labels = entry_named(dir, {"labels"});
  const bool both = !images.empty() && !labels.empty() && any_below(images, is_picture) && any_below(labels, is_label);
  return both ? Place{images, labels} : Place{};
}
std::map<std::string, Place> split_places(const fs::path& dir) {
  std::map<std::string, Place> places;
  const fs::path labels = entry_named(dir, {"labels"});
  for (const fs::path& folder : entries(entry_named(dir, {"images"})))
    if (const fs::path name = folder.filename(); is_folder(folder) && any_below(labels / name, is_label))
      places[name.string()] = {folder, labels / name};
  for (const fs::path& folder : entries(dir))
    if (is_folder(folder) && folder != labels && folder.filename() != "obj_train_data")
      if (const Place place = place_below(folder); !place.empty()) places.emplace(folder.filename().string(), place);
  return places;
}

// --- lists of pictures ---

std::string first_of(const fs::path& list) {
  const std::vector<std::string> lines = read_lines(list);
  const auto first = std::find_if(lines.begin(), lines.end(), [](const std::string& line) { return !line.empty(); });
  return first == lines.end() ? "" : *first;
}
bool is_list(const fs::path& path) {  // train.txt may as well be the labels of train.jpg
  const std::string first = first_of(path);
  return is_image_name(first) || is_unread_image_name(first);
}
// Empty where there is no such file. The folder may have had another name where the list was written:
// data/obj_train_data/a.jpg.
fs::path listed_picture(const fs::path& list, const fs::path& dir, const std::string& line) {
  for (const std::string& name : spellings(line))
    for (const fs::path& path : {dir / name, list.parent_path() / name, dir / name.substr(name.find('/') + 1)})
      if (is_file(path)) return path;
  return {};
}

// The .txt files that a YAML file names, and those that are called as a split where no folder is.
void add_lists(const fs::path& dir, std::map<std::string, Place>& splits) {
  for (const fs::path& path : entries(dir)) {
    const std::string stem = path.stem().string(), name = lowered(stem);
    const bool called = name == "train" || name == "val" || name == "valid" || name == "test";
    if (ending_of(path) == ".txt" && called && is_list(path)) splits.emplace(stem, Place{{}, {}, path});
    if (!is_yaml(path)) continue;
    for (const std::string& line : read_lines(path))
      for (const std::string key : {"train", "val", "test"}) {
        if (!line.starts_with(key + ":")) continue;
        std::string value = without_comment(line.substr(key.size() + 1));
        std::erase_if(value, [](char c) { return c == '"' || c == '\''; });
        for (const fs::path& list : {dir / fs::path(value).filename(), dir / value})
          if (list.extension() == ".txt" && is_file(list)) splits[key] = {{}, {}, list};
      }
  }
}

// A folder that a list takes its pictures from is no split beside those of the lists, unless it is called as one.
void drop_listed(const fs::path& dir, std::map<std::string, Place>& splits) {
  std::vector<fs::path> folders;
  for (auto& [name, place] : splits)
    if (const fs::path picture = place.list.empty() ? "" : listed_picture(place.list, dir, first_of(place.list));
        !picture.empty())
      folders.push_back(fs::canonical(picture.parent_path()));
  std::erase_if(splits, [&](const auto& split) {
    const std::string name = lowered(split.first);
    if (!split.second.list.empty() || name.starts_with("train") || name.starts_with("val") || name.starts_with("test"))
      return false;
    const fs::path images = fs::canonical(split.second.images);
    return std::any_of(folders.begin(), folders.end(),
                       [&](const fs::path& folder) { return *folder.lexically_relative(images).begin() != ".."; });
  });
}

struct Layout {
  std::map<std::string, Place> splits;
  Place whole;  // where there are no splits
};
Layout layout_of(const fs::path& dir) {
  Layout layout{{}, place_in(dir)};
  if (layout.whole.empty()) layout.splits = split_places(dir);
  add_lists(dir, layout.splits);
  drop_listed(dir, layout.splits);
  if (layout.splits.size() == 1 && !layout.splits.begin()->second.list.empty()) {  // all pictures: CVAT's train.txt
    layout.whole = layout.splits.begin()->second;
    layout.splits.clear();
  }
  return layout;
}

// --- labels ---

struct Pair {
  fs::path picture, labels;  // which need not exist
};

std::vector<Pair> pairs_in(const Place& place) {
  const bool beside = place.labels == place.images;
  const bool trees = !beside && place.labels.parent_path() != place.images;  // of folders, with one shape
  const auto files = [&](const fs::path& dir) { return trees ? files_below(dir) : entries(dir); };
  std::vector<Pair> pairs;
  std::set<fs::path> wanted;
  for (const fs::path& path : files(place.images)) {
    check(Code::data, !is_unread_image_name(path.string()), path.string(),
          ": a picture of a kind that is not read; convert it to .png or .jpg, or leave it out");
    if (!is_picture(path)) continue;
    const fs::path name = trees ? path.lexically_relative(place.images) : path.filename();
    pairs.push_back({path, label_file(place.labels / name)});
    wanted.insert(fs::path(pairs.back().labels).replace_extension(".txt"));
  }
  Missing missing;
  for (const fs::path& path : files(place.labels))
    if (!beside && is_label(path) && !wanted.count(fs::path(path).replace_extension(".txt")))
      missing.add(text(path.string(), ": its picture is not in ", place.images.string()));
  missing.check_none(pairs.size(), "is the folder complete?");
  return pairs;
}

// The label file of a listed picture: the last images/ in its path is labels/, or it is beside the picture.
fs::path labels_of(const fs::path& picture) {
  std::vector<fs::path> parts(picture.begin(), picture.end());
  const auto images = std::find(parts.rbegin(), parts.rend(), "images");
  if (images != parts.rend()) *images = "labels";
  fs::path labels;
  for (const fs::path& part : parts) labels /= part;
  labels = label_file(labels);
  const fs::path beside = label_file(picture);
  return is_there(labels) || !is_there(beside) ? labels : beside;
}

std::vector<Pair> pairs_of(const fs::path& list, const fs::path& dir) {
  std::map<fs::path, Pair> pairs;  // by name, each picture once
  const std::vector<std::string> lines = read_lines(list);
  Missing missing;
  bool labelled = false;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const std::string name = brief(lines[i], 200);
    if (!is_image_name(lines[i]))
      reject(list, i + 1, "\"" + name + "\" is no picture of a kind that is read; remove the line");
    const fs::path path = listed_picture(list, dir, lines[i]);
    if (path.empty()) {
      missing.add(at_line(list, i + 1, "\"" + name + "\" does not exist"));
      continue;
    }
    const fs::path labels = labels_of(path);
    labelled = labelled || is_there(labels);
    pairs.emplace(path.lexically_normal(), Pair{path, labels});
  }
  missing.check_none(pairs.size(), "write its path from " + dir.string() + " on, or remove the line");
  check(Code::data, pairs.empty() || labelled, list.string(), ": none of its pictures has a label file, such as ",
        pairs.empty() ? "" : pairs.begin()->second.labels.string(), "; are they in labels/, or beside the pictures?");
  std::vector<Pair> all;
  for (const auto& [path, pair] : pairs) all.push_back(pair);
  return all;
}

struct Object {
  int64_t label;
  CocoBox box;  // in parts of the picture
};

struct LabelKind {
  int64_t classes;
  bool poses;
};

Object read_object(const fs::path& path, size_t line, const std::string& words, const LabelKind& kind) {
  std::istringstream in(words);
  std::vector<double> v;
  for (std::string word; in >> word;) {
    double number = 0;
    if (!read_number(word, number)) reject(path, line, "\"" + brief(word) + "\" is no number");
    v.push_back(number);
  }
  if (kind.poses && v.size() > 5) v.resize(5);
  if (v.size() < 5 || v.size() % 2 == 0)
    reject(path, line, text("has ", v.size(), " numbers; \"class x y w h\" are five, an outline has two a corner"));
  if (!(v[0] >= 0 && v[0] < double(kind.classes)) || v[0] != std::floor(v[0]))
    reject(path, line, text("class ", v[0], " is out of range: there are names for 0 to ", kind.classes - 1));
  const auto label = int64_t(v[0]);
  for (size_t i = 1; i < v.size(); ++i)
    if (v[i] > 2) reject(path, line, text(v[i], " is no part of the picture, 0 to 1; were pixels written?"));
  if (v.size() == 5) return {label, {v[1] - v[3] / 2, v[2] - v[4] / 2, v[3], v[4]}};
  double low[2] = {v[1], v[2]}, high[2] = {v[1], v[2]};
  for (size_t i = 3; i < v.size(); ++i)
    low[1 - i % 2] = std::min(low[1 - i % 2], v[i]), high[1 - i % 2] = std::max(high[1 - i % 2], v[i]);
  if (std::any_of(v.begin(), v.end(), [](double part) { return std::isnan(part); }))
    low[0] = NAN;  // which is then not finite; min() and max() pass over a corner's
  return {label, {low[0], low[1], high[0] - low[0], high[1] - low[1]}};
}

Annotation read_picture(const Pair& pair, const LabelKind& kind) {
  Annotation a;
  const ImageSize size = read_image_size(pair.picture.string());
  a.path = pair.picture.string(), a.width = size.width, a.height = size.height;
  const fs::path& file = pair.labels;
  a.file = file.string();
  if (!is_there(file)) return a;
  const std::vector<std::string> lines = read_lines(file);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const auto [label, box] = read_object(file, i + 1, lines[i], kind);
    a.lines.push_back(int(i + 1));
    a.truths.push_back({label + 1, {box.x * a.width, box.y * a.height, box.w * a.width, box.h * a.height}, {}, false});
  }
  return a;
}

std::vector<Annotation> read_pairs(const std::vector<Pair>& pairs, const LabelKind& kind) {
  std::set<fs::path> labels;
  for (const Pair& pair : pairs)
    check(Code::data, labels.insert(pair.labels).second, pair.picture.string(), ": more than one picture is called ",
          pair.picture.stem().string(), ", which one label file cannot tell apart; rename one");
  std::vector<Annotation> all(pairs.size());
  parallel_for(int64_t(pairs.size()), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      all[size_t(i)] = read_picture(pairs[size_t(i)], kind);
      all[size_t(i)].id = i + 1;
    }
  });
  return all;
}

}  // namespace

bool is_yolo(const fs::path& dir) {
  const Layout layout = layout_of(dir);
  return !layout.whole.empty() || !layout.splits.empty();
}

std::vector<std::string> yolo_splits(const fs::path& dir) {
  std::vector<std::string> names;
  for (auto& [name, place] : layout_of(dir).splits) names.push_back(name);
  return names;
}

Source read_yolo(const DatasetOptions& options) {
  const fs::path dir = options.dir;
  const Layout layout = layout_of(dir);
  const bool divide = layout.splits.empty();
  const auto at = layout.splits.find(options.split);
  check(Code::data, !divide || !layout.whole.empty(), options.dir,
        ": has no pictures with label files (.txt); is it a YOLO folder?");
  if (!divide && at == layout.splits.end()) unknown_split(options.split, options.dir, yolo_splits(dir));
  const Place& place = divide ? layout.whole : at->second;
  const Names found = find_names(dir);
  check_names(found, dir);
  const std::string name = place.list.empty() ? place.images.string() : place.list.string();
  Source source{divide ? options.dir : name, found.names, {}, {}};
  for (size_t k = 1; k <= found.names.size(); ++k) source.class_ids.push_back(int64_t(k));
  const std::vector<Pair> pairs = place.list.empty() ? pairs_in(place) : pairs_of(place.list, dir);
  source.annotations = read_pairs(pairs, {int64_t(found.names.size()), has_poses(dir)});
  if (divide) keep_fraction(source, options.split, options.val_fraction);
  return source;
}

}  // namespace fovea::detail
