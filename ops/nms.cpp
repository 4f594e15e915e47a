// Greedy suppression on the CPU (a device's: ops/cuda/suppress.h, soften.h): candidates in order, each against the kept
// ones of its class, so that no matrix of all pairs is made and a suppressed box costs little. The kept boxes lie as
// columns, in blocks that vectorise.
#include "ops/nms.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/autograd.h"
#include "core/box.h"
#include "core/loops.h"
#include "ops/cuda/select.h"

namespace fovea {
namespace {

constexpr int64_t kBlock = 32, kStretch = 256;

template <class T> struct Kept {  // x1, y1, x2, y2 of the kept boxes of one class
  std::vector<T> side[4];
  int64_t count = 0;
  void add(const Box<T>& b) {
    const T values[4] = {b.x1, b.y1, b.x2, b.y2};
    for (int i = 0; i < 4; ++i) {
      if (count % kBlock == 0)
        side[i].resize(static_cast<size_t>(count + kBlock), T(0));  // degenerate: overlap nothing
      side[i][static_cast<size_t>(count)] = values[i];
    }
    ++count;
  }
  void clear() {
    for (auto& s : side) s.clear();
    count = 0;
  }
};

// Whether candidate i of one class overlaps one of the kept boxes, from number `first` on, by more than the threshold.
template <class T> struct Overlaps {
  const Box<T>* boxes;
  const int64_t* order;  // the candidates, best first
  const Kept<T>* kept;
  int64_t first;
  T threshold;
  uint8_t* hit;
  void operator()(int64_t i) const {
    const Box<T> box = boxes[order[i]];
    const T *x1 = kept->side[0].data(), *y1 = kept->side[1].data(), *x2 = kept->side[2].data(),
            *y2 = kept->side[3].data();
    int any = 0;
    for (int64_t at = first; at < kept->count && !any; at += kBlock)
      for (int64_t j = at; j < at + kBlock; ++j) any |= iou(Box<T>{x1[j], y1[j], x2[j], y2[j]}, box) > threshold;
    hit[i] = uint8_t(any);
  }
};

// One class: marks what stays. All threads hold a stretch of candidates against the boxes kept before it; what is left
// is then held against those of its own stretch, in order.
template <class T>
void suppress(const Box<T>* boxes, const std::vector<int64_t>& order, T threshold, Kept<T>& kept, uint8_t* keep) {
  const int64_t count = static_cast<int64_t>(order.size());
  std::vector<uint8_t> hit(order.size(), 0);
  kept.clear();
  for (int64_t begin = 0; begin < count; begin += kStretch) {
    const int64_t end = std::min(begin + kStretch, count);
    Overlaps<T> overlaps{boxes, order.data(), &kept, 0, threshold, hit.data()};
    parallel_for(end - begin, 32, [&](int64_t b, int64_t e) { detail::run_each(overlaps, begin + b, begin + e); });
    overlaps.first = kept.count / kBlock * kBlock;
    for (int64_t i = begin; i < end; ++i) {
      if (hit[size_t(i)]) continue;
      detail::run_each(overlaps, i, i + 1);
      if (hit[size_t(i)]) continue;
      keep[order[size_t(i)]] = 1;
      kept.add(boxes[order[size_t(i)]]);
    }
  }
}

template <class T> bool usable(const Box<T>& b, T score) {
  return !std::isnan(score) && !std::isnan(b.x1 + b.y1 + b.x2 + b.y2);
}
// Indices of the boxes that may be kept, by score descending, then index ascending.
template <class T> std::vector<int64_t> ranking(const Box<T>* boxes, const T* scores, int64_t n) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < n; ++i)
    if (usable(boxes[i], scores[i])) order.push_back(i);
  std::sort(order.begin(), order.end(),
            [&](int64_t a, int64_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  return order;
}
// Splits an order by class (of `classes`, or all one class where null), keeping it within each.
std::vector<std::vector<int64_t>> by_class(const std::vector<int64_t>& order, const int64_t* classes) {
  if (classes == nullptr) return {order};
  std::vector<int64_t> sorted = order;
  std::stable_sort(sorted.begin(), sorted.end(), [&](int64_t a, int64_t b) { return classes[a] < classes[b]; });
  std::vector<std::vector<int64_t>> groups;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (i == 0 || classes[sorted[i]] != classes[sorted[i - 1]]) groups.emplace_back();
    groups.back().push_back(sorted[i]);
  }
  return groups;
}

template <class T> Tensor hard(const Tensor& boxes, const Tensor& scores, const int64_t* classes, double threshold) {
  const auto* box = reinterpret_cast<const Box<T>*>(boxes.data<T>());
  const auto order = ranking(box, scores.data<T>(), scores.size());
  std::vector<uint8_t> keep(static_cast<size_t>(scores.size()), 0);
  Kept<T> kept;
  for (const auto& group : by_class(order, classes)) suppress(box, group, T(threshold), kept, keep.data());
  std::vector<int64_t> result;
  for (const int64_t i : order)
    if (keep[static_cast<size_t>(i)]) result.push_back(i);
  return Tensor::from<int64_t>({static_cast<int64_t>(result.size())}, result);
}

// One class: takes the best box, lowers the scores of the rest, and so on.
template <class T>
void soften(const Box<T>* boxes, std::vector<int64_t> left, std::vector<T>& score, const SoftNmsOptions& o,
            std::vector<int64_t>& result) {
  const auto better = [&](int64_t a, int64_t b) {
    const T p = score[static_cast<size_t>(a)], q = score[static_cast<size_t>(b)];
    return p == q ? a < b : p > q || (p == p && q != q);  // NaN is the worst
  };
  while (!left.empty()) {
    const auto best = std::min_element(left.begin(), left.end(), better);
    const int64_t i = *best;
    *best = left.back(), left.pop_back();
    if (!(score[static_cast<size_t>(i)] >= T(o.min_score))) return;  // and so is everything that is left
    result.push_back(i);
    for (const int64_t j : left) {
      T& s = score[static_cast<size_t>(j)];
      s = o.lowered(s, iou(boxes[i], boxes[j]));
    }
  }
}
template <class T>
std::vector<Tensor> soft(const Tensor& boxes, const Tensor& scores, const int64_t* classes, const SoftNmsOptions& o) {
  const auto* box = reinterpret_cast<const Box<T>*>(boxes.data<T>());
  std::vector<T> score = scores.values<T>();
  std::vector<int64_t> result;
  for (const auto& group : by_class(ranking(box, scores.data<T>(), scores.size()), classes))
    soften(box, group, score, o, result);
  const auto at = [&](int64_t i) { return score[static_cast<size_t>(i)]; };
  std::sort(result.begin(), result.end(), [&](int64_t a, int64_t b) { return at(a) != at(b) ? at(a) > at(b) : a < b; });
  std::vector<T> lowered;
  for (const int64_t i : result) lowered.push_back(at(i));
  const Shape shape{static_cast<int64_t>(result.size())};
  return {Tensor::from<int64_t>(shape, result), Tensor::from<T>(shape, lowered)};
}

struct HardOp {
  static constexpr auto name = "nms";
  double threshold;
  Tensor forward(const Tensor& boxes, const Tensor& scores, const Tensor& classes) const {
    if (boxes.device() == Device::cuda) return cuda::nms(boxes, scores, classes, threshold);
    const int64_t* label = classes ? classes.data<int64_t>() : nullptr;
    return dispatch_float(boxes.dtype(), [&]<class T>() { return hard<T>(boxes, scores, label, threshold); });
  }
};
struct SoftOp {
  static constexpr auto name = "soft_nms";
  SoftNmsOptions options;
  std::vector<Tensor> forward(const Tensor& boxes, const Tensor& scores, const Tensor& classes) const {
    if (boxes.device() == Device::cuda) return cuda::soft_nms(boxes, scores, classes, options);
    const int64_t* label = classes ? classes.data<int64_t>() : nullptr;
    return dispatch_float(boxes.dtype(), [&]<class T>() { return soft<T>(boxes, scores, label, options); });
  }
};

void check_inputs(const char* op, const Tensor& boxes, const Tensor& scores, const Tensor& classes) {
  check(boxes.rank() == 2 && boxes.dim(1) == 4 && scores.rank() == 1 && scores.dim(0) == boxes.dim(0) &&
            scores.dtype() == boxes.dtype(),
        op, ": needs boxes [R,4] and scores [R] of one type\n  boxes ", name_of(boxes.dtype()), " ", boxes.shape(),
        "\n  scores ", name_of(scores.dtype()), " ", scores.shape());
  check(!classes || (classes.shape() == scores.shape() && classes.dtype() == DType::i64), op,
        ": classes must be i64 [R], got ", name_of(classes.dtype()), " ", classes.shape());
}

}  // namespace

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& classes, double iou) {
  check_inputs("nms", boxes, scores, classes);
  check(!std::isnan(iou), "nms: an IoU of ", iou);
  return apply(HardOp{iou}, boxes.detach(), scores.detach(), classes);
}
Tensor nms(const Tensor& boxes, const Tensor& scores, double iou) { return batched_nms(boxes, scores, {}, iou); }

SoftNms soft_nms(const Tensor& boxes, const Tensor& scores, const Tensor& classes, SoftNmsOptions o) {
  check_inputs("soft_nms", boxes, scores, classes);
  check(o.sigma > 0, "soft_nms: sigma ", o.sigma, " must be above 0");
  const auto r = apply(SoftOp{o}, boxes.detach(), scores.detach(), classes);
  return {r[0], r[1]};
}

}  // namespace fovea
