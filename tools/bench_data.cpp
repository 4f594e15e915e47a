// fovea bench data: how fast pictures become batches, and how long a training step would wait for them.
#include <filesystem>
#include <memory>
#include <thread>

#include "data/loader.h"
#include "data/shapes.h"
#include "tools/bench.h"

namespace fovea {
namespace {

struct DataFlags : BenchFlags {
  DatasetOptions data;
  int pictures = 64, side = 320, batch = 4, workers = 1, step_ms = 50;
};

void leave_if_stopped() {
  if (stop_caught()) throw Exit{128 + stop_caught()};
}

// A folder for made pictures, gone at the end, also after Ctrl-C.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    catch_stops();
    std::error_code error;
    std::string pattern = (std::filesystem::temp_directory_path(error) / "fovea-bench-XXXXXX").string();
    check(!error, "no folder for temporary files: ", error.message(), "\n  hint: TMPDIR names one");
    check(mkdtemp(pattern.data()) != nullptr, "cannot make the temporary folder ", pattern);
    path = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path;
};

LoaderOptions loader_options(const DataFlags& o) {
  LoaderOptions options;
  options.batch = o.batch, options.threads = o.workers, options.drop_last = true;
  AugmentOptions& a = options.augment;
  a.short_sides = {o.side}, a.flip = 0.5, a.scale_min = 0.6, a.scale_max = 1.6;
  a.brightness = a.contrast = a.saturation = 0.3, a.hue = 0.03;
  return options;
}

// Rows of one thread: each part of the work on all pictures, and all of it.
class OneThread {
 public:
  OneThread(Report& report, const Machine& machine, const DataFlags& o, const Dataset& data)
      : report_(report), machine_(machine), o_(o), data_(data) {}

  double run() {  // pictures a second of the whole
    const LoaderOptions options = loader_options(o_);
    std::vector<Sample> samples;
    double pixels = 0, made = 0;
    for (int64_t i = 0; i < data_.size(); ++i) {
      leave_if_stopped(), samples.push_back(data_.get(i));
      pixels += double(samples.back().image.rgb.size());
    }
    row("decode", pixels, measure(o_, [&] {
          for (int64_t i = 0; i < data_.size(); ++i) leave_if_stopped(), read_image(data_.annotation(i).path);
        }));
    const Times augmented = measure(o_, [&] {
      made = 0;
      for (size_t i = 0; i < samples.size(); ++i)
        leave_if_stopped(), made += double(augment(samples[i], options.augment, 0, 0, i).sample.image.rgb.size());
    });
    row("augment", pixels + made, augmented);
    return row("decode, augment, batch", pixels + 4 * made, measure(o_, [&] {
                 for (int64_t i = 0; i < data_.size(); ++i) leave_if_stopped(), make_batch(data_, options, {i}, 0);
               }));
  }

 private:
  double row(const std::string& name, double bytes, Times times) {
    const double pictures = double(data_.size()), ms = times.median(), rate = 1e3 * pictures / ms;
    for (double& t : times.ms) t /= pictures;
    Json row = timed_row(name, times);
    row["pictures_per_s"] = rate, row["wait_ms"] = nullptr, row["roofline"] = roofline(machine_, bytes, 0, ms);
    report_.add(std::move(row));
    return rate;
  }
  Report& report_;
  const Machine machine_;
  const DataFlags& o_;
  const Dataset& data_;
};

// One row: batches taken as fast as they come, against what the workers could make; and the wait for each where a step
// of training takes step_ms.
void time_loader(Report& report, const DataFlags& o, const Dataset& data, double one_thread) {
  Loader fast(data, loader_options(o));
  const int64_t steps = std::max<int64_t>(1, fast.steps_per_epoch());
  Times times = measure(o, [&] {
    for (int64_t i = 0; i < steps; ++i) leave_if_stopped(), fast.next();
  });
  for (double& t : times.ms) t /= double(steps * o.batch);
  Loader calm(data, loader_options(o));
  Times wait;
  for (int64_t i = -1; i < std::min<int64_t>(steps, 20); ++i) {  // the first wait is for the workers to begin
    const auto start = Clock::now();
    leave_if_stopped(), calm.next();
    if (i >= 0) wait.ms.push_back(ms_since(start));
    std::this_thread::sleep_for(std::chrono::milliseconds(o.step_ms));
  }
  const double rate = 1e3 / times.median();
  Json row = timed_row("loader, " + counted(o.workers, "worker"), times);
  row["pictures_per_s"] = rate, row["wait_ms"] = wait.median();
  row["roofline"] = rate / (one_thread * std::max(1, o.workers));
  report.add(std::move(row));
}

void bench_data(const DataFlags& o) {
  check(Code::usage, !o.data.dir.empty() || (o.data.split.empty() && o.data.format == "auto"),
        "--split and --format are of a data set: name it by --data DIR");
  Report report("data", o);
  report.head["batch"] = o.batch, report.head["side"] = o.side, report.head["step_ms"] = o.step_ms;
  const Machine machine = measure_machine();
  report.use(machine);
  std::unique_ptr<TemporaryFolder> made;
  DatasetOptions options = o.data;
  if (options.dir.empty()) {
    made = std::make_unique<TemporaryFolder>();
    make_shapes(made->path, {.train = o.pictures, .val = 1, .size = o.side},
                [](int64_t, int64_t) { leave_if_stopped(); });
    options.dir = made->path, options.split = "train";
  }
  const Dataset data = open_dataset(options).first(o.pictures);
  check(Code::usage, data.size() >= o.batch, "--batch ", o.batch, " needs as many pictures; there are ", data.size(),
        "\n  hint: --batch ", data.size());
  report.head["pictures"] = data.size();
  report.head["data"] = made ? "made shapes" : std::filesystem::weakly_canonical(options.dir).string();
  report.head["split"] = options.split;
  const double one_thread = OneThread(report, machine, o, data).run();
  time_loader(report, o, data, one_thread);
  report.print();
}

}  // namespace

void add_bench_data(Command& bench) {
  Command data = bench.command("data",
                               "Times decoding, augmenting and loading, in milliseconds a picture; the loader's "
                               "roofline is what its workers could do at the speed of one thread alone.",
                               "fovea bench data\nfovea bench data --workers 2 --step-ms 100\n"
                               "fovea bench data --data bccd --format voc --split train --pictures 50");
  auto o = std::make_shared<DataFlags>();
  data.option("--data", o->data.dir, "a data set; otherwise made shapes, in a temporary folder").type("DIR");
  data.option("--format", o->data.format, "auto, coco, voc, yolo, csv or shapes").show_default();
  data.option("--split", o->data.split, "train, val ...; a VOC folder may do without: all its pictures");
  data.option("--pictures", o->pictures, "the first so many").show_default().range(1, 1e7);
  data.option("--side", o->side, "short side after augmenting, and the size of made pictures").show_default();
  data.option("--batch", o->batch, "pictures of a batch").show_default().range(1, 1e4);
  data.option("--workers", o->workers, "threads of the loader").show_default().range(0, 64);
  data.option("--step-ms", o->step_ms, "a training step, for the wait").show_default().range(0, 1e5);
  add_bench_flags(data, *o);
  data.run([o] { bench_data(*o); });
}

}  // namespace fovea
