// Dropout: four elements share one block of random bits; the backward pass draws the same ones again.
#include "ops/dropout.h"

#include "core/loops.h"
#include "core/random.h"

namespace fovea {

namespace {

template <class T> struct Drop {  // y = x [u >= p] / (1 - p), u uniform in [0, 1)
  const T* x;
  T* y;
  Philox random;
  float p, factor;
  HD void one(int64_t i, uint32_t bits) const {
    const T kept = T(compute_t<T>(x[i]) * compute_t<T>(factor));
    y[i] = float(bits >> 8) * 0x1p-24f >= p ? kept : T(0);
  }
  HD void operator()(int64_t block) const {
    const Philox::Block u = random.block(uint64_t(block));
    for (int k = 0; k < 4; ++k) one(4 * block + k, u.v[k]);
  }
};
template <class T> struct DropRest {  // the last elements, less than a block
  Drop<T> drop;
  int64_t first;
  HD void operator()(int64_t i) const { drop.one(first + i, drop.random.bits(uint64_t(first + i))); }
};

struct Dropout {
  static constexpr auto name = "dropout";
  double p;
  Philox random;

  Tensor forward(const Tensor& x) const {
    Tensor y = empty_like(x);
    dispatch_storage(x.dtype(), [&]<class T>() {
      const Drop<T> drop{x.data<T>(), y.data<T>(), random, float(p), float(1 / (1 - p))};
      for_each(x.device(), x.size() / 4, drop);
      for_each(x.device(), x.size() % 4, DropRest<T>{drop, x.size() / 4 * 4});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const { g[0] = forward(dy); }  // linear in x, with a diagonal matrix
};

}  // namespace

Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  check(p >= 0 && p < 1, "dropout: the probability must be in [0, 1), got ", p);
  if (p == 0) return x;
  return apply(Dropout{p, Philox{seed, stream}}, x);
}

}  // namespace fovea
