// Random inputs for the rows of the op table.
#include "ops/draw.h"

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

}  // namespace fovea
