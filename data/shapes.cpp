// Draws the dice for each made scene, paints it, and writes the pictures and their annotations as a COCO data set.
#include "data/shapes.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <mutex>

#include "core/error.h"
#include "core/random.h"
#include "core/threads.h"
#include "data/scene.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;
using detail::Rgb;
using detail::Scene;
using detail::Thing;

constexpr double kTau = 6.283185307179586;
constexpr double kSmallest = 0.11, kLargest = 0.5;  // diameters as parts of the long side: more than two octaves

void check_options(const ShapesOptions& o) {
  const int known = int(shape_names().size());
  check(Code::usage, o.classes >= 1 && o.classes <= known, "shapes: ", o.classes, " classes; there are 1 to ", known);
  check(Code::usage, o.size >= 32 && o.size <= 4096, "shapes: a size of ", o.size, " pixels; choose 32 to 4096");
  check(Code::usage, o.train >= 0 && o.val >= 0 && o.train + o.val > 0, "shapes: no pictures were asked for");
  check(Code::usage, o.max_objects >= 1 && o.max_objects <= 100, "shapes: up to ", o.max_objects,
        " objects; choose 1 to 100");
  check(Code::usage, o.imbalance >= 1 && o.imbalance <= 1e6, "shapes: an imbalance of ", o.imbalance,
        "; choose 1 (none) to 1000000");
  check(Code::usage, o.empty >= 0 && o.empty <= 1 && o.hidden >= 0 && o.hidden <= 1,
        "shapes: empty and hidden are parts, 0 to 1");
}

// Class k of K has weight imbalance^(-k / (K - 1)).
int draw_label(Dice& dice, const ShapesOptions& o) {
  std::vector<double> weight;
  double all = 0;
  for (int k = 0; k < o.classes; ++k) {
    weight.push_back(o.classes == 1 ? 1 : std::pow(o.imbalance, -double(k) / (o.classes - 1)));
    all += weight.back();
  }
  double left = dice.uniform(0, all);
  for (int k = 0; k + 1 < o.classes; ++k)
    if ((left -= weight[size_t(k)]) < 0) return k;
  return o.classes - 1;
}

Rgb draw_colour(Dice& dice, double saturation, double low, double high) {  // a hue, from HSV
  const double hue = dice.uniform(0, 6), s = saturation * dice.uniform(0.6, 1), v = dice.uniform(low, high);
  Rgb rgb{};
  for (int c = 0; c < 3; ++c) {
    const double k = std::fmod(5 - 2 * c + hue, 6);
    rgb[size_t(c)] = float(v - v * s * std::clamp(std::min(k, 4 - k), 0.0, 1.0));
  }
  return rgb;
}

double brightness(const Rgb& c) { return 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2]; }
double difference(const Rgb& a, const Rgb& b) {
  return std::abs(a[0] - b[0]) + std::abs(a[1] - b[1]) + std::abs(a[2] - b[2]);
}

Scene draw_ground(Dice& dice, const ShapesOptions& o) {
  Scene scene;
  const double form = dice.uniform();
  scene.width = form < 0.75 ? o.size : o.size * 3 / 4;
  scene.height = form < 0.5 || form >= 0.75 ? o.size : o.size * 3 / 4;
  scene.ground = detail::Ground(dice.integer(0, 4));
  scene.first = draw_colour(dice, 0.55, 0.3, 0.9);
  scene.second = draw_colour(dice, 0.55, 0.3, 0.9);
  const double lift = brightness(scene.first) + dice.uniform(-0.25, 0.25);  // near in brightness: no hard stripes
  const double now = std::max(0.05, brightness(scene.second));
  for (float& k : scene.second) k = float(std::clamp(k * std::clamp(lift, 0.2, 0.9) / now, 0.0, 1.0));
  scene.noise = uint32_t(dice.integer(0, 0xFFFFFFFF));
  scene.angle = float(dice.uniform(0, kTau));
  scene.period = float(o.size * dice.uniform(0.06, 0.2));
  const double towards = dice.uniform(0, kTau);
  scene.light = {float(std::cos(towards)), float(std::sin(towards))};
  scene.contrast = float(dice.uniform(0.1, 0.35));
  scene.grain = float(dice.uniform(0.005, 0.035));
  return scene;
}

Thing draw_thing(Dice& dice, const ShapesOptions& o, const Scene& scene) {
  Thing thing;
  thing.label = draw_label(dice, o);
  const double radius = 0.5 * o.size * kSmallest * std::pow(kLargest / kSmallest, dice.uniform());
  const auto place = [&](int side) {  // up to a fifth of the radius may leave the picture
    const double margin = std::min(0.8 * radius, 0.5 * side);
    return float(dice.uniform(margin, side - margin));
  };
  const float x = place(scene.width), y = place(scene.height);
  thing.outline = detail::shape_outline(thing.label, {x, y}, float(radius), float(dice.uniform(0, kTau)));
  const Rgb ground{(scene.first[0] + scene.second[0]) / 2, (scene.first[1] + scene.second[1]) / 2,
                   (scene.first[2] + scene.second[2]) / 2};
  for (int i = 0; i < 8; ++i) {
    thing.colour = draw_colour(dice, 0.95, 0.35, 1);
    if (difference(thing.colour, ground) > 0.55) break;
  }
  const double shade = dice.uniform(0.55, 0.85);
  thing.second = draw_colour(dice, 0.9, 0.4, 1);
  for (size_t c = 0; c < 3; ++c)  // the pattern's colour leans on the first one
    thing.second[c] = float(shade * thing.colour[c] + (1 - shade) * thing.second[c]) * (dice.chance(0.5) ? 0.8f : 1.1f);
  thing.pattern = detail::Pattern(dice.integer(0, 3));
  thing.angle = float(dice.uniform(0, kTau));
  thing.period = float(std::max(4.0, radius * dice.uniform(0.25, 0.6)));
  thing.noise = uint32_t(dice.integer(0, 0xFFFFFFFF));
  return thing;
}

Scene draw_scene(const ShapesOptions& o, uint64_t split, uint64_t index) {
  Dice dice(o.seed, split << 48 | index);
  Scene scene = draw_ground(dice, o);
  const int64_t wanted = dice.chance(o.empty) ? 0 : dice.integer(1, o.max_objects);
  for (int64_t i = 0; i < wanted; ++i)
    for (int attempt = 0; attempt < 8; ++attempt) {  // some overlap is wanted, a heap is not
      Thing thing = draw_thing(dice, o, scene);
      double most = 0;
      for (const Thing& other : scene.things)
        most = std::max(most, double(iou(thing.outline.extent(), other.outline.extent())));
      if (most > 0.35) continue;
      scene.things.push_back(std::move(thing));
      break;
    }
  for (size_t i = 0; i < scene.things.size();) {  // what is hidden too far leaves, which may uncover others
    const float visible = detail::visible_parts(scene)[i];
    if (visible < 1 - o.hidden) scene.things.erase(scene.things.begin() + std::ptrdiff_t(i)), i = 0;
    else ++i;
  }
  return scene;
}

}  // namespace

std::vector<std::string> shape_names() {
  return {"circle", "square", "triangle", "star", "ring", "cross", "heart", "moon"};
}

Sample make_scene(const ShapesOptions& options, uint64_t split, uint64_t index) {
  check_options(options);
  const Scene scene = draw_scene(options, split, index);
  Sample sample;
  sample.image = detail::paint(scene);
  sample.id = int64_t(index) + 1;
  for (const Thing& thing : scene.things) {
    const Box<float> e = thing.outline.extent();
    const auto cut = [](float v, int side) { return std::round(std::clamp(v, 0.f, float(side)) * 100) / 100; };
    sample.boxes.push_back(
        {cut(e.x1, scene.width), cut(e.y1, scene.height), cut(e.x2, scene.width), cut(e.y2, scene.height)});
    sample.labels.push_back(thing.label);
  }
  return sample;
}

void make_shapes(const std::string& dir, const ShapesOptions& options,
                 const std::function<void(int64_t done, int64_t all)>& progress) {
  check_options(options);
  const std::vector<std::string> all_names = shape_names();
  const std::vector<std::string> names(all_names.begin(), all_names.begin() + options.classes);
  std::vector<int64_t> ids;
  for (int k = 1; k <= options.classes; ++k) ids.push_back(k);
  for (const char* split : {"train", "val"})
    check(Code::usage, !fs::exists(fs::path(dir) / split), (fs::path(dir) / split).string(),
          ": exists already; choose another folder or remove it");
  int64_t done = 0;
  std::mutex mutex;
  for (int split = 0; split < 2; ++split) {
    if ((split ? options.val : options.train) == 0) continue;  // a split without pictures cannot be opened
    const fs::path folder = fs::path(dir) / (split ? "val" : "train"), images = folder / "images";
    std::error_code error;
    fs::create_directories(images, error);
    check(!error, images.string(), ": cannot be made: ", error.message());
    std::vector<Annotation> annotations(size_t(split ? options.val : options.train));
    parallel_for(int64_t(annotations.size()), 1, [&](int64_t i, int64_t) {
      const Sample sample = make_scene(options, uint64_t(split), uint64_t(i));
      Annotation& a = annotations[size_t(i)];
      std::string number = std::to_string(i + 1);
      number.insert(0, number.size() < 6 ? 6 - number.size() : 0, '0');
      a.path = (images / (number + ".jpg")).string();
      write_jpeg(a.path, sample.image, 95);
      a.id = sample.id, a.width = sample.image.width, a.height = sample.image.height;
      for (size_t b = 0; b < sample.boxes.size(); ++b) {
        const Box<float>& box = sample.boxes[b];
        const auto cents = [](float v) { return std::round(double(v) * 100) / 100; };
        a.truths.push_back(
            {ids[size_t(sample.labels[b])], {cents(box.x1), cents(box.y1), cents(box.width()), cents(box.height())}});
      }
      std::lock_guard lock(mutex);
      if (progress) progress(++done, options.train + options.val);
    });
    write_coco_truth((folder / "annotations.json").string(),
                     Dataset(folder.string(), names, ids, std::move(annotations), BoxPolicy::clip));
  }
}

}  // namespace fovea
