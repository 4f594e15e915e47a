// PASCAL VOC data sets, in the layouts that they come in (names of folders in any case):
//   DIR/Annotations/*.xml + DIR/JPEGImages/ + DIR/ImageSets/Main/SPLIT.txt     VOC itself
//   DIR/annotations/*.xml + DIR/images/                                        without splits
//   DIR/SPLIT/*.xml + DIR/SPLIT/*.jpg, or folders in DIR/SPLIT                 Roboflow
// A picture without an XML file is not labelled, so it is left out; one whose XML has no objects is empty.
#include <algorithm>
#include <filesystem>
#include <map>
#include <pugixml.hpp>
#include <set>

#include "core/error.h"
#include "core/threads.h"
#include "core/words.h"
#include "data/json.h"
#include "data/readers.h"

namespace fovea::detail {
namespace {

namespace fs = std::filesystem;

// Hidden files are other programs': macOS puts ._a.xml beside a.xml where a disk has no place for its attributes.
bool is_xml(const fs::path& path) { return ending_of(path) == ".xml" && !is_hidden(path); }

fs::path xml_folder(const fs::path& dir) {  // empty where there is none
  const fs::path folder = entry_named(dir, {"annotations", "xml", "labels"});
  if (!folder.empty() && any_entry(folder, is_xml)) return folder;
  return any_entry(dir, is_xml) ? dir : fs::path();
}

fs::path set_folder(const fs::path& dir) {  // of SPLIT.txt
  const fs::path sets = entry_named(dir, {"imagesets"}), main = entry_named(sets, {"main"});
  return main.empty() ? sets : main;
}

struct Object {
  std::string name;
  CocoBox box;  // corners as in the file until the data set's convention is known: w, h are x2, y2
  bool difficult = false;
  int line = 0;
};

struct File {
  fs::path path;
  int width = 0, height = 0;
  std::string filename;  // of the picture, as the XML says
  std::vector<Object> objects;
};

class Parser {
 public:
  explicit Parser(const fs::path& path) : path_(path.string()), bytes_(read_bytes(path_)) {
    const pugi::xml_parse_result result = document_.load_buffer(bytes_.data(), bytes_.size());
    if (!result) reject(result.offset, text("not valid XML: ", result.description(), "; is it cut off?"));
  }
  File parse() const {
    const pugi::xml_node root = document_.child("annotation");
    if (!root) reject(0, "has no <annotation>; is it a VOC file?");
    const pugi::xml_node size = root.child("size");
    File file{path_,
              size.child("width").text().as_int(),
              size.child("height").text().as_int(),
              root.child("filename").text().as_string(),
              {}};
    const bool unknown = file.width == 0 && file.height == 0;  // some programs leave it out, or so: see read_voc
    if (!unknown && (file.width < 1 || file.height < 1))
      reject(size.offset_debug(), text("its <size> says ", file.width, " x ", file.height, "; correct it"));
    for (const pugi::xml_node object : root.children("object")) file.objects.push_back(read_object(object));
    return file;
  }

 private:
  int line_of(std::ptrdiff_t offset) const {
    const auto end = bytes_.begin() + std::clamp<std::ptrdiff_t>(offset, 0, std::ptrdiff_t(bytes_.size()));
    return int(1 + std::count(bytes_.begin(), end, '\n'));
  }
  [[noreturn]] void reject(std::ptrdiff_t offset, const std::string& what) const {
    fail(Code::data, text(path_, ":", line_of(offset), ": ", what));
  }
  Object read_object(const pugi::xml_node& node) const {
    Object object;
    object.name = trimmed(node.child("name").text().as_string());
    const std::ptrdiff_t at = node.offset_debug();
    if (object.name.empty()) reject(at, "an <object> has no <name>");
    if (object.name.find('\n') != std::string::npos) reject(at, "an <object>'s <name> holds a line break; remove it");
    if (!is_utf8(object.name))
      reject(at, "an <object>'s <name> is not UTF-8; save the file as UTF-8, or say its encoding in the first line");
    const std::string mark = trimmed(node.child("difficult").text().as_string());
    object.difficult = !mark.empty() && std::string_view("1tTyY").find(mark[0]) != std::string_view::npos;  // 1 or True
    const pugi::xml_node box = node.child("bndbox");
    if (!box) reject(at, "object \"" + object.name + "\" has no <bndbox>");
    const auto side = [&](const char* name) {
      const std::string value = trimmed(box.child(name).text().as_string());
      double number = 0;
      if (!read_number(std::string_view(value).substr(value.starts_with('+')), number))  // 1,5 is no 1
        reject(box.offset_debug(), text("object \"", object.name, "\" has <", name, "> \"", value, "\", no number"));
      return number;
    };
    object.line = line_of(box.offset_debug());
    object.box = {side("xmin"), side("ymin"), side("xmax"), side("ymax")};
    return object;
  }

  std::string path_;
  std::vector<uint8_t> bytes_;
  pugi::xml_document document_;
};

std::vector<File> parse_folder(const fs::path& folder) {
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder))
    if (is_xml(entry.path())) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  std::vector<File> files(paths.size());
  parallel_for(int64_t(paths.size()), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) files[size_t(i)] = Parser(paths[size_t(i)]).parse();
  });
  return files;
}

// The devkit counts pixels from 1, and xmax is the last one inside: edges are xmin - 1 and xmax. Programs that count
// from 0 write edges. One coordinate below 1 anywhere in the data set tells the two apart.
double first_pixel(const std::vector<File>& files) {
  for (const File& file : files)
    for (const Object& object : file.objects)
      if ((object.box.x >= 0 && object.box.x < 1) || (object.box.y >= 0 && object.box.y < 1)) return 0;
  return 1;
}

// "2008_000008 -1" without its mark: 1, -1 or 0, for a picture with the class, without it, or with a difficult one.
std::string without_mark(const std::string& name) {
  const size_t at = name.find_last_of(" \t");
  const std::string mark = at == name.npos ? "" : name.substr(at + 1);
  return mark == "1" || mark == "-1" || mark == "0" ? trimmed(name.substr(0, at)) : name;
}

struct Pictures {  // of a folder: by name without its ending, and by whole name
  std::multimap<std::string, fs::path> by_stem;
  std::map<std::string, fs::path> by_name;
  explicit Pictures(const fs::path& folder) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (!is_image_name(entry.path().string())) continue;
      by_stem.emplace(entry.path().stem().string(), entry.path());
      by_name[entry.path().filename().string()] = entry.path();
    }
  }
  fs::path find(const File& file) const {  // empty where there is none
    const std::string stem = file.path.stem().string();
    const auto named = by_name.find(fs::path(file.filename).filename().string());
    if (named != by_name.end() && named->second.stem() == stem) return named->second;
    check(Code::data, by_stem.count(stem) <= 1, file.path.string(), ": more than one picture is called ", stem,
          "; write the right one's name into <filename>");
    if (const auto at = by_stem.find(stem); at != by_stem.end()) return at->second;
    return named != by_name.end() ? named->second : fs::path();
  }
};

// `first`: the number of the first pixel.
std::vector<Annotation> annotate(const std::vector<File>& files, const Pictures& pictures,
                                 const std::map<std::string, int64_t>& ids, double first) {
  std::vector<Annotation> all;
  Missing missing;
  for (const File& file : files) {
    Annotation a;
    a.path = pictures.find(file).string();
    a.file = file.path.string();
    if (a.path.empty()) {
      const std::string name = file.path.stem().string() + ".jpg";
      missing.add(text(a.file, ": its picture (", name, " or \"", file.filename, "\") does not exist"));
      continue;
    }
    a.id = int64_t(all.size()) + 1, a.width = file.width, a.height = file.height;
    if (a.width == 0) {
      const ImageSize size = read_image_size(a.path);
      a.width = size.width, a.height = size.height;
    }
    // A point is a slip of the mouse, not one pixel.
    const auto end = [&](double low, double high) { return high > low ? high : std::min(high, low - first); };
    for (const auto& [name, box, difficult, line] : file.objects) {
      a.lines.push_back(line);
      a.truths.push_back(
          {ids.at(name), coco_box(box.x - first, box.y - first, end(box.x, box.w), end(box.y, box.h)), {}, difficult});
    }
    all.push_back(std::move(a));
  }
  missing.check_none(all.size(), "is the folder of pictures complete?");
  return all;
}

void select(std::vector<File>& files, const fs::path& list) {  // those that the split file names, in name order
  std::map<std::string, const File*> by_name;
  for (const File& file : files) by_name[file.path.stem().string()] = &file;
  std::set<std::string> wanted;
  int line = 0;
  for (const std::string& name : read_lines(list)) {  // names with or without a mark
    ++line;
    if (name.empty()) continue;
    const auto stem_of = [](const std::string& s) { return is_image_name(s) ? fs::path(s).stem().string() : s; };
    std::string stem = stem_of(name);
    if (by_name.count(stem) == 0) stem = stem_of(without_mark(name));
    check(Code::data, by_name.count(stem) > 0, list.string(), ":", line, ": \"", name,
          "\" has no annotation file; add it or remove the line");
    wanted.insert(stem);
  }
  std::erase_if(files, [&](const File& file) { return wanted.count(file.path.stem().string()) == 0; });
}

std::vector<std::string> split_folders(const fs::path& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error))
    if (is_folder(entry) && !is_hidden(entry.path()) && !xml_folder(entry.path()).empty()) {  // .idea is none
      const std::string name = entry.path().filename().string();
      if (entry.path() != xml_folder(dir)) names.push_back(name);
    }
  std::sort(names.begin(), names.end());
  return names;
}

std::map<std::string, fs::path> split_files(const fs::path& dir) {  // by name
  std::map<std::string, fs::path> files;
  for (const fs::path& path : entries(set_folder(dir)))
    if (ending_of(path) == ".txt") files[path.stem().string()] = path;
  std::map<std::string, fs::path> all = files;
  std::erase_if(files, [&](const auto& file) {  // aeroplane_train.txt beside train.txt is of one class
    const size_t bar = file.first.rfind('_');
    return bar != std::string::npos && all.count(file.first.substr(bar + 1)) > 0;
  });
  return files;
}

}  // namespace

bool is_voc(const fs::path& dir) { return !xml_folder(dir).empty() || !split_folders(dir).empty(); }

std::vector<std::string> voc_splits(const fs::path& dir) {
  if (xml_folder(dir).empty()) return split_folders(dir);
  std::vector<std::string> names;
  for (auto& [name, path] : split_files(dir)) names.push_back(name);
  return names;
}

Source read_voc(const DatasetOptions& options) {
  const fs::path dir = options.dir;
  const bool folders = xml_folder(dir).empty();  // DIR/SPLIT/ holds each split
  const std::vector<std::string> known = voc_splits(dir);
  check(Code::data, !folders || !known.empty(), options.dir,
        ": has no Annotations/ with XML files; is it a VOC folder?");
  const bool whole = options.split.empty() || options.split == "all";
  if (!known.empty() && std::find(known.begin(), known.end(), options.split) == known.end() && (folders || !whole)) {
    for (const std::string& name : known)  // VOCdevkit, where VOCdevkit/VOC2007 is meant
      check(Code::data, !folders || set_folder(dir / name).empty(), options.dir, ": holds whole VOC folders, with ",
            "splits of their own; name one, such as ", (dir / name).string());
    unknown_split(options.split, options.dir, known);
  }
  std::vector<File> files, all;  // the classes are those of all splits, so that their order is the same in each
  if (folders) {
    for (const std::string& name : known) {
      std::vector<File> part = parse_folder(xml_folder(dir / name));
      if (name == options.split) files = part;
      all.insert(all.end(), part.begin(), part.end());
    }
  } else {
    all = files = parse_folder(xml_folder(dir));
    if (!known.empty() && !whole) select(files, split_files(dir).at(options.split));
  }
  Source source{folders ? (dir / options.split).string() : options.dir, {}, {}, {}};
  std::map<std::string, int64_t> ids;
  for (const File& file : all)
    for (const Object& object : file.objects) ids[object.name] = 0;
  for (auto& [name, id] : ids) {
    source.classes.push_back(name);
    source.class_ids.push_back(id = int64_t(source.classes.size()));
  }
  const fs::path base = folders ? dir / options.split : dir;
  const fs::path images = entry_named(base, {"jpegimages", "images", "imgs", "img"});
  source.annotations = annotate(files, Pictures(images.empty() ? xml_folder(base) : images), ids, first_pixel(all));
  if (known.empty()) keep_fraction(source, options.split, options.val_fraction);
  return source;
}

}  // namespace fovea::detail
