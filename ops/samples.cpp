// Random inputs for the rows of the op table.
#include "ops/samples.h"

#include <algorithm>

namespace fovea {

Tensor Draw::normal(const Shape& shape, double deviation) {
  Tensor t(shape, DType::f64);
  for (int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = dice.normal(0, deviation);
  return t;
}
Tensor Draw::uniform(const Shape& shape, double low, double high) {
  Tensor t(shape, DType::f64);
  for (int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = dice.uniform(low, high);
  return t;
}
Tensor Draw::away(const Shape& shape, double gap) {
  Tensor t = normal(shape);
  for (int64_t i = 0; i < t.size(); ++i) {
    double& x = t.data<double>()[i];
    x += x < 0 ? -gap : gap;
  }
  return t;
}
Tensor Draw::distinct(const Shape& shape) {
  Tensor t(shape, DType::f64);
  double* x = t.data<double>();
  for (int64_t i = 0; i < t.size(); ++i) x[i] = 0.1 * double(i - t.size() / 2) + 0.03;
  for (int64_t i = t.size(); i-- > 1;) std::swap(x[i], x[dice.integer(0, i)]);
  return t;
}
Tensor Draw::indices(const Shape& shape, int64_t low, int64_t high) {
  Tensor t(shape, DType::i64);
  for (int64_t i = 0; i < t.size(); ++i) t.data<int64_t>()[i] = dice.integer(low, high);
  return t;
}
Tensor Draw::boxes(int64_t n, double extent) {
  Tensor t({n, 4}, DType::f64);
  for (int64_t i = 0; i < n; ++i) {
    double* b = t.data<double>() + 4 * i;
    b[0] = dice.uniform(0, extent), b[1] = dice.uniform(0, extent);
    b[2] = b[0] + dice.uniform(extent / 20, extent), b[3] = b[1] + dice.uniform(extent / 20, extent);
  }
  return t;
}

std::vector<int> Draw::axes(int rank) {
  std::vector<int> some;
  for (int a = 0; a < rank; ++a)
    if (dice.chance(0.5)) some.insert(some.begin() + dice.integer(0, int64_t(some.size())), a);
  return some;
}
std::vector<Tensor> Draw::pair(double gap) {
  const Shape whole{size(0, 3), size(1, 4), size(1, 5)};
  Shape part[2] = {whole, whole};
  for (Shape& s : part) {
    if (dice.chance(0.4)) continue;
    for (int a = 0; a < 3; ++a)
      if (dice.chance(0.5)) s = s.with(a, 1);
    const auto dims = s.dims();
    int64_t lead = 0;  // leading axes of 1 may be left out
    while (lead < 3 && dims[lead] == 1 && dice.chance(0.7)) ++lead;
    s = Shape(dims.data() + lead, dims.data() + 3);
  }
  Tensor a = normal(part[0]), b = normal(part[1]);
  if (gap > 0) {  // |a| has even multiples of the gap, |b| odd ones
    for (Tensor* t : {&a, &b})
      for (int64_t i = 0; i < t->size(); ++i) {
        double& x = t->data<double>()[i];
        x = gap * (2 * std::round(x / (2 * gap)) + (t == &b));
      }
  }
  return {a, b};
}

}  // namespace fovea
