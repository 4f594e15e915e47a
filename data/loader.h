// Batches for training and evaluation: worker threads, a bounded queue, and an order that depends on the seed alone.
#pragma once
#include <array>
#include <chrono>
#include <memory>
#include <optional>

#include "core/tensor.h"
#include "data/augment.h"
#include "data/dataset.h"

namespace fovea {

struct LoaderOptions {
  int batch = 4;
  int threads = 2;               // workers; 0 does the work inside next(). The batches are the same for any number
  int ahead = 4;                 // batches that may be ready or in work before they are asked for
  bool shuffle = true;           // a new order each epoch
  bool drop_last = false;        // leave out an epoch's last batch where it is not full
  bool group_by_aspect = false;  // pictures of one shape in a batch: less padding
  int aspect_groups = 2;         // ... 2: wide and tall; more: bounds of height / width from 1/2 to 2 (torchvision: 8)
  uint64_t seed = 0;
  int divisor = 32;  // height and width of a batch are padded to multiples of it
  int padded(int side) const { return (side + divisor - 1) / divisor * divisor; }
  bool bgr = false;       // blue first, as Caffe2's weights want it
  bool one_side = false;  // of several augment.short_sides one is drawn for each batch, not for each picture
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f}, std = {0.229f, 0.224f, 0.225f};  // RGB of 0..1
  AugmentOptions augment{};
  Device device = Device::cpu;  // where a Loader's images go, a batch ahead of what is computed there
  int64_t epochs = -1;          // next() ends after this many, counted from epoch 0; -1: never
};

struct Batch {
  Tensor images;  // f32 [N,H,W,3]: (rgb / 255 - mean) / std (or bgr), padded with 0 at the right and the bottom
  struct Item {
    std::vector<Box<float>> boxes, ignore;  // pixels of the padded input
    std::vector<int> labels;
    int64_t index = 0, id = 0;  // in the data set; of the picture
    std::string path;
    int width = 0, height = 0;  // of the part of the input that is not padding
    Transform transform;        // from the picture to the input
  };
  std::vector<Item> items;
  int64_t epoch = 0, step = 0;  // step counts from 0 in each epoch
};

class Loader {
 public:
  // Begins at `step` of `epoch`: the same batches as a loader that got there from the start. The data set must outlive
  // the loader.
  Loader(const Dataset& dataset, const LoaderOptions& options, int64_t epoch = 0, int64_t step = 0);
  Loader(Dataset&&, const LoaderOptions&, int64_t = 0, int64_t = 0) = delete;  // it would be gone at the first batch
  ~Loader();                                                                   // stops and joins the workers
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next batch; none after the last epoch. What went wrong in a worker (an unreadable picture, say) is thrown here,
  // when the batch is its turn.
  std::optional<Batch> next();
  // Waits at most so long for what next() gives: whether it is there. Where the loader has no threads it always is.
  bool wait(std::chrono::milliseconds most);
  int64_t steps_per_epoch() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

int64_t steps_of(const Dataset& dataset, const LoaderOptions& options);  // of an epoch
// The samples of each step of an epoch. A pure function of its arguments.
std::vector<std::vector<int64_t>> epoch_order(const Dataset& dataset, const LoaderOptions& options, int64_t epoch);
// The batch of these samples, made in the calling thread: the body of the workers, and for single pictures.
Batch make_batch(const Dataset& dataset, const LoaderOptions& options, const std::vector<int64_t>& samples,
                 int64_t epoch);
// One picture as network input (augment's size, no random choices), for `fovea detect`.
Batch make_batch(const Image& image, const LoaderOptions& options);

}  // namespace fovea
