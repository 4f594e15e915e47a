// top_k on a device: a list of the best where one holds them, otherwise all are sorted. And nms, which ranks by it.
#include "ops/cuda/select.h"

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

template <class T> struct Prepare {  // boxes that must not be kept have NaN for a score, so they are the last
  const Box<T>* boxes;
  const T* scores;
  const int64_t* classes;  // or null
  Candidate<T>* all;
  T* ranked;
  HD void operator()(int64_t i) const {
    const Box<T> b = boxes[i];
    const T sum = b.x1 + b.y1 + b.x2 + b.y2, score = scores[i];
    const bool usable = score == score && sum == sum;
    Candidate<T>& to = all[i];
    to.box = b, to.label = classes ? classes[i] : 0, to.index = usable ? i : -1;
    ranked[i] = usable ? score : T(NAN);
  }
};
template <class T> struct Indices {
  const Candidate<T>* kept;
  int64_t* out;
  HD void operator()(int64_t i) const { out[i] = kept[i].index; }
};

template <class T> Tensor stay(const Tensor& boxes, const Tensor& scores, const Tensor& classes, T iou) {
  const Device device = scores.device();
  const int64_t n = scores.size();
  const Tensor all({n, sizeof(Candidate<T>) / 8}, DType::i64, device),
      kept = empty_like(all), ranked = empty_like(scores), found = Tensor::zeros({1}, DType::i64, device);
  const auto items = [](const Tensor& t) { return static_cast<Candidate<T>*>(t.raw()); };
  const int64_t* labels = classes ? classes.data<int64_t>() : nullptr;
  const auto* box = static_cast<const Box<T>*>(boxes.raw());
  for_each(device, n, Prepare<T>{box, scores.data<T>(), labels, items(all), ranked.data<T>()});
  const Tensor order = top_k(ranked, n)[1];
  suppress(device, items(all), order.data<int64_t>(), n, iou, items(kept), n, found.data<int64_t>());
  Tensor out({found.values<int64_t>()[0]}, DType::i64, device);
  for_each(device, out.size(), Indices<T>{items(kept), out.data<int64_t>()});
  return out;
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

}  // namespace fovea::cuda
