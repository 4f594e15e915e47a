// Top k in one pass: whatever beats the k-th best so far goes into a buffer, which is cut back to the best k when full.
#include "ops/topk.h"

#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/loops.h"
#include "ops/cuda/select.h"

namespace fovea {
namespace {

template <class T> struct Entry {
  T value;
  int64_t index;
  bool operator<(const Entry& o) const { return value != o.value ? value > o.value : index < o.index; }  // better first
};

template <class T> struct Select {
  const T* x;
  int64_t n;
  size_t k;
  std::vector<Entry<T>>* best;  // ends with the best k entries, unordered; NaN left out
  void cut() const {
    std::nth_element(best->begin(), best->begin() + static_cast<std::ptrdiff_t>(k), best->end());
    best->resize(k);
  }
  void operator()(int64_t) const {
    constexpr int64_t kBlock = 64;
    bool full = false;  // k entries are known, the worst of them is `bar`: a later equal value loses to it
    T bar{};
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t end = begin + kBlock < n ? begin + kBlock : n;
      if (full) {
        int any = 0;
        for (int64_t i = begin; i < end; ++i) any |= x[i] > bar;
        if (!any) continue;
      }
      for (int64_t i = begin; i < end; ++i)
        if (full ? x[i] > bar : x[i] == x[i]) best->push_back({x[i], i});
      if (best->size() < 2 * k + kBlock) continue;
      cut();
      full = true;
      bar = std::max_element(best->begin(), best->end())->value;
    }
    if (best->size() > k) cut();
  }
};

template <class T> std::vector<Tensor> select(const Tensor& x, int64_t k) {
  const T* p = x.data<T>();
  std::vector<Entry<T>> best;
  best.reserve(static_cast<size_t>(std::min(2 * k + 128, x.size())));
  if (k > 0) detail::run_each(Select<T>{p, x.size(), static_cast<size_t>(k), &best}, 0, 1);
  std::sort(best.begin(), best.end());
  Tensor values({k}, x.dtype()), indices({k}, DType::i64);
  T* v = values.data<T>();
  int64_t* at = indices.data<int64_t>();
  int64_t count = 0;
  for (const auto& e : best) v[count] = e.value, at[count++] = e.index;
  for (int64_t i = 0; count < k; ++i)  // too few numbers: the NaNs, in order
    if (p[i] != p[i]) v[count] = p[i], at[count++] = i;
  return {values, indices};
}

struct TopKOp {
  static constexpr auto name = "top_k";
  int64_t k;
  std::vector<Tensor> forward(const Tensor& x) const {
    const int64_t found = std::min(k, x.size());
    if (x.device() == Device::cuda) return cuda::top_k(x, found);
    return dispatch_float(x.dtype(), [&]<class T>() { return select<T>(x, found); });
  }
};

}  // namespace

TopK top_k(const Tensor& x, int64_t k) {
  check(x.rank() == 1 && k >= 0, "top_k: needs x [n] and k >= 0, got ", x.shape(), " and ", k);
  const auto r = apply(TopKOp{k}, x.detach());
  return {r[0], r[1]};
}

}  // namespace fovea
