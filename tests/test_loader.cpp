// The loader: the same batches for any number of threads and from any step, padding, order, errors, shutdown.
#include "data/loader.h"

#include <pthread.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "core/random.h"
#include "data/shapes.h"
#include "tests/boxes.h"
#include "tests/fake_device.h"
#include "tests/files.h"

using namespace fovea;
using test::Folder;

static_assert(!std::is_constructible_v<Loader, Dataset, LoaderOptions>);  // a data set that nothing else holds

namespace {

// A made data set of 13 pictures, once for all tests.
const Dataset& shapes() {
  static const Folder folder;
  static const Dataset data = [] {
    make_shapes(folder / "s", {.train = 13, .val = 1, .size = 64});
    return open_dataset({.dir = folder / "s", .split = "train"});
  }();
  return data;
}

LoaderOptions options_for(int threads) {
  LoaderOptions o;
  o.batch = 3, o.threads = threads, o.seed = 5;
  o.augment.short_sides = {48, 64}, o.augment.flip = 0.5, o.augment.brightness = 0.2;
  return o;
}

void check_equal(const Batch& a, const Batch& b) {
  REQUIRE(a.images.shape() == b.images.shape());
  REQUIRE(a.images.values<float>() == b.images.values<float>());
  REQUIRE(a.epoch == b.epoch);
  REQUIRE(a.step == b.step);
  REQUIRE(a.items.size() == b.items.size());
  const auto numbers = [](const Transform& t) { return std::array{t.ax, t.bx, t.ay, t.by}; };
  for (size_t i = 0; i < a.items.size(); ++i) {
    const Batch::Item &one = a.items[i], &other = b.items[i];
    REQUIRE((one.index == other.index && one.id == other.id && one.path == other.path));
    REQUIRE(one.labels == other.labels);
    REQUIRE(test::same_boxes(one.boxes, other.boxes));
    REQUIRE(test::same_boxes(one.ignore, other.ignore));
    REQUIRE((one.width == other.width && one.height == other.height));
    REQUIRE(numbers(one.transform) == numbers(other.transform));
    REQUIRE((one.transform.width == other.transform.width && one.transform.height == other.transform.height));
  }
}

}  // namespace

TEST_CASE("batches do not depend on the threads, nor on where the loader began") {
  Loader reference(shapes(), options_for(0));
  std::vector<Batch> batches;
  for (int i = 0; i < 12; ++i) batches.push_back(*reference.next());
  CHECK(reference.steps_per_epoch() == 5);
  CHECK(steps_of(shapes(), options_for(0)) == 5);
  CHECK(batches[6].epoch == 1);
  CHECK(batches[6].step == 1);
  for (int threads : {1, 2, 4}) {
    Loader loader(shapes(), options_for(threads));
    for (const Batch& batch : batches) check_equal(*loader.next(), batch);
  }
  Loader later(shapes(), options_for(2), 1, 2);
  for (size_t i = 7; i < 12; ++i) check_equal(*later.next(), batches[i]);
  Loader across(shapes(), options_for(2), 0, 9);  // step 9 of epochs of 5
  check_equal(*across.next(), batches[9]);
}

TEST_CASE("multi-scale by batch: one side for all its pictures, the same from any step, and nothing else changes") {
  LoaderOptions o = options_for(0), each = o;
  o.one_side = true;
  Loader loader(shapes(), o), pictures(shapes(), each);
  std::set<int> sides;
  std::vector<Batch> batches;
  int mixed = 0;
  for (int i = 0; i < 15; ++i) {
    batches.push_back(*loader.next());
    const Batch other = *pictures.next();
    std::set<int> own, others;
    for (size_t k = 0; k < other.items.size(); ++k) {
      const auto &a = batches.back().items[k], &b = other.items[k];
      own.insert(std::min(a.width, a.height)), others.insert(std::min(b.width, b.height));
      CHECK(std::signbit(a.transform.ax) == std::signbit(b.transform.ax));  // the flip
    }
    CHECK(own.size() == 1);
    sides.insert(*own.begin()), mixed += others.size() > 1;
  }
  CHECK(sides == std::set<int>{48, 64});
  CHECK(mixed > 0);
  o.threads = 2;
  Loader later(shapes(), o, 1, 3);
  for (size_t i = 8; i < 15; ++i) check_equal(*later.next(), batches[i]);
}

TEST_CASE("eight groups of shapes are torchvision's: its bounds, full batches of one group") {
  Dice dice(2);
  std::vector<Annotation> all(200);
  const std::vector<double> bounds = {
      0.5, std::exp2(-2 / 3.0), std::exp2(-1 / 3.0), 1, std::exp2(1 / 3.0), std::exp2(2 / 3.0), 2};
  std::vector<int64_t> groups, sizes(8);
  for (Annotation& a : all) {
    a.width = int(dice.integer(100, 300)), a.height = int(dice.integer(100, 300));
    groups.push_back(
        std::count_if(bounds.begin(), bounds.end(), [&](double b) { return double(a.height) / a.width > b; }));
    ++sizes[size_t(groups.back())];
  }
  LoaderOptions o{.batch = 4, .group_by_aspect = true, .aspect_groups = 8};
  const auto steps = epoch_order(Dataset("made", {"x"}, {1}, all, BoxPolicy::clip), o, 0);
  CHECK(steps.size() == 50);
  std::set<int64_t> seen;
  int64_t pure = 0, full = 0;
  for (const auto& step : steps) {
    seen.insert(step.begin(), step.end());
    pure +=
        std::all_of(step.begin(), step.end(), [&](int64_t i) { return groups[size_t(i)] == groups[size_t(step[0])]; });
  }
  for (int64_t n : sizes) full += n / 4;
  CHECK(seen.size() == 200);
  CHECK(pure >= full);
  o.aspect_groups = 3;
  CHECK_THROWS_AS(epoch_order(shapes(), o, 0), Error);
}

TEST_CASE("an epoch holds every sample once, in a new order each time") {
  LoaderOptions o = options_for(0);
  std::set<std::vector<int64_t>> orders;
  for (const bool grouped : {false, true})
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      o.group_by_aspect = grouped;
      std::vector<int64_t> all;
      for (const auto& step : epoch_order(shapes(), o, epoch)) all.insert(all.end(), step.begin(), step.end());
      orders.insert(all);
      std::sort(all.begin(), all.end());
      for (int64_t i = 0; i < 13; ++i) CHECK(all[size_t(i)] == i);
    }
  CHECK(orders.size() >= 5);
  const auto grouped = epoch_order(shapes(), o, 0);
  CHECK(grouped.size() == 5);
  const auto tall = [](int64_t i) { return shapes().annotation(i).height > shapes().annotation(i).width; };
  int64_t mixed = 0;
  for (const auto& step : grouped) {
    const auto n = std::count_if(step.begin(), step.end(), tall);
    mixed += n != 0 && n != int64_t(step.size());
  }
  CHECK(mixed <= 2);  // what is left of both kinds
  o.shuffle = false, o.group_by_aspect = false, o.drop_last = true;
  const auto plain = epoch_order(shapes(), o, 9);
  CHECK(plain.size() == 4);
  CHECK(plain[1] == std::vector<int64_t>{3, 4, 5});
  o.batch = 50;
  CHECK(epoch_order(shapes(), o, 0).size() == 1);  // never no batch at all
}

TEST_CASE("what an epoch leaves out is drawn from all pictures, also of shapes that fill no batch") {
  std::vector<Annotation> all(27);  // 20 wide, 7 tall
  for (size_t i = 0; i < all.size(); ++i) all[i].width = i < 20 ? 40 : 20, all[i].height = i < 20 ? 20 : 40;
  const Dataset data("made", {"x"}, {1}, all, BoxPolicy::clip);
  const LoaderOptions o{.batch = 8, .drop_last = true, .group_by_aspect = true};
  std::vector<int> seen(all.size());
  for (int64_t epoch = 0; epoch < 40; ++epoch)
    for (const auto& step : epoch_order(data, o, epoch)) {
      CHECK(step.size() == 8);
      for (const int64_t i : step) ++seen[size_t(i)];
    }
  for (const int times : seen) CHECK(times > 24);  // 24 of 27 pictures an epoch: 36 times of 40
}

TEST_CASE("pixels are normalised and padded with the mean; boxes and transform fit the input") {
  LoaderOptions o;
  o.batch = 1, o.threads = 0, o.shuffle = false, o.epochs = 1;
  o.augment.short_sides = {50}, o.divisor = 32;
  Loader loader(shapes(), o);
  int64_t n = 0;
  while (const std::optional<Batch> batch = loader.next()) {
    const Batch::Item& item = batch->items[0];
    const int64_t h = batch->images.dim(1), w = batch->images.dim(2);
    CHECK(h % 32 == 0);
    CHECK(w - item.width < 32);
    CHECK(std::min(item.width, item.height) == 50);
    const Sample sample = shapes().get(item.index);
    const Image resized = warp(sample.image, item.transform);
    const float* images = batch->images.data<float>();
    CHECK(images[((h - 1) * w + w - 1) * 3] == 0);
    const double mean[] = {0.485, 0.456, 0.406}, deviation[] = {0.229, 0.224, 0.225};
    for (int c = 0; c < 3; ++c)
      CHECK(images[(7 * w + 9) * 3 + c] == Approx((resized.at(9, 7)[c] / 255.0 - mean[c]) / deviation[c]).margin(1e-5));
    CHECK(item.id == sample.id);
    CHECK(item.path == sample.path);
    LoaderOptions blue_first = o;
    blue_first.bgr = true;
    const Batch turned = make_batch(shapes(), blue_first, {item.index}, 0);
    for (int64_t c = 0; c < 3; ++c)
      CHECK(turned.images.at((7 * w + 9) * 3 + c) == double(images[(7 * w + 9) * 3 + 2 - c]));
    REQUIRE(item.boxes.size() == sample.boxes.size());
    for (size_t b = 0; b < item.boxes.size(); ++b)
      CHECK(item.transform.inverse(item.boxes[b]).x2 == Approx(sample.boxes[b].x2).margin(0.01));
    ++n;
  }
  CHECK(n == 13);
  CHECK_FALSE(loader.next());
  const Batch single = make_batch(shapes().get(0).image, o);
  o.augment.flip = 1, o.augment.scale_min = o.augment.scale_max = 0.5;  // a picture to detect in takes no chances
  CHECK(make_batch(shapes().get(0).image, o).images.values<float>() == single.images.values<float>());
  CHECK(single.images.dim(0) == 1);
  CHECK(single.items[0].width > 0);
}

TEST_CASE("ignore regions come along, and each epoch draws anew") {
  Annotation a = shapes().annotation(0);
  a.truths.push_back({shapes().class_ids()[0], {4, 6, 20, 30}, {}, true});
  const Dataset data("made", shapes().classes(), shapes().class_ids(), {a}, BoxPolicy::clip);
  LoaderOptions o;
  o.augment.short_sides = {96}, o.augment.flip = 0.5;
  std::set<bool> flips;
  for (int64_t epoch = 0; epoch < 12; ++epoch) {
    const Batch batch = make_batch(data, o, {0}, epoch);
    const Batch::Item& item = batch.items[0];
    REQUIRE(item.ignore.size() == 1);
    const Box<float> back = item.transform.inverse(item.ignore[0]);
    CHECK((back.x1 == Approx(4) && back.y1 == Approx(6) && back.x2 == Approx(24) && back.y2 == Approx(36)));
    flips.insert(item.transform.ax < 0);
  }
  CHECK(flips.size() == 2);
}

TEST_CASE("an unreadable picture is reported in its turn, and the loader goes on") {
  const Folder folder;
  make_shapes(folder / "s", {.train = 6, .val = 1, .size = 64});
  const Dataset data = open_dataset({.dir = folder / "s", .split = "train"});
  folder.write("s/train/images/000004.jpg", std::string("hello"));
  LoaderOptions o;
  o.batch = 1, o.shuffle = false, o.epochs = 1;
  for (int threads : {0, 2}) {
    o.threads = threads;
    Loader loader(data, o);
    for (int i = 0; i < 3; ++i) CHECK(loader.next()->items[0].index == i);
    test::require_words(test::error_of(Code::data, [&] { loader.next(); }), {"000004.jpg", "text, not a picture"});
    CHECK(loader.next()->items[0].index == 4);
  }
  const Dataset none = data.first(0);
  CHECK_THROWS_AS(Loader(none, o), Error);
  o.batch = 0;
  CHECK_THROWS_AS(Loader(data, o), Error);
  o = {}, o.ahead = 0;
  CHECK_THROWS_WITH(Loader(data, o), contains("0 batches ahead"));
  o = {}, o.divisor = 0;
  CHECK_THROWS_WITH(Loader(data, o), contains("a divisor of 0"));
  o = {}, o.threads = -1;
  CHECK_THROWS_WITH(Loader(data, o), contains("-1 threads"));
}

TEST_CASE("a loader that is left early joins its workers") {
  for (int i = 0; i < 5; ++i) {
    Loader loader(shapes(), options_for(3));
    if (i > 0) loader.next();
  }
  SUCCEED();
}

TEST_CASE("where the system starts no threads the loader makes its batches itself") {
  pthread_attr_t before, huge;
  REQUIRE(pthread_getattr_default_np(&before) == 0);
  REQUIRE(pthread_attr_init(&huge) == 0);
  REQUIRE(pthread_attr_setstacksize(&huge, size_t{1} << 50) == 0);  // more than there are addresses
  Loader reference(shapes(), options_for(0));
  std::optional<Loader> loader;
  REQUIRE(pthread_setattr_default_np(&huge) == 0);
  CHECK_NOTHROW(loader.emplace(shapes(), options_for(2)));
  REQUIRE(pthread_setattr_default_np(&before) == 0);
  REQUIRE(loader);
  for (int i = 0; i < 3; ++i) check_equal(*loader->next(), *reference.next());
  pthread_attr_destroy(&huge), pthread_attr_destroy(&before);
}

TEST_CASE("batches come to a device one ahead, by its other stream, and nobody waits") {
  std::vector<Batch> expected;
  LoaderOptions options = options_for(0);
  options.epochs = 2;
  for (Loader here(shapes(), options); auto batch = here.next();) expected.push_back(*batch);
  for (int threads : {0, 2}) {
    test::WithFakeDevice fake;
    const auto& counts = fake.device->counts;
    options.threads = threads, options.device = Device::cuda;
    Loader loader(shapes(), options);
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto before = counts;
      auto batch = loader.next();
      REQUIRE(batch);
      CHECK(counts.synchronizations == before.synchronizations);
      CHECK(counts.to_device == int64_t(std::min(i + 2, expected.size())));  // the next one is under way
      CHECK(batch->images.device() == Device::cuda);
      const Tensor seen = batch->images.clone();  // the device's work; waiting for it does not wait for the next batch
      batch->images = {};
      batch->images = seen.to(Device::cpu);
      CHECK(fake.device->waiting(Runtime::Stream::copy) == (i + 1 < expected.size()));
      check_equal(*batch, expected[i]);
    }
    CHECK(!loader.next());
    CHECK(counts.pinned <= 4 + 2 + options.ahead);  // blocks serve again
  }
}

TEST_CASE("a loader whose last batch is still on its way may go") {
  test::WithFakeDevice fake;
  LoaderOptions options = options_for(2);
  options.device = Device::cuda;
  auto loader = std::make_unique<Loader>(shapes(), options);
  const Tensor first = loader->next()->images;
  loader.reset();
  Tensor other({3, 64, 64, 3}, DType::f64, Device::cuda);  // may get the memory of what was on its way
  other.fill(1);
  const std::vector<double> ones(size_t(other.size()), 1);
  CHECK(other.values<double>() == ones);
  fake.device->synchronize(Runtime::Stream::copy);
  CHECK(other.values<double>() == ones);
}
