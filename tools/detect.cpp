// fovea detect: pictures in, pictures with boxes and COCO-style detections out.
#include <algorithm>
#include <filesystem>
#include <future>
#include <iostream>
#include <map>
#include <new>
#include <set>
#include <system_error>

#include "core/atomic_file.h"
#include "core/autograd.h"
#include "tools/command.h"
#include "tools/evaluate.h"
#include "tools/report.h"
#include "tools/run_dir.h"
#include "tools/trainer.h"
#include "tools/weights.h"

namespace fovea {
namespace {
namespace fs = std::filesystem;

const char* const kExamples =
    "fovea detect --weights runs/toy photo.jpg --out found     # found/photo.jpg, found/detections.json\n"
    "fovea detect --weights runs/toy photos/ more.png --out found --threshold 0.6\n"
    "fovea detect --weights runs/toy photos/ --json            # the detections alone, on stdout\n"
    "fovea detect --weights coco.safetensors --preset tv_retinanet_r50 street.jpg --out found";

struct Flags {
  WeightsOptions weights;
  std::vector<std::string> inputs;
  std::string out;
  double threshold = 0.4;
  bool json = false;
};

// Files as given, folders by their pictures in the order of their names.
std::vector<std::string> find_pictures(const std::vector<std::string>& inputs) {
  std::vector<std::string> files;
  for (auto& input : inputs) {
    check(Code::data, fs::exists(input), "no file or folder '", input, "'");
    if (!fs::is_directory(input)) {
      files.push_back(input);
      continue;
    }
    std::vector<std::string> inside, others;
    for (auto& entry : fs::directory_iterator(input)) {
      const fs::file_type type = entry.status().type();  // not_found: of a link that leads nowhere, which is said later
      if (is_hidden(entry.path()) || (type != fs::file_type::regular && type != fs::file_type::not_found)) continue;
      if (is_image_name(entry.path())) inside.push_back(entry.path());
      else if (is_unread_image_name(entry.path())) others.push_back(entry.path().filename());
    }
    if (!others.empty())
      warn(text(input, ": ", counted(int64_t(others.size()), "picture"), " of a kind that is not read, such as ",
                *std::min_element(others.begin(), others.end()), "; convert to .png or .jpg"));
    check(Code::data, !inside.empty(), "the folder '", input, "' holds no pictures (", kImageEndings, ")");
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

// A new or empty folder, or one of an earlier `detect`: nothing else is ever written into. From here on it is one, also
// where Ctrl-C ends this detect before it knows its results.
void prepare_out(const std::string& out) {
  std::error_code error;
  const bool ours = fs::exists(out + "/detections.json");
  check(Code::usage, !fs::exists(out) || ours || holds_nothing(out), "'", out,
        "' exists and is not the folder of an earlier detect: choose another --out");
  fs::create_directories(out, error);
  check(!error, "cannot make the folder '", out, "': ", error.message());
  if (!ours) write_file_atomically(out + "/detections.json", "[]\n", false);
}

// A file for each picture, all of them before one is written: photo.jpg -> out/photo.jpg, or out/photo-2.jpg where
// another picture has that. None is an input, which may lie in `out`.
std::vector<std::string> out_names(const std::string& out, const std::vector<std::string>& files) {
  std::error_code error;
  std::set<fs::path> inputs;
  for (auto& file : files) inputs.insert(fs::weakly_canonical(file, error));
  std::map<std::string, int> tries;  // by stem
  std::set<std::string> taken;
  std::vector<std::string> names;
  for (auto& file : files) {
    const std::string stem = fs::path(file).stem().string();
    std::string path;
    do {
      const int n = ++tries[stem];
      path = out + "/" + stem + (n > 1 ? "-" + std::to_string(n) : "") + ".jpg";
    } while (!taken.insert(path).second);
    check(Code::usage, !inputs.count(fs::weakly_canonical(path, error)), "'", path,
          "' is an input: choose another --out");
    names.push_back(path);
  }
  return names;
}

Json to_json(const CocoDetection& d, int64_t image, const std::string& file, const std::string& name) {
  return {{"image_id", image}, {"category_id", d.category}, {"bbox", {d.box.x, d.box.y, d.box.w, d.box.h}},
          {"score", d.score},  {"file_name", file},         {"category", name}};
}

std::string counted(const std::vector<CocoDetection>& found, const ClassNames& names, double threshold) {
  std::map<std::string, int> counts;
  for (auto& d : found)
    if (d.score >= threshold) ++counts[names.of(d.category)];
  std::vector<std::string> words;
  for (auto& [name, n] : counts) words.push_back(text(n, " ", name));
  return words.empty() ? "nothing" : joined(words);
}

std::vector<CocoDetection> detect_one(LoadedModel& loaded, const Image& image, const ClassNames& names) {
  NoGrad no_grad;
  const Batch batch = make_batch(image, loader_options(loaded.config, false));
  const auto output = (*loaded.model)(batch.images);
  const auto found = loaded.model->detect(output, sizes_of(batch))[0];
  std::vector<CocoDetection> all;
  for (auto& d : to_picture(found, batch.items[0].transform, image.width, image.height))
    all.push_back({names.ids[static_cast<size_t>(d.label)], coco_box(d.box.x1, d.box.y1, d.box.x2, d.box.y2), d.score});
  return all;
}

void detect(const Flags& flags) {
  check(Code::usage, !flags.inputs.empty(), "name the pictures to look at, or folders of pictures");
  check(Code::usage, !flags.out.empty() || flags.json, "--out is required: the folder for the results (or --json)");
  const auto files = find_pictures(flags.inputs);
  const auto drawings = flags.out.empty() ? std::vector<std::string>{} : out_names(flags.out, files);
  // The next picture is read while the model is, or looks at the one before.
  const auto read = [&](size_t i) {
    const auto work = [&files, i] { return read_image(files[i]); };
    try {
      return std::async(std::launch::async, work);
    } catch (const std::system_error&) { return std::async(std::launch::deferred, work); }  // there are no more threads
  };
  auto next = read(0);
  LoadedModel loaded = load_model(flags.weights);
  const ClassNames names = names_of(loaded);
  if (!flags.out.empty()) prepare_out(flags.out);
  std::string all;  // as text, a detection a line: as Json they would take ten times the memory
  const auto write_list = [&] {
    all += all.empty() ? "[]\n" : "\n]\n";
    if (!flags.out.empty()) write_file_atomically(flags.out + "/detections.json", all, false);
  };
  int64_t id = 0;
  Code failed{};
  for (auto& file : files) {
    auto coming = std::move(next);
    if (static_cast<size_t>(++id) < files.size()) next = read(static_cast<size_t>(id));
    try {
      const Image image = coming.get();
      const auto found = detect_one(loaded, image, names);
      for (auto& d : found)
        all += (all.empty() ? "[\n" : ",\n") + json_text(to_json(d, id, file, names.of(d.category)));
      if (!flags.out.empty()) {
        const std::string& path = drawings[static_cast<size_t>(id - 1)];
        // A small picture would vanish under its labels.
        const double scale = std::max(1.0, 480.0 / std::max(image.width, image.height));
        write_jpeg(path, draw_detections(image, found, names.ids, names.names, flags.threshold, scale));
        if (!flags.json) std::cout << path << "  " << counted(found, names, flags.threshold) << "\n";
      }
    } catch (const Error& error) {  // one bad picture, or one that is too large, does not stop the others
      if (error.code != Code::data && error.code != Code::memory) {
        if (flags.out.empty()) throw;
        write_list();
        fail(error.code, text(error.what(), "\n  detections.json holds what was found until then"));
      }
      failed = std::max(failed, error.code);
      complain(error.code == Code::data ? error.what() : text(file, ": ", error.what()), 0);
    } catch (const std::bad_alloc&) {
      failed = Code::memory;
      complain(file + ": out of memory\n  hint: --set data.max_side=1333 makes it smaller", 0);
    }
  }
  write_list();
  if (flags.json) std::cout << all;
  if (failed != Code{}) throw Exit{static_cast<int>(failed)};
}

}  // namespace

void add_detect(Command& program) {
  Command app = program.command("detect",
                                "Finds objects in pictures, draws them and writes COCO-style JSON. Its ids are its "
                                "own; coco-eval goes by the names that it writes, too.",
                                kExamples);
  auto flags = std::make_shared<Flags>();
  add_weights_flags(app, flags->weights);
  app.option("inputs", flags->inputs, "pictures, or folders of pictures").type("FILE|DIR");
  app.option("--out", flags->out, "folder for pictures and detections.json").type("DIR");
  app.option("--threshold", flags->threshold, "lowest score that is drawn (JSON: model.score_threshold)")
      .type("SCORE")
      .range(0.0, 1.0)
      .show_default();
  app.flag("--json", flags->json, "print all detections as JSON");
  app.run([flags] { detect(*flags); });
}

}  // namespace fovea
