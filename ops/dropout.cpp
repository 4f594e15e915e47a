// Dropout: eight elements share one block of random bits, 16 each; the backward pass draws the same ones again.
#include "ops/dropout.h"

#include <algorithm>
#include <cmath>

#include "core/loops.h"
#include "core/random.h"

namespace fovea {

namespace {

template <class T> struct Drop {  // y = x [u >= level] factor, u uniform in 0..2^16-1
  const T* x;
  T* y;
  const Philox* random;  // in memory: its stream is another one each step
  uint32_t level;
  float factor;
  HD void one(int64_t i, uint32_t u) const {
    const T kept = T(compute_t<T>(x[i]) * compute_t<T>(factor));
    y[i] = u >= level ? kept : T(0);
  }
  HD void operator()(int64_t block) const {
    const Philox::Block u = random->block(uint64_t(block));
    for (int k = 0; k < 4; ++k) one(8 * block + 2 * k, u.v[k] & 0xffff), one(8 * block + 2 * k + 1, u.v[k] >> 16);
  }
};
template <class T> struct DropRest {  // the last elements, less than a block
  Drop<T> drop;
  int64_t first;
  HD void operator()(int64_t i) const {
    drop.one(first + i, drop.random->bits(uint64_t(first + i) / 2) >> i % 2 * 16 & 0xffff);
  }
};

struct Dropout {
  static constexpr auto name = "dropout";
  double p;
  Tensor random;  // a Philox, where x is

  Tensor forward(const Tensor& x) const {
    Tensor y = empty_like(x);
    const auto* philox = static_cast<const Philox*>(random.raw());
    dispatch_storage(x.dtype(), [&]<class T>() {
      const double level = std::min(std::round(p * 65536), 65535.0);  // the factor is of this p, so the mean is kept
      const Drop<T> drop{x.data<T>(), y.data<T>(), philox, uint32_t(level), float(65536 / (65536 - level))};
      for_each(x.device(), x.size() / 8, drop);
      for_each(x.device(), x.size() % 8, DropRest<T>{drop, x.size() / 8 * 8});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const { g[0] = forward(dy); }  // linear in x, with a diagonal matrix
};

}  // namespace

Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  check_float("dropout", x);
  check(p >= 0 && p < 1, "dropout: the probability must be in [0, 1), got ", p);
  if (p == 0) return x;
  const Tensor random = Tensor::from<int64_t>({2}, {int64_t(seed), int64_t(stream)});
  return apply(Dropout{p, random.to(x.device())}, x);
}

}  // namespace fovea
