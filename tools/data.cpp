// fovea data: makes the shapes data set, shows a page of any data set with its boxes, and counts what is in it.
#include "data/draw.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <set>

#include "core/random.h"
#include "core/threads.h"
#include "data/augment.h"
#include "data/shapes.h"
#include "tools/anchor_fit.h"
#include "tools/command.h"
#include "tools/evaluate.h"

namespace fovea {
namespace {

struct ShowFlags {
  DatasetOptions data;
  std::string out = "page.png";
  int number = 24, cell = 320, columns = 0;
  uint64_t seed = 0;
  bool augmented = false, json = false;
};

struct StatsFlags {
  DatasetOptions data;
  std::string preset = Config().preset;
  std::vector<std::string> settings;
  bool json = false, verify = false;
};

// The sample with its boxes, shrunk or enlarged to the cell first so that lines and letters keep their size.
Image annotated(const Sample& sample, const std::vector<std::string>& classes, int cell) {
  const double scale = double(cell) / std::max(sample.image.width, sample.image.height);
  const auto side = [&](int v) { return std::max(1, int(std::lround(v * scale))); };
  Transform t{0, 0, 0, 0, side(sample.image.width), side(sample.image.height)};
  t.ax = double(t.width) / sample.image.width, t.ay = double(t.height) / sample.image.height;
  Image image = warp(sample.image, t);
  for (const Box<float>& box : sample.ignore) draw_ignore(image, t(box));
  for (size_t i = 0; i < sample.boxes.size(); ++i)
    draw_label(image, t(sample.boxes[i]), classes[size_t(sample.labels[i])], class_colour(sample.labels[i]));
  return image;
}

// Whether the page is to be a JPEG. Refuses another kind, and to write over a picture of the data set.
bool is_jpeg_page(const std::string& out, const Dataset& dataset) {
  namespace fs = std::filesystem;
  const std::string ending = lowered(fs::path(out).extension().string());
  const bool jpeg = ending == ".jpg" || ending == ".jpeg";
  check(Code::usage, jpeg || ending == ".png", "data show: the page '", out, "' is to end in .png or .jpg");
  std::error_code error;
  for (int64_t i = 0; fs::exists(out, error) && i < dataset.size(); ++i)
    check(Code::usage, !fs::equivalent(out, dataset.annotation(i).path, error), "data show: '", out,
          "' is a picture of the data set; choose another --out");
  return jpeg;
}

void run_show(const ShowFlags& flags) {
  check(Code::usage, flags.number >= 1 && flags.cell >= 32, "data show: at least 1 picture and 32 pixels a cell");
  check_named_once(flags.data.dir, flags.data.annotations);
  const Dataset dataset = open_dataset(flags.data);
  note_part(flags.data, dataset);
  const bool jpeg = is_jpeg_page(flags.out, dataset);
  std::vector<int64_t> order(static_cast<size_t>(dataset.size()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = int64_t(i);
  Dice dice(flags.seed);
  if (flags.seed > 0)
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[size_t(dice.integer(0, int64_t(i) - 1))]);
  order.resize(std::min(order.size(), size_t(flags.number)));
  check(Code::usage, double(order.size()) * flags.cell * flags.cell <= 2e8,
        "data show: ", counted(int64_t(order.size()), "picture"), " of ", flags.cell,
        " pixels a side make a page of more than 200 ", "million; choose a smaller --cell or --number");
  AugmentOptions random;
  random.short_sides = {}, random.flip = 0.5, random.scale_min = 0.6, random.scale_max = 1.6;
  random.brightness = random.contrast = random.saturation = 0.3, random.hue = 0.03;
  std::vector<Image> pictures(order.size());
  std::vector<std::string> captions(order.size());
  parallel_for(int64_t(order.size()), 1, [&](int64_t i, int64_t) {
    Sample sample = dataset.get(order[size_t(i)]);
    if (flags.augmented) sample = augment(sample, random, flags.seed, 0, uint64_t(i)).sample;
    pictures[size_t(i)] = annotated(sample, dataset.classes(), flags.cell);
    captions[size_t(i)] = sample.path.substr(sample.path.find_last_of('/') + 1);
  });
  const Image page = tile(pictures, captions, {flags.columns, flags.cell});
  jpeg ? write_jpeg(flags.out, page) : write_png(flags.out, page);
  if (flags.json) print_json({{"out", flags.out}, {"pictures", pictures.size()}});
  else std::cout << flags.out << ": " << pictures.size() << " of " << counted(dataset.size(), "picture") << "\n";
}

double percentile(std::vector<double>& values, double p) {  // nearest rank
  if (values.empty()) return NAN;
  const auto at = values.begin() + std::ptrdiff_t(p * double(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

struct Counts {
  int64_t boxes = 0, ignore = 0, empty = 0, small = 0, medium = 0, large = 0;
  std::vector<int64_t> class_boxes, class_pictures;
  std::vector<std::vector<double>> class_sizes;                            // sqrt(area) in pixels
  std::vector<double> sizes, ratios, parts, per_picture, widths, heights;  // ratios: height / width
};

Counts count(const Dataset& dataset) {
  Counts c;
  const size_t classes = dataset.classes().size();
  c.class_boxes.resize(classes), c.class_pictures.resize(classes), c.class_sizes.resize(classes);
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const Annotation& a = dataset.annotation(i);
    c.boxes += int64_t(a.boxes.size()), c.ignore += int64_t(a.ignore.size()), c.empty += a.boxes.empty();
    c.per_picture.push_back(double(a.boxes.size()));
    c.widths.push_back(a.width), c.heights.push_back(a.height);
    for (int label : std::set<int>(a.labels.begin(), a.labels.end())) c.class_pictures[size_t(label)]++;
    for (size_t b = 0; b < a.boxes.size(); ++b) {
      const double area = a.boxes[b].area(), size = std::sqrt(area);
      ++(size < 32 ? c.small : size < 96 ? c.medium : c.large);
      c.class_boxes[size_t(a.labels[b])]++;
      c.class_sizes[size_t(a.labels[b])].push_back(size);
      c.sizes.push_back(size);
      c.ratios.push_back(a.boxes[b].height() / a.boxes[b].width());
      c.parts.push_back(size / std::sqrt(double(a.width) * a.height));
    }
  }
  return c;
}

// Opens every picture and returns what is wrong, one line each.
std::vector<std::string> verify(const Dataset& dataset) {
  std::vector<std::string> faults(static_cast<size_t>(dataset.size()));
  Progress progress("reading", dataset.size());
  std::mutex mutex;
  int64_t done = 0;
  parallel_for(dataset.size(), 1, [&](int64_t i, int64_t) {
    try {
      dataset.get(i);
    } catch (const Error& error) { faults[size_t(i)] = error.what(); }
    std::lock_guard lock(mutex);
    progress.update(++done);
  });
  std::erase(faults, "");
  return faults;
}

constexpr double kPercentiles[] = {0, 0.05, 0.25, 0.5, 0.75, 0.95, 1};

Json stats_json(const Dataset& dataset, Counts& c, const std::vector<std::string>& faults) {
  Json classes = Json::list();
  for (size_t k = 0; k < dataset.classes().size(); ++k)
    classes.add({{"name", dataset.classes()[k]},
                 {"id", dataset.class_ids()[k]},
                 {"boxes", c.class_boxes[k]},
                 {"pictures", c.class_pictures[k]}});
  const auto spread = [](std::vector<double>& values) {
    Json json = Json::object();
    for (double p : kPercentiles) json[text(std::lround(100 * p), "%")] = percentile(values, p);
    return json;
  };
  return {{"name", dataset.name()},
          {"pictures", dataset.size()},
          {"empty_pictures", c.empty},
          {"boxes", c.boxes},
          {"ignore_regions", c.ignore},
          {"small", c.small},
          {"medium", c.medium},
          {"large", c.large},
          {"classes", classes},
          {"width", spread(c.widths)},
          {"height", spread(c.heights)},
          {"boxes_per_picture", spread(c.per_picture)},
          {"box_size", spread(c.sizes)},
          {"box_size_over_picture", spread(c.parts)},
          {"height_over_width", spread(c.ratios)},
          {"clipped", dataset.problems().clipped},
          {"dropped", dataset.problems().dropped},
          {"messages", dataset.problems().messages},
          {"unreadable", faults}};
}

void print_stats(const Dataset& dataset, Counts& c, const std::vector<std::string>& faults, bool verified) {
  std::cout << dataset.name() << "\n"
            << counted(dataset.size(), "picture") << " (" << c.empty << " without objects), " << counted(c.boxes, "box")
            << ", " << counted(c.ignore, "ignore region") << "\n\n";
  Table classes({"class", "id", "boxes", "part", "pictures", "median size"});
  for (size_t k = 0; k < dataset.classes().size(); ++k)
    classes.row({dataset.classes()[k], std::to_string(dataset.class_ids()[k]), count_text(c.class_boxes[k]),
                 number(100.0 * double(c.class_boxes[k]) / double(std::max<int64_t>(1, c.boxes)), 1) + "%",
                 count_text(c.class_pictures[k]), number(percentile(c.class_sizes[k], 0.5), 0)});
  std::cout << classes.str() << "\n";
  Table spread({"", "least", "5%", "25%", "median", "75%", "95%", "most"});
  const auto row = [&](const char* name, std::vector<double>& values, int digits) {
    std::vector<std::string> cells{name};
    for (double p : kPercentiles) cells.push_back(number(percentile(values, p), digits));
    spread.row(cells);
  };
  row("picture width", c.widths, 0);
  row("picture height", c.heights, 0);
  row("boxes a picture", c.per_picture, 0);
  row("box size (sqrt of area)", c.sizes, 0);
  row("box size / picture size", c.parts, 3);
  row("box height / width", c.ratios, 2);
  std::cout << spread.str() << "\nsmall (under 32 pixels) " << c.small << ", medium " << c.medium
            << ", large (96 and over) " << c.large << "\n";
  const Problems& problems = dataset.problems();
  if (problems.messages.empty()) std::cout << "no bad boxes\n";
  else std::cout << problems.summary() << ":\n";
  for (const std::string& message : problems.messages) std::cout << "  " << message << "\n";
  if (verified && faults.empty()) std::cout << "all pictures can be read\n";
  if (!faults.empty()) std::cout << counted(int64_t(faults.size()), "picture") << " cannot be used:\n";
  for (const std::string& fault : faults) std::cout << "  " << fault << "\n";
}

Json anchors_json(const Dataset& dataset, const Config& config, const AnchorFit& fit,
                  const std::vector<AnchorAdvice>& all_advice) {
  const auto parts = [](const AnchorFit::Share& s) {
    return Json{{"boxes", s.boxes}, {"below_0.4", s.part(s.low)}, {"below_0.5", s.part(s.weak)}};
  };
  Json json = parts(fit.all);
  json["preset"] = config.preset, json["short_side"] = config.data.short_side, json["histogram"] = fit.histogram;
  if (config.data.short_side.size() > 1) json["short_side_used"] = fit.short_side;
  json["classes"] = json["advice"] = Json::list();
  for (size_t k = 0; k < fit.classes.size(); ++k) {
    json["classes"].add({{"name", dataset.classes()[k]}});
    json["classes"].items.back().update(parts(fit.classes[k]));
  }
  for (const AnchorAdvice& advice : all_advice) {
    Json set;
    for (auto& [key, value] : advice.settings) set[key] = value;
    json["advice"].add({{"set", set}, {"below_0.4", advice.low_part}});
  }
  return json;
}

void print_anchors(const Dataset& dataset, const Config& config, const AnchorFit& fit) {
  std::vector<std::string> sides;
  for (int64_t side : config.data.short_side) sides.push_back(std::to_string(side));
  std::cout << "\nbest IoU of each box with an anchor of " << config.preset << ", short side ";
  if (sides.size() > 1) std::cout << fit.short_side << ", the middle one of ";
  std::cout << joined(sides) << "\n";
  Table histogram({"from", "0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"});
  std::vector<std::string> row{"boxes"};
  for (int64_t n : fit.histogram) row.push_back(count_text(n));
  histogram.row(row);
  Table classes({"class", "boxes", "below 0.4", "below 0.5"});
  const auto add = [&](const std::string& name, const AnchorFit::Share& s) {
    const auto part = [&](int64_t n) { return number(100 * s.part(n), 1) + "%"; };
    classes.row({name, count_text(s.boxes), part(s.low), part(s.weak)});
  };
  for (size_t k = 0; k < fit.classes.size(); ++k) add(dataset.classes()[k], fit.classes[k]);
  add("all", fit.all);
  std::cout << histogram.str() << "\n" << classes.str();
}

void run_stats(const StatsFlags& flags) {
  check_named_once(flags.data.dir, flags.data.annotations);
  const Dataset dataset = open_dataset(flags.data);
  note_part(flags.data, dataset);
  Counts counts = count(dataset);
  std::vector<std::string> faults;
  if (flags.verify) faults = verify(dataset);
  const Config config = load_config({.flags = {{"preset", flags.preset, "--preset"}}, .settings = flags.settings});
  check_options(config.model);
  const AnchorFit fit = fit_anchors(dataset, config);
  const auto advice = advise_anchors(dataset, config, fit);
  if (flags.json) {
    Json json = stats_json(dataset, counts, faults);
    json["anchors"] = anchors_json(dataset, config, fit, advice);
    print_json(json);
  } else {
    print_stats(dataset, counts, faults, flags.verify);
    print_anchors(dataset, config, fit);
  }
  if (const auto line = anchor_warning(config, fit, advice); !line.empty()) warn(line);
  if (!faults.empty()) throw Exit{int(Code::data)};
}

void add_make(Command& data) {
  Command make = data.command("make", "Make a data set.", "fovea data make shapes shapes");
  make.needs_command();
  struct Flags {
    std::string dir;
    ShapesOptions options;
    bool json = false;
  };
  auto flags = std::make_shared<Flags>();
  Command app = make.command("shapes", "Draw scenes of shapes with their boxes, in COCO format.",
                             "fovea data make shapes shapes                       # shapes/train and shapes/val\n"
                             "fovea data make shapes rare --imbalance 100 --classes 8\n"
                             "fovea data make shapes big --train 2000 --val 200 --size 384 --seed 7");
  ShapesOptions& o = flags->options;
  app.option("dir", flags->dir, "the folder to make").required().type("DIR");
  app.option("--train", o.train, "pictures to train on").show_default();
  app.option("--val", o.val, "pictures to validate on").show_default();
  app.option("--size", o.size, "long side of the pictures, in pixels").show_default();
  app.option("--classes", o.classes, "kinds of shapes, 1 to 8").show_default();
  app.option("--imbalance", o.imbalance, "how much more common the first class is than the last").show_default();
  app.option("--empty", o.empty, "part of the pictures without objects").show_default();
  app.option("--max-objects", o.max_objects, "objects in a picture, at most").show_default();
  app.option("--seed", o.seed, "another seed makes other pictures").show_default();
  app.flag("--json", flags->json, "print what was made as JSON");
  app.run([flags] {
    const ShapesOptions& o = flags->options;
    Progress progress("drawing", o.train + o.val);
    make_shapes(flags->dir, o, [&](int64_t done, int64_t) { progress.update(done); });
    progress.clear();
    if (flags->json)
      print_json({{"dir", flags->dir}, {"train", o.train}, {"val", o.val}, {"classes", o.classes}, {"seed", o.seed}});
    else
      std::cout << flags->dir << ": " << counted(o.train, "picture") << " to train on, " << count_text(o.val)
                << " to validate on, " << counted(o.classes, "class") << "\n";
  });
}

}  // namespace

void add_data(Command& program) {
  Command data = program.command("data", "Make, show and count data sets.",
                                 "fovea data make shapes shapes\n"
                                 "fovea data show shapes --split val --out page.png\n"
                                 "fovea data stats VOC2007 --format voc --split trainval --verify");
  data.needs_command();
  add_make(data);
  auto show = std::make_shared<ShowFlags>();
  Command app = data.command("show", "Draw a page of pictures with their boxes.",
                             "fovea data show shapes --split val --out page.png\n"
                             "fovea data show shapes --split train --augmented --seed 3 -n 12");
  add_data_flags(app, show->data);
  app.option("-o,--out", show->out, "the page: .png or .jpg").show_default();
  app.option("-n,--number", show->number, "pictures on the page").show_default();
  app.option("--seed", show->seed, "above 0: a random choice of pictures").show_default();
  app.option("--cell", show->cell, "pixels of a picture's long side").show_default();
  app.option("--columns", show->columns, "pictures in a row; 0: as fits").show_default();
  app.flag("--augmented", show->augmented, "after random flips, scale-and-crop and colours");
  app.flag("--json", show->json, "print what was written as JSON");
  app.run([show] { run_show(*show); });
  auto stats = std::make_shared<StatsFlags>();
  app = data.command("stats", "Count classes, sizes, shapes and problems.",
                     "fovea data stats shapes --split train\n"
                     "fovea data stats shapes --split train --preset toy --set model.anchors.base=2\n"
                     "fovea data stats shapes --split train --verify --json");
  add_data_flags(app, stats->data);
  app.option("--preset", stats->preset, "whose anchors and size the boxes are held against").show_default();
  app.option("--set", stats->settings, "any key of it, e.g. data.short_side=480; may be repeated").type("KEY=VALUE");
  app.flag("--verify", stats->verify, "open every picture; exit 3 where one cannot be used");
  app.flag("--json", stats->json, "print JSON");
  app.run([stats] { run_stats(*stats); });
}

}  // namespace fovea
