// What all formats share: the policy for bad boxes, splits by name, the order of classes, COCO files of any data set.
#include "data/dataset.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <unordered_map>

#include "core/error.h"
#include "core/words.h"
#include "data/json.h"
#include "data/readers.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

constexpr double kRounding = 1;  // pixels that a box may leave the picture by without being called bad

BoxPolicy policy_of(const std::string& name) {
  if (name == "error") return BoxPolicy::error;
  if (name == "clip") return BoxPolicy::clip;
  if (name == "drop") return BoxPolicy::drop;
  fail(Code::usage, "box policy \"" + name + "\": choose error, clip or drop");
}

Box<float> cut(const CocoBox& b, const Annotation& a) {
  const auto side = [](double v, int limit) { return float(std::clamp(v, 0.0, double(limit))); };
  return {side(b.x, a.width), side(b.y, a.height), side(b.x + b.w, a.width), side(b.y + b.h, a.height)};
}

// What is wrong with a box; empty where nothing is.
std::string fault(const CocoBox& b, const Annotation& a) {
  if (!std::isfinite(b.x) || !std::isfinite(b.y) || !std::isfinite(b.w) || !std::isfinite(b.h)) return "is not finite";
  if (!(b.w > 0) || !(b.h > 0)) return "has no area";
  if (b.x < -kRounding || b.y < -kRounding || b.x + b.w > a.width + kRounding || b.y + b.h > a.height + kRounding)
    return text("leaves the picture of ", a.width, " x ", a.height);
  if (!(cut(b, a).area() > 0)) return "has no area inside the picture";  // as floats, or within the rounding beside it
  return "";
}

// "a.xml:12: box 2 of 3 [..] of a.jpg", "train.json: annotation 17: box ...": `source` is the data set's.
std::string box_text(const Annotation& a, size_t i, const std::string& source) {
  const CocoBox& b = a.truths[i].box;
  const std::string place =
      i < a.lines.size() ? text(a.file, ":", a.lines[i]) : text(source, ": annotation ", a.truths[i].id);
  return text(place, ": box ", i + 1, " of ", a.truths.size(), " [", b.x, ", ", b.y, ", ", b.x + b.w, ", ", b.y + b.h,
              "] of ", a.path, " ");
}

void apply_policy(Annotation& a, BoxPolicy policy, const std::unordered_map<int64_t, int>& labels,
                  const std::string& source, Problems& problems) {
  std::vector<CocoGroundTruth> kept;
  for (size_t i = 0; i < a.truths.size(); ++i) {
    const CocoGroundTruth& truth = a.truths[i];
    const CocoBox& b = truth.box;
    const Box<float> box = cut(b, a);
    const std::string what = fault(b, a);
    if (!what.empty()) {
      const bool finite = what != "is not finite";
      const std::string message = box_text(a, i, source) + what;
      if (policy == BoxPolicy::error || (policy == BoxPolicy::clip && !finite))
        fail(Code::data, message + "; correct it, or choose the policy " + (finite ? "clip or drop" : "drop"));
      const bool drop = policy == BoxPolicy::drop || !(box.area() > 0);
      ++(drop ? problems.dropped : problems.clipped);
      if (problems.messages.size() < 20) problems.messages.push_back(message + (drop ? ": dropped" : ": clipped"));
      if (drop) continue;
    }
    kept.push_back(truth);
    if (truth.crowd) {
      a.ignore.push_back(box);
    } else {
      a.boxes.push_back(box);
      a.labels.push_back(labels.at(truth.category));
    }
  }
  a.truths = std::move(kept), a.lines.clear();
}

uint64_t name_hash(const std::string& path) {  // of the file's name without its ending
  const uint64_t h = hash64(fs::path(path).stem().string());
  return (h ^ h >> 32) * 0x9E3779B97F4A7C15;
}

// coco, voc, yolo or csv. COCO itself comes with YOLO's labels beside its own.
std::string kind_of(const std::string& dir, const std::string& format) {
  if (format == "shapes") return "coco";
  if (format == "coco" || format == "voc" || format == "yolo" || format == "csv") return format;
  check(Code::usage, format == "auto", "data format \"", format, "\": choose auto, coco, voc, yolo, csv or shapes");
  if (detail::is_voc(dir)) return "voc";
  if (!detail::coco_splits(dir).empty()) return "coco";
  return detail::is_yolo(dir) ? "yolo" : detail::is_csv(dir) ? "csv" : "coco";
}

detail::Source read(const DatasetOptions& options) {
  const bool files = !options.annotations.empty() || !options.images.empty();
  check(Code::usage, options.val_fraction >= 0 && options.val_fraction <= 1, "val_fraction ", options.val_fraction,
        ": it is a part, 0 to 1");
  if (!files) {
    check(Code::usage, !options.dir.empty(), "no data set was named: give its folder");
    check(Code::data, fs::is_directory(options.dir), options.dir, ": is not a folder; is the path right?");
  }
  const std::string kind = files ? "coco" : kind_of(options.dir, options.format);
  return kind == "voc"    ? detail::read_voc(options)
         : kind == "yolo" ? detail::read_yolo(options)
         : kind == "csv"  ? detail::read_csv(options)
                          : detail::read_coco(options);
}

}  // namespace

std::string Problems::summary() const {
  std::string s;
  const auto add = [&](int64_t n, const char* what) {
    if (n > 0) s += text(s.empty() ? "" : ", ", counted(n, "box"), " ", what);
  };
  add(clipped, "clipped");
  add(dropped, "dropped");
  return s;
}

Dataset::Dataset(std::string name, std::vector<std::string> classes, std::vector<int64_t> class_ids,
                 std::vector<Annotation> annotations, BoxPolicy policy)
    : name_(std::move(name)),
      classes_(std::move(classes)),
      class_ids_(std::move(class_ids)),
      annotations_(std::move(annotations)) {
  check(classes_.size() == class_ids_.size(), "dataset: ", classes_.size(), " classes, ", class_ids_.size(), " ids");
  std::unordered_map<int64_t, int> labels;
  for (size_t k = 0; k < class_ids_.size(); ++k) labels[class_ids_[k]] = int(k);
  for (Annotation& a : annotations_) {
    a.boxes.clear(), a.labels.clear(), a.ignore.clear();
    for (const CocoGroundTruth& t : a.truths)
      check(Code::data, labels.count(t.category) > 0, a.path, ": class ", t.category, " is out of range: there are ",
            classes_.size());
    apply_policy(a, policy, labels, name_, problems_);
  }
}

Sample Dataset::get(int64_t i) const {
  check(i >= 0 && i < size(), "dataset: picture ", i, " of ", size());
  const Annotation& a = annotation(i);
  Sample sample{read_image(a.path), a.boxes, a.labels, a.ignore, a.id, a.path};
  const Image& image = sample.image;
  check(Code::data, image.width == a.width && image.height == a.height, a.path, ": is ", image.width, " x ",
        image.height, " pixels, but its annotations say ", a.width, " x ", a.height,
        "; was it turned or shrunk after they were made?");
  return sample;
}

Dataset Dataset::first(int64_t n) const {
  Dataset some = *this;
  some.annotations_.resize(size_t(std::clamp<int64_t>(n, 0, size())));
  return some;
}

Dataset Dataset::filtered(const std::string& kind) const {
  check(Code::usage, kind == "none" || kind == "empty" || kind == "tiny", "filter \"", kind,
        "\": choose none, empty or tiny");
  Dataset some = *this;
  const float least = kind == "tiny" ? 1 : 0;
  if (kind != "none")
    std::erase_if(some.annotations_, [&](const Annotation& a) {
      return std::none_of(a.boxes.begin(), a.boxes.end(),
                          [&](const Box<float>& b) { return b.width() > least && b.height() > least; });
    });
  return some;
}

Dataset open_dataset(const DatasetOptions& options) {
  const BoxPolicy policy = policy_of(options.policy);
  detail::Source source = read(options);
  check(Code::data, !source.annotations.empty(), source.name, ": holds no pictures",
        options.split.empty() ? "" : " of split \"" + options.split + "\"", "; is it the right folder?");
  check(Code::data, !source.classes.empty(), source.name, ": has no classes; is it annotated?");
  detail::order_classes(source, options.classes);
  return Dataset(source.name, source.classes, source.class_ids, std::move(source.annotations), policy);
}

std::vector<std::string> find_splits(const std::string& dir, const std::string& format) {
  check(Code::data, fs::is_directory(dir), dir, ": is not a folder; is the path right?");
  const std::string kind = kind_of(dir, format);
  std::vector<std::string> splits = kind == "voc"    ? detail::voc_splits(dir)
                                    : kind == "yolo" ? detail::yolo_splits(dir)
                                    : kind == "csv"  ? detail::csv_splits(dir)
                                                     : detail::coco_splits(dir);
  std::erase(splits, "");
  return splits;
}

std::string val_split_of(const std::vector<std::string>& splits) {
  const auto has = [&](const char* name) { return std::find(splits.begin(), splits.end(), name) != splits.end(); };
  if (has("val")) return "val";
  std::vector<std::string> called;
  for (const char* name : {"valid", "validation", "val2017", "dev"})
    if (has(name)) called.push_back(name);
  return called.size() == 1 ? called[0] : "";
}

namespace detail {

fs::path entry_named(const fs::path& dir, std::initializer_list<const char*> names) {
  std::error_code error;
  for (const char* name : names)
    for (const auto& entry : fs::directory_iterator(dir, error))
      if (lowered(entry.path().filename().string()) == name) return entry.path();
  return {};
}

std::string without_folders(const std::string& path) { return path.substr(path.find_last_of("/\\") + 1); }

std::vector<std::string> spellings(const std::string& path) {
  std::string turned = path;
  std::replace(turned.begin(), turned.end(), '\\', '/');
  return turned == path ? std::vector{path} : std::vector{path, turned};
}

std::vector<fs::path> entries(const fs::path& dir) {
  std::vector<fs::path> all;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir, error))
    if (!is_hidden(entry.path().string())) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

std::string ending_of(const fs::path& path) { return lowered(path.extension().string()); }

std::string read_text(const fs::path& path, size_t most) {
  const std::vector<uint8_t> bytes = read_bytes(path.string(), {.most = most});
  std::string all(bytes.begin(), bytes.end());
  if (all.starts_with("\xEF\xBB\xBF")) all.erase(0, 3);
  if (all.find('\n') == all.npos) std::replace(all.begin(), all.end(), '\r', '\n');
  return all;
}

std::vector<std::string> read_lines(const fs::path& path) {
  const std::string all = read_text(path);
  check(Code::data, !is_utf16(all), path.string(), ": is UTF-16; save the file as UTF-8");
  return split(all, '\n');
}

std::string at_line(const fs::path& path, size_t line, const std::string& what) {
  return text(path.string(), ":", line, ": ", what);
}

void reject(const fs::path& path, size_t line, const std::string& what) { fail(Code::data, at_line(path, line, what)); }

void Missing::check_none(size_t found, const std::string& hint) const {
  if (count_ == 0) return;
  const std::string all = count_ > 1 ? text(" (", count_, " of ", found + count_, " pictures are missing)") : "";
  fail(Code::data, text(first_, all, "; ", hint));
}

void keep_fraction(Source& source, const std::string& split, double val_fraction) {
  if (split.empty() || split == "all") return;
  check(Code::usage, split == "train" || split == "val", source.name,
        ": has no splits; it can be divided into \"train\" ", "and \"val\", not \"", split, "\"");
  const auto place = [](const Annotation& a) { return double(name_hash(a.path) >> 11) * 0x1p-53; };
  double low = 1, high = 0;
  for (const Annotation& a : source.annotations) low = std::min(low, place(a)), high = std::max(high, place(a));
  const size_t all = source.annotations.size();
  double border = val_fraction;  // moved to the nearest picture where all of a few are on one side
  if (low < high && border > 0 && border < 1) border = std::clamp(border, std::nextafter(low, 1), high);
  std::erase_if(source.annotations, [&](const Annotation& a) { return (place(a) < border) != (split == "val"); });
  check(Code::data, all == 0 || !source.annotations.empty(), source.name, ": of its ", counted(int64_t(all), "picture"),
        ", none is in \"", split, "\" at a val_fraction of ", val_fraction,
        all == 1 ? "; add pictures" : "; choose one between 0 and 1",
        split == "val" ? ", or an empty data.val_split to train without scoring" : "");
}

void order_classes(Source& source, const std::vector<std::string>& wanted) {
  if (wanted.empty() || wanted == source.classes) return;
  std::vector<int64_t> ids;
  int64_t next = source.class_ids.empty() ? 0 : *std::max_element(source.class_ids.begin(), source.class_ids.end());
  for (const std::string& name : wanted) {
    const auto at = std::find(source.classes.begin(), source.classes.end(), name);
    ids.push_back(at != source.classes.end() ? source.class_ids[size_t(at - source.classes.begin())] : ++next);
  }
  for (const Annotation& a : source.annotations)
    for (const CocoGroundTruth& t : a.truths) {
      if (std::find(ids.begin(), ids.end(), t.category) != ids.end()) continue;
      const auto at = std::find(source.class_ids.begin(), source.class_ids.end(), t.category);
      fail(Code::data,
           text(a.path, ": has an object of class \"", source.classes[size_t(at - source.class_ids.begin())],
                "\", which the ", wanted.size(), " known classes (\"", wanted.front(), "\" ... \"", wanted.back(),
                "\") do not include; use data or weights that fit"));
    }
  source.classes = wanted;
  source.class_ids = std::move(ids);
}

void unknown_split(const std::string& split, const std::string& dir, const std::vector<std::string>& known) {
  fail(Code::usage,
       dir + (split.empty() ? ": name one of its splits: " : ": has no split \"" + split + "\"; there are: ") +
           joined(known));
}

}  // namespace detail

}  // namespace fovea
