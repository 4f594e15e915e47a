// A batch's number alone says which samples are in it; workers take the next number while the queue has room and leave
// the result in its place, and next() takes the places in order.
#include "data/loader.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>

#include "core/error.h"
#include "core/random.h"

namespace fovea {
namespace {

// (rgb / 255 - mean) / std by table; what is right of and below the picture becomes 0, the mean.
void normalise(const Image& image, const LoaderOptions& options, float* out, int64_t height, int64_t width) {
  float table[3][256];
  for (size_t c = 0; c < 3; ++c)
    for (int v = 0; v < 256; ++v) table[c][v] = (float(v) / 255 - options.mean[c]) / options.std[c];
  for (int64_t y = 0; y < height; ++y, out += width * 3) {
    const int64_t filled = y < image.height ? int64_t(image.width) * 3 : 0;
    if (filled > 0) {
      const uint8_t* from = image.at(0, int(y));
      for (int64_t j = 0; j < filled; j += 3)
        for (int c = 0; c < 3; ++c) out[j + (options.bgr ? 2 - c : c)] = table[c][from[j + c]];
    }
    std::fill(out + filled, out + width * 3, 0.f);
  }
}

Batch assemble(std::vector<Transformed> parts, const LoaderOptions& options) {
  Batch batch;
  int width = 0, height = 0;
  for (const Transformed& part : parts)
    width = std::max(width, part.transform.width), height = std::max(height, part.transform.height);
  width = options.padded(width), height = options.padded(height);
  const Shape shape{int64_t(parts.size()), height, width, 3};
  batch.images = options.device == Device::cpu ? Tensor(shape) : Tensor::pinned(shape);
  float* out = batch.images.data<float>();
  for (Transformed& part : parts) {
    normalise(part.sample.image, options, out, height, width);
    out += int64_t(height) * width * 3;
    Sample& s = part.sample;
    batch.items.push_back({std::move(s.boxes), std::move(s.ignore), std::move(s.labels), 0, s.id, std::move(s.path),
                           part.transform.width, part.transform.height, part.transform});
  }
  return batch;
}

void check_options(const LoaderOptions& o) {
  check(o.batch >= 1, "loader: a batch of ", o.batch, " pictures");
  check(o.threads >= 0 && o.threads <= 256, "loader: ", o.threads, " threads; choose 0 to 256");
  check(o.ahead >= 1, "loader: ", o.ahead, " batches ahead; at least 1");
  check(Code::usage, o.aspect_groups >= 2 && o.aspect_groups % 2 == 0, "loader: ", o.aspect_groups,
        " aspect groups; an even number is needed");
  check(o.divisor >= 1, "loader: a divisor of ", o.divisor);
}

// Of n shapes, the one of this height / width: n - 1 bounds lie evenly in log from 1/2 to 2 (n = 2: at 1).
size_t aspect_group(double aspect, int n) {
  size_t group = 0;
  for (int i = 1; i < n; ++i) group += aspect > (n == 2 ? 1 : std::exp2(2.0 * (i - 1) / (n - 2) - 1));
  return group;
}

}  // namespace

int64_t steps_of(const Dataset& dataset, const LoaderOptions& o) {
  check_options(o);
  const int64_t whole = dataset.size() / o.batch;
  return o.drop_last && whole > 0 ? whole : (dataset.size() + o.batch - 1) / o.batch;
}

std::vector<std::vector<int64_t>> epoch_order(const Dataset& dataset, const LoaderOptions& options, int64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(dataset.size()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = int64_t(i);
  if (options.shuffle) {  // Fisher and Yates, from a stream of its own
    Dice dice(options.seed, uint64_t{3} << 62 | uint64_t(epoch));
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[size_t(dice.integer(0, int64_t(i) - 1))]);
  }
  const int64_t count = steps_of(dataset, options);
  if (options.drop_last)  // before they are grouped: what is left of a rare shape would always be what is dropped
    order.resize(size_t(std::min(dataset.size(), count * options.batch)));
  const int groups = options.group_by_aspect ? options.aspect_groups : 1;
  std::vector<std::vector<int64_t>> steps, open(static_cast<size_t>(groups));  // of each shape a batch begun
  const auto close = [&](std::vector<int64_t>& batch) { steps.push_back(std::move(batch)), batch.clear(); };
  for (int64_t i : order) {
    const Annotation& a = dataset.annotation(i);
    std::vector<int64_t>& batch = open[aspect_group(double(a.height) / a.width, groups)];
    batch.push_back(i);
    if (int64_t(batch.size()) == options.batch) close(batch);
  }
  std::vector<int64_t> rest;
  for (const auto& begun : open)
    for (int64_t i : begun) {
      if (int64_t(rest.size()) == options.batch) close(rest);
      rest.push_back(i);
    }
  if (!rest.empty()) close(rest);
  return steps;
}

Batch make_batch(const Dataset& dataset, const LoaderOptions& options, const std::vector<int64_t>& samples,
                 int64_t epoch) {
  check_options(options);
  AugmentOptions chosen = options.augment;
  std::vector<int>& sides = chosen.short_sides;
  if (options.one_side && sides.size() > 1) {  // an epoch has a sample once, so the first one names the batch
    Dice dice(options.seed, uint64_t{2} << 62 | uint64_t(epoch) << 40 | uint64_t(samples.at(0)));
    sides = {sides[size_t(dice.integer(0, int64_t(sides.size()) - 1))]};
  }
  std::vector<Transformed> parts;
  for (int64_t i : samples)
    parts.push_back(augment(dataset.get(i), chosen, options.seed, uint64_t(epoch), uint64_t(i)));
  Batch batch = assemble(std::move(parts), options);
  for (size_t i = 0; i < samples.size(); ++i) batch.items[i].index = samples[i];
  batch.epoch = epoch;
  return batch;
}

Batch make_batch(const Image& image, const LoaderOptions& options) {
  check_options(options);
  std::vector<Transformed> parts;
  parts.push_back(augment({image, {}, {}, {}, 0, ""}, options.augment.without_random(), 0, 0, 0));
  return assemble(std::move(parts), options);
}

struct Loader::State {
  struct Result {
    Batch batch;
    std::exception_ptr error;
  };

  State(const Dataset& dataset, const LoaderOptions& options, int64_t epoch, int64_t step)
      : dataset(dataset), options(options), steps(steps_of(dataset, options)) {
    check(Code::data, dataset.size() > 0, dataset.name(), ": holds no pictures to load");
    check(epoch >= 0 && step >= 0, "loader: epoch ", epoch, ", step ", step);
    claimed = delivered = epoch * steps + step;
    end = options.epochs < 0 ? INT64_MAX : options.epochs * steps;
    try {
      for (int i = 0; i < options.threads; ++i) workers.emplace_back([this] { work(); });
    } catch (const std::system_error&) {}  // the system has no more threads: any number makes the same batches
  }
  ~State() {
    {
      std::lock_guard lock(mutex);
      stop = true;
    }
    room.notify_all();
    for (std::thread& worker : workers) worker.join();
    if (ahead) arrive();
  }

  Result make(int64_t number) {
    Result result;
    try {
      const int64_t epoch = number / steps, step = number % steps;
      result.batch = make_batch(dataset, options, samples(epoch, step), epoch);
      result.batch.step = step;
    } catch (...) { result.error = std::current_exception(); }
    return result;
  }
  std::vector<int64_t> samples(int64_t epoch, int64_t step) {  // orders of two epochs are kept: workers straddle them
    std::lock_guard lock(order_mutex);
    auto at = orders.find(epoch);
    if (at == orders.end()) {
      if (orders.size() == 2) orders.erase(orders.begin());
      at = orders.emplace(epoch, epoch_order(dataset, options, epoch)).first;
    }
    return at->second[size_t(step)];
  }
  void work() {
    for (;;) {
      int64_t number;
      {
        std::unique_lock lock(mutex);
        room.wait(lock, [&] { return stop || (claimed < end && claimed < delivered + options.ahead); });
        if (stop) return;
        number = claimed++;
      }
      Result result = make(number);
      std::lock_guard lock(mutex);
      results.emplace(number, std::move(result));
      ready.notify_all();
    }
  }
  Result take() {
    if (workers.empty()) return make(delivered++);
    std::unique_lock lock(mutex);
    ready.wait(lock, [&] { return results.count(delivered) > 0; });
    Result result = std::move(results.extract(delivered++).mapped());
    room.notify_all();
    return result;
  }

  bool wait(std::chrono::milliseconds most) {
    if (workers.empty() || ahead || delivered >= end) return true;
    std::unique_lock lock(mutex);
    return ready.wait_for(lock, most, [&] { return results.count(delivered) > 0; });
  }

  // What the device computes from now on finds what was sent.
  static void arrive() { runtime().wait(Runtime::Stream::compute, Runtime::Stream::copy); }
  void send_next() {
    if (delivered >= end) return;
    ahead = take();
    if (!ahead->error) ahead->batch.images = ahead->batch.images.send();
  }
  Result take_there() {
    if (!ahead) send_next();
    arrive();
    Result result = std::move(*ahead);
    ahead.reset();
    send_next();
    return result;
  }

  const Dataset& dataset;
  const LoaderOptions options;
  const int64_t steps;
  int64_t claimed = 0, delivered = 0, end = 0;  // numbers of batches: epoch * steps + step
  std::map<int64_t, Result> results;
  std::optional<Result> ahead;  // on its way to the device
  std::map<int64_t, std::vector<std::vector<int64_t>>> orders;
  bool stop = false;
  std::mutex mutex, order_mutex;
  std::condition_variable room, ready;
  std::vector<std::thread> workers;
};

Loader::Loader(const Dataset& dataset, const LoaderOptions& options, int64_t epoch, int64_t step)
    : state_(std::make_unique<State>(dataset, options, epoch, step)) {}
Loader::~Loader() = default;

std::optional<Batch> Loader::next() {
  if (state_->delivered >= state_->end && !state_->ahead) return {};
  State::Result result = state_->options.device == Device::cpu ? state_->take() : state_->take_there();
  if (result.error) std::rethrow_exception(result.error);
  return std::move(result.batch);
}

bool Loader::wait(std::chrono::milliseconds most) { return state_->wait(most); }

int64_t Loader::steps_per_epoch() const { return state_->steps; }

}  // namespace fovea
