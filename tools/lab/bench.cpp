// The two profiles, quick and full: the toy preset on one kind of shape at 96 pixels, or on three at 128.
#include "tools/lab/bench.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "data/augment.h"
#include "data/shapes.h"
#include "tools/command.h"

namespace fovea::lab {
namespace {

// Everything is trained from scratch; the schedule is short, so the averaged weights forget quickly.
const Keys kCommon = {{"preset", "toy"},     {"eval.every", "0"},    {"train.warmup", "30"},
                      {"train.ema", "0.95"}, {"train.threads", "0"}, {"data.group_by_aspect", "true"}};
const Keys kQuick = {
    {"train.steps", "300"}, {"data.short_side", "96"}, {"data.max_side", "96"}, {"model.channels", "32"}};
const Keys kFull = {{"train.steps", "1200"}, {"data.short_side", "128"}, {"data.max_side", "128"}};
const Keys kPhotographs = {{"data.short_side", "192"}, {"data.max_side", "256"}};  // of --data, after the profile

ShapesOptions shapes(bool quick, bool rare = false) {
  if (rare) return {.train = 1200, .val = 200, .size = 128, .classes = 8, .empty = 0.3, .max_objects = 1};
  if (quick) return {.train = 300, .val = 100, .size = 96, .classes = 1};
  return {.train = 1200, .val = 200, .size = 128, .classes = 3};
}

}  // namespace

std::string Bench::profile() const {
  const std::string scale = options.quick ? "quick " : "full ";
  if (options.data.empty()) return scale + "shapes";
  const auto folder = std::filesystem::absolute(options.data + "/").lexically_normal();
  return scale + folder.parent_path().string();  // whole, since a folder may be called shapes; without a / at the end
}

std::string Bench::described(const Keys& keys) const {
  const Config c = config({}, 0);
  const bool sgd = config(keys, 0).train.optimizer == "sgd";
  const ShapesOptions s = shapes(options.quick);
  const std::string data = options.data.empty() ? text(s.train, " made pictures of ", s.classes,
                                                       s.classes > 1 ? " kinds" : " kind", " of shape")
                                                : "the pictures of " + options.data;
  return text(data, ", a thin network of its own (preset toy, ", c.model.channels,
              " channels) trained from scratch for ", c.train.steps, " steps of ", c.train.batch, " pictures at ",
              c.data.short_side[0], " pixels with ", sgd ? "SGD" : "AdamW");
}

Config Bench::config(const Keys& keys, uint64_t seed) const {
  ConfigSources sources;
  sources.environment = false;
  const Keys none;
  for (const Keys* list :
       {&kCommon, options.quick ? &kQuick : &kFull, options.data.empty() ? &none : &kPhotographs, &keys})
    for (auto& [key, value] : *list)
      if (!key.starts_with("lab.")) sources.flags.push_back({key, value});  // those are for `measure` alone
  sources.flags.push_back({"train.seed", std::to_string(seed)});
  return load_config(sources);
}

namespace {

std::vector<std::string> class_names(const std::string& dir) {
  namespace fs = std::filesystem;
  std::vector<std::string> names;
  check(Code::data, fs::is_directory(dir), dir,
        ": is not a folder\n  hint: DIR/train/CLASS and DIR/test/CLASS are needed");
  for (auto& entry : fs::directory_iterator(dir))
    if (entry.is_directory() && !is_hidden(entry.path())) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  check(Code::data, names.size() == 2, dir, ": holds ", counted(int64_t(names.size()), "folder"),
        " of classes; two are needed");
  return names;
}

std::vector<Image> folder_pictures(const std::string& dir) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (auto& entry : fs::directory_iterator(dir))
    if (is_image_name(entry.path().string()) && !is_hidden(entry.path())) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  check(Code::data, !files.empty(), dir, ": holds no pictures");
  std::vector<Image> all;
  for (auto& file : files) all.push_back(resize(read_image(file.string()), 32, 32));
  return all;
}

// The object with a margin, 32 x 32: a square of 1.4 times its box's longer side, which may reach over the edge.
Image around(const Sample& scene) {
  const Box<float>& b = scene.boxes[0];
  const double side = 1.4 * std::max(b.width(), b.height()), scale = 32 / side;
  const Transform t{scale, -scale * ((b.x1 + b.x2) / 2 - side / 2), scale, -scale * ((b.y1 + b.y2) / 2 - side / 2), 32,
                    32};
  return warp(scene.image, t);
}

}  // namespace

std::vector<std::string> Bench::classes() const {
  if (options.data.empty()) return {shape_names()[0], shape_names()[1]};
  const std::string dir = options.data + "/train";
  return std::filesystem::exists(dir) ? class_names(dir) : std::vector<std::string>{"the first by name", "the second"};
}

const Bench::Pictures& Bench::pictures(bool test, int label) {
  Pictures& all = pictures_[test][label];
  if (!all.empty()) return all;
  if (!options.data.empty()) {
    check(Code::usage, options.format == "folders", "classify needs --format folders: a folder a class");
    const std::string dir = options.data + (test ? "/test" : "/train");
    const std::vector<std::string> names = class_names(dir), trained = classes();
    check(Code::data, names == trained, dir, ": its classes are ", joined(names, " and "), ", those of ", options.data,
          "/train ", joined(trained, " and "));
    return all = folder_pictures(dir + "/" + names[size_t(label)]);
  }
  const ShapesOptions one{.size = 96, .classes = 2, .empty = 0, .max_objects = 1, .seed = 3};
  for (uint64_t i = 0; all.size() < size_t(test ? 300 : 1000); ++i) {
    const Sample scene = make_scene(one, test, i);
    if (scene.labels.size() == 1 && scene.labels[0] == label) all.push_back(around(scene));
  }
  return all;
}

namespace {

// Held by one lab at a time: another may make the same pictures in the same folder just now. It ends with the process;
// where a file system has no locks, nobody waits.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder) : fd_(::open(folder.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ >= 0) flock(fd_, LOCK_EX);
  }
  ~FolderLock() {
    if (fd_ >= 0) close(fd_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

}  // namespace

const Dataset& Bench::open(const Keys& keys, bool val) {
  const bool rare = std::find(keys.begin(), keys.end(), kRareScenes) != keys.end();
  std::optional<Dataset>& data = data_[rare][val];
  if (data) return *data;
  DatasetOptions o{.dir = options.data, .format = options.format, .split = val ? "val" : "train"};
  if (val && !options.data.empty())
    if (const std::string called = val_split_of(find_splits(o.dir, o.format)); !called.empty()) o.split = called;
  if (options.data.empty()) {
    o.dir = options.out + (options.quick ? "/shapes-quick" : "/shapes-full") + (rare ? "-rare" : "");
    const FolderLock lock(options.out);
    if (!std::filesystem::exists(o.dir + "/val/annotations.json")) {  // written last
      std::filesystem::remove_all(o.dir);
      make_shapes(o.dir, shapes(options.quick, rare));
    }
  }
  if (val) o.classes = train(keys).classes();
  return *(data = open_dataset(o));
}

}  // namespace fovea::lab
