// top_k on a device: a list of the best where one holds them, otherwise all are sorted.
#include "ops/cuda/select.h"

#include "ops/cuda/best.h"

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

}  // namespace

std::vector<Tensor> top_k(const Tensor& x, int64_t k) {
  if (k == 0) return {Tensor({0}, x.dtype(), x.device()), Tensor({0}, DType::i64, x.device())};
  return x.dtype() == DType::f64 ? select<uint64_t>(x, k) : select<uint32_t>(x, k);
}

}  // namespace fovea::cuda
