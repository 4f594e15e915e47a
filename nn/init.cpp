// Initialisers: one Philox number an element, computed in f64 and rounded to the tensor's type.
#include "nn/init.h"

#include <cmath>

#include "core/threads.h"

namespace fovea {

Fan::Fan(const Shape& weight) {
  check(weight.rank() >= 2, "init: a weight of shape ", weight,
        " has no inputs and outputs; it needs two axes or more");
  const double field = static_cast<double>(weight.span(0, weight.rank() - 2));
  in = field * static_cast<double>(weight[-2]);
  out = field * static_cast<double>(weight[-1]);
}

static thread_local bool unset = false;
Uninitialised::Uninitialised() : outer_(unset) { unset = true; }
Uninitialised::~Uninitialised() { unset = outer_; }

template <class Draw> static void fill(Tensor& w, const Draw& draw) {
  if (unset) return;
  check(w.device() == Device::cpu, "init: the tensor is on ", name_of(w.device()),
        ", the numbers are made on the processor\n  hint: fill it there, then move_to() the device");
  dispatch_float(w.dtype(), [&]<class T>() {
    T* p = w.data<T>();
    parallel_for(w.size(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) p[i] = static_cast<T>(draw(static_cast<uint64_t>(i)));
    });
  });
  w.touch();
}

void constant_(Tensor w, double value) { w.fill(value); }
void uniform_(Tensor w, Philox random, double low, double high) {
  fill(w, [&](uint64_t i) { return low + (high - low) * random.uniform64(i); });
}
void normal_(Tensor w, Philox random, double mean, double deviation) {
  fill(w, [&](uint64_t i) { return mean + deviation * random.normal(i); });
}
void kaiming_normal_(Tensor w, Philox random, bool fan_out) {
  const Fan fan(w.shape());
  normal_(w, random, 0, std::sqrt(2 / (fan_out ? fan.out : fan.in)));
}
void kaiming_uniform_(Tensor w, Philox random, double a) {
  const double bound = std::sqrt(6 / ((1 + a * a) * Fan(w.shape()).in));
  uniform_(w, random, -bound, bound);
}
void xavier_uniform_(Tensor w, Philox random) {
  const Fan fan(w.shape());
  const double bound = std::sqrt(6 / (fan.in + fan.out));
  uniform_(w, random, -bound, bound);
}

}  // namespace fovea
