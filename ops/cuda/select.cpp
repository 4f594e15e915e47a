// top_k on a device: a list of the best where one holds them, otherwise all are sorted. And both
// suppressions, which rank by it.
#include "ops/cuda/select.h"

#include "ops/cuda/soften.h"
#include "ops/cuda/suppress.h"

namespace fovea::cuda {
namespace {

struct Places {
  const uint64_t* keys;
  int64_t* at;
  HD void operator()(int64_t i) const { at[i] = place_of(keys[i]); }
};
struct RankedPlaces {
  const Ranked* ranked;
  int64_t* at;
  HD void operator()(int64_t i) const { at[i] = ranked[i].place; }
};
template <class Word> struct Pick {  // bits: a NaN keeps its own
  const Word* x;
  const int64_t* at;
  Word* y;
  HD void operator()(int64_t i) const { y[i] = x[at[i]]; }
};

template <class Word> std::vector<Tensor> select(const Tensor& x, int64_t k) {
  const Device device = x.device();
  Tensor values({k}, x.dtype(), device), indices({k}, DType::i64, device);
  if (k == 0) return {values, indices};
  const auto* bits = static_cast<const Word*>(x.raw());
  int64_t* at = indices.data<int64_t>();
  if (sizeof(Word) == 4 && k <= kBest && x.size() < int64_t{1} << 32) {
    const Tensor keys = best_keys(device, 1, AllScores{static_cast<const uint32_t*>(x.raw()), x.size()});
    for_each(device, k, Places{static_cast<const uint64_t*>(keys.raw()), at});
  } else {
    const Tensor ranked = sorted(device, bits, x.size());
    for_each(device, k, RankedPlaces{static_cast<const Ranked*>(ranked.raw()), at});
  }
  for_each(device, k, Pick<Word>{bits, at, static_cast<Word*>(values.raw())});
  return {values, indices};
}

template <class T> struct Scored : Candidate<T> { T score; };
template <class Item> struct Prepare {
  using T = typename Item::Number;
  const Box<T>* boxes;
  const T* scores;
  const int64_t* classes;  // or null
  Item* all;
  T* ranked;  // of items without scores: boxes that must not be kept have NaN here, so they are the last
  HD void operator()(int64_t i) const {
    const Box<T> b = boxes[i];
    const T sum = b.x1 + b.y1 + b.x2 + b.y2, score = scores[i];
    const bool usable = score == score && sum == sum;
    Item& to = all[i];
    to.box = b, to.label = classes ? classes[i] : 0, to.index = usable ? i : -1;
    if constexpr (requires { to.score; }) to.score = score;
    else ranked[i] = usable ? score : T(NAN);
  }
};
template <class T> struct Indices {
  const Candidate<T>* kept;
  int64_t* out;
  HD void operator()(int64_t i) const { out[i] = kept[i].index; }
};
template <class T> struct Lowered {
  const Scored<T>* taken;
  T* scores;
  HD void operator()(int64_t i) const {
    if (!taken[i].none()) scores[taken[i].index] = taken[i].score;
  }
};

template <class Item> Item* items(const Tensor& t) { return static_cast<Item*>(t.raw()); }
template <class Item>
Tensor prepare(const Tensor& boxes, const Tensor& scores, const Tensor& classes, typename Item::Number* ranked) {
  using T = typename Item::Number;
  const Tensor all({scores.size(), sizeof(Item) / 8}, DType::i64, scores.device());
  const int64_t* labels = classes ? classes.data<int64_t>() : nullptr;
  const Prepare<Item> body{items<Box<T>>(boxes), scores.data<T>(), labels, items<Item>(all), ranked};
  for_each(scores.device(), scores.size(), body);
  return all;
}

template <class T> Tensor stay(const Tensor& boxes, const Tensor& scores, const Tensor& classes, T iou) {
  const Device device = scores.device();
  const int64_t n = scores.size();
  const Tensor ranked = empty_like(scores), found = Tensor::zeros({1}, DType::i64, device);
  const Tensor all = prepare<Candidate<T>>(boxes, scores, classes, ranked.data<T>()), kept = empty_like(all);
  const Tensor order = top_k(ranked, n)[1];
  auto* out = items<Candidate<T>>(kept);
  suppress(device, items<Candidate<T>>(all), order.data<int64_t>(), n, iou, out, n, found.data<int64_t>());
  Tensor indices({found.values<int64_t>()[0]}, DType::i64, device);
  for_each(device, indices.size(), Indices<T>{out, indices.data<int64_t>()});
  return indices;
}

// Sorted in the end: a negative score is lowered to a better one.
template <class T>
std::vector<Tensor> soften(const Tensor& boxes, const Tensor& scores, const Tensor& classes, const SoftNmsOptions& o) {
  using Item = Scored<T>;
  const Device device = scores.device();
  const int64_t n = scores.size();
  const Tensor found = Tensor::zeros({1}, DType::i64, device), lowered = Tensor::full({n}, NAN, scores.dtype(), device);
  const Tensor all = prepare<Item>(boxes, scores, classes, nullptr), taken = empty_like(all);
  for_tiles(device, 1, Soften<Item>{items<Item>(all), n, o, items<Item>(taken), n, found.data<int64_t>()});
  for_each(device, n, Lowered<T>{items<Item>(taken), lowered.data<T>()});
  const std::vector<Tensor> best = top_k(lowered, n);
  const int64_t count = found.values<int64_t>()[0];
  return {best[1].rows(0, count), best[0].rows(0, count)};
}

}  // namespace

std::vector<Tensor> top_k(const Tensor& x, int64_t k) {
  return dispatch_float(
      x.dtype(), [&]<class T>() { return select<std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>>(x, k); });
}

Tensor nms(const Tensor& boxes, const Tensor& scores, const Tensor& classes, double iou) {
  if (scores.size() == 0) return Tensor({0}, DType::i64, scores.device());
  return dispatch_float(scores.dtype(), [&]<class T>() { return stay(boxes, scores, classes, T(iou)); });
}

std::vector<Tensor> soft_nms(const Tensor& boxes, const Tensor& scores, const Tensor& classes,
                             const SoftNmsOptions& options) {
  return dispatch_float(scores.dtype(), [&]<class T>() { return soften<T>(boxes, scores, classes, options); });
}

}  // namespace fovea::cuda
