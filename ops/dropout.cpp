// Dropout: four elements share one block of random bits; the backward pass draws the same ones again.
#include "ops/dropout.h"

#include "core/loops.h"
#include "core/random.h"

namespace fovea {

namespace {

template <class T> struct Drop {  // y = x [u >= p] / (1 - p), u uniform in [0, 1)
  const T* x;
  T* y;
  int64_t n;
  Philox random;
  float p, factor;
  HD void operator()(int64_t block) const {
    const Philox::Block u = random.block(uint64_t(block));
    for (int64_t i = 4 * block, k = 0; k < 4 && i + k < n; ++k) {
      const bool keep = float(u.v[k] >> 8) * 0x1p-24f >= p;
      y[i + k] = keep ? T(compute_t<T>(x[i + k]) * compute_t<T>(factor)) : T(0);
    }
  }
};

struct Dropout {
  static constexpr auto name = "dropout";
  double p;
  Philox random;

  Tensor forward(const Tensor& x) const {
    Tensor y = empty_like(x);
    dispatch_storage(x.dtype(), [&]<class T>() {
      for_each(x.device(), (x.size() + 3) / 4,
               Drop<T>{x.data<T>(), y.data<T>(), x.size(), random, float(p), float(1 / (1 - p))});
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
