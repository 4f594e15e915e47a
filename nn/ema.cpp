// The moving average of the weights.
#include "nn/ema.h"

#include <algorithm>

#include "core/loops.h"
#include "nn/many.h"

namespace fovea {

namespace {
template <class T> struct Approach {  // a += rate (w - a)
  T* a;
  const T* w;
  T rate;
  HD void operator()(int64_t i) const { a[i] += rate * (w[i] - a[i]); }
};
template <class T> struct Exchange {
  T *a, *b;
  HD void operator()(int64_t i) const {
    const T t = a[i];
    a[i] = b[i], b[i] = t;
  }
};
}  // namespace

Ema::Ema(const Module& model, double decay, bool warm_up) : weights_(model.state()), decay_(decay), warm_up_(warm_up) {
  check(Code::usage, decay >= 0 && decay < 1, "ema: the decay ", decay, " is not in [0, 1)");
  for (auto& w : weights_) average_.push_back({w.name, w.value.clone(), w.layout});
}

void Ema::update(int64_t step) {
  const double t = static_cast<double>(step);
  const double decay = warm_up_ ? std::min(decay_, (1 + t) / (10 + t)) : decay_;
  std::vector<Tensor> averages, weights;
  for (size_t i = 0; i < weights_.size(); ++i) {
    Tensor &a = average_[i].value, &w = weights_[i].value;
    check(a.device() == w.device(), "ema: the weight ", weights_[i].name, " is on ", name_of(w.device()),
          ", its average is not\n  hint: move_to() before the Ema is made");
    if (is_float(a.dtype())) averages.push_back(a), weights.push_back(w);
    else a.copy_from(w);
  }
  for_many(averages, [&]<class T>(size_t i) {
    return Approach<T>{averages[i].data<T>(), weights[i].data<T>(), T(1 - decay)};
  });
  for (Tensor& a : averages) a.touch();
}

void Ema::exchange() {
  for (size_t i = 0; i < weights_.size(); ++i) {
    Tensor &a = average_[i].value, &w = weights_[i].value;
    dispatch_any(a.dtype(), [&]<class T>() { for_each(a.device(), a.size(), Exchange<T>{a.data<T>(), w.data<T>()}); });
    a.touch(), w.touch();
  }
}

}  // namespace fovea
