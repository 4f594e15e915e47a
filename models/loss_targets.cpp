// Loops over the anchors of a batch, and the few numbers that their sums are divided by.
#include "models/loss_targets.h"

#include <numeric>

#include "core/loops.h"

namespace fovea {
namespace {

struct Labels {  // of anchors begin .. begin + width - 1 of each image
  static constexpr bool rare = true;
  const int64_t *box, *labels, *first;
  int64_t count, begin, width;
  int64_t* out;
  HD void operator()(int64_t i) const {
    const int64_t image = i / width, b = box[image * count + begin + i % width];
    out[i] = b >= 0 ? labels[first[image] + b] : b;
  }
};

template <class T> struct AllRows {  // of the same anchors
  static constexpr bool rare = true;
  const Box<float>*anchors, *truths;
  const int64_t *box, *first;
  const double* scale;
  double factor;
  int64_t count, begin, width;
  Box<T>*cells, *boxes;
  T* weight;
  HD void operator()(int64_t i) const {
    const int64_t image = i / width, a = begin + i % width, b = box[image * count + a];
    const Box<float> anchor = anchors[a], found = b >= 0 ? truths[first[image] + b] : anchor;
    cells[i] = {T(anchor.x1), T(anchor.y1), T(anchor.x2), T(anchor.y2)};
    boxes[i] = {T(found.x1), T(found.y1), T(found.x2), T(found.y2)};
    weight[i] = b >= 0 ? T(scale[image] * factor) : T(0);
  }
};

template <class T> struct Scales {
  static constexpr bool rare = true;  // one index, whose rounding should not depend on the processor
  const int64_t* counts;
  int64_t images, columns;
  bool per_image, detectron, update;
  T* running;  // or null
  double* scale;
  HD void operator()(int64_t) const {
    int64_t total = 0;
    for (int64_t n = 0; n < images; ++n) total += counts[n * columns + Assignment::kCounted];
    const double found = total > 1 ? double(total) : 1.0;
    double common = 1 / (detectron ? double(total) + double(images) : found);
    if (running) {
      const double average = update ? 0.9 * double(*running) + 0.1 * found : double(*running);
      if (update) *running = T(average);
      common = 1 / average;
    }
    for (int64_t n = 0; n < images; ++n) {
      const int64_t own = counts[n * columns + Assignment::kCounted];
      scale[n] = per_image ? 1 / (double(own > 1 ? own : 1) * double(images)) : common;
    }
  }
};

template <class T> struct SoftmaxTarget {
  static constexpr bool rare = true;
  const int64_t* labels;
  T positive, background;
  int64_t* place;
  T* weight;
  HD void operator()(int64_t i) const {
    const int64_t label = labels[i];
    place[i] = label >= 0 ? label + 1 : 0;
    weight[i] = label == Matches::ignored ? T(0) : label >= 0 ? positive : background;
  }
};

}  // namespace

Tensor labels_of(const Assignment& a, size_t level) {
  const int64_t begin = std::accumulate(a.levels.begin(), a.levels.begin() + static_cast<int64_t>(level), int64_t{0});
  const Tensor labels({a.images(), a.levels[level]}, DType::i64, a.box.device());
  for_each(labels.device(), labels.size(),
           Labels{a.box.data<int64_t>(), a.labels.data<int64_t>(), a.first.data<int64_t>(), a.count(), begin,
                  a.levels[level], labels.data<int64_t>()});
  return labels;
}

Tensor loss_scales(const Assignment& a, const std::string& normaliser, const Tensor& running, bool update) {
  const Tensor scale({a.images()}, DType::f64, a.counts.device());
  dispatch_float(running ? running.dtype() : DType::f64, [&]<class T>() {
    for_each(scale.device(), 1,
             Scales<T>{a.counts.data<int64_t>(), a.images(), a.counts.dim(1), normaliser == "per_image",
                       normaliser == "detectron", update, running ? running.data<T>() : nullptr, scale.data<double>()});
  });
  if (running && update) Tensor(running).touch();
  return scale;
}

static BoxRows all_rows(const Assignment& a, const Tensor& scale, double factor, DType type) {
  const Device device = a.box.device();
  const int64_t rows = a.images() * a.count();
  BoxRows out{{}, Tensor({rows, 4}, type, device), Tensor({rows, 4}, type, device), Tensor({rows}, type, device)};
  dispatch_float(type, [&]<class T>() {
    auto *cells = static_cast<Box<T>*>(out.anchors.raw()), *boxes = static_cast<Box<T>*>(out.boxes.raw());
    T* weight = out.weight.data<T>();
    int64_t begin = 0;
    for (const int64_t width : a.levels) {
      for_each(device, a.images() * width,
               AllRows<T>{box_data(a.anchors), box_data(a.boxes), a.box.data<int64_t>(), a.first.data<int64_t>(),
                          scale.data<double>(), factor, a.count(), begin, width, cells, boxes, weight});
      begin += width, cells += a.images() * width, boxes += a.images() * width, weight += a.images() * width;
    }
  });
  return out;
}

static BoxRows positive_rows(const Assignment& a, const Tensor& scale, double factor, DType type) {
  BoxRows out;
  std::vector<float> anchors, boxes;
  std::vector<double> weight;
  const auto add = [](std::vector<float>& to, const Box<float>& b) { to.insert(to.end(), {b.x1, b.y1, b.x2, b.y2}); };
  int64_t begin = 0;
  for (const int64_t width : a.levels) {
    std::vector<int64_t> index;
    for (int64_t n = 0; n < a.images(); ++n)
      for (int64_t i = 0; i < width; ++i) {
        const int64_t b = a.box.data<int64_t>()[n * a.count() + begin + i];
        if (b < 0) continue;
        index.push_back(n * width + i), weight.push_back(scale.data<double>()[n] * factor);
        add(anchors, box_data(a.anchors)[begin + i]), add(boxes, box_data(a.boxes)[a.first.data<int64_t>()[n] + b]);
      }
    begin += width;
    out.index.push_back(Tensor::from({static_cast<int64_t>(index.size())}, index));
  }
  const int64_t rows = static_cast<int64_t>(weight.size());
  out.anchors = Tensor::from({rows, 4}, anchors).to(type), out.boxes = Tensor::from({rows, 4}, boxes).to(type);
  out.weight = Tensor::from({rows}, weight).to(type);
  return out;
}

BoxRows box_rows(const Assignment& a, const Tensor& scale, double factor, DType type) {
  return plays_device(a.box.device()) ? all_rows(a, scale, factor, type) : positive_rows(a, scale, factor, type);
}

std::pair<Tensor, Tensor> softmax_targets(const Tensor& labels, std::optional<double> alpha, DType type) {
  const Tensor place({labels.size()}, DType::i64, labels.device()), weight(labels.shape(), type, labels.device());
  dispatch_float(type, [&]<class T>() {
    for_each(labels.device(), labels.size(),
             SoftmaxTarget<T>{labels.data<int64_t>(), T(alpha.value_or(1)), T(alpha ? 1 - *alpha : 1),
                              place.data<int64_t>(), weight.data<T>()});
  });
  return {place, weight};
}

}  // namespace fovea
