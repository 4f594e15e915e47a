// Random tensors, and what tests ask of tensors: how far they are from others, and how spread.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/random.h"
#include "core/tensor.h"
#include "ops/cpu/kernels.h"
#include "tests/catch.h"

namespace fovea::test {

inline bool has_bf16() {  // false: the case says that it is skipped
  if (cpu::kernels().half) return true;
  WARN("skipped: needs avx512_bf16 or AMX");
  return false;
}

inline Tensor random(const Shape& shape, Dice& dice, double mean = 0, double deviation = 1, DType t = DType::f64) {
  Tensor x(shape, DType::f64);
  for (int64_t i = 0; i < x.size(); ++i) x.data<double>()[i] = dice.normal(mean, deviation);
  return x.to(t);
}

// The larger one; NaN is worse than any number, so that no bound holds for it. (std::max(worst, NaN) is worst.)
inline double worse(double worst, double error) { return error > worst || std::isnan(error) ? error : worst; }

inline double largest(const Tensor& t) {  // max |t|
  double most = 0;
  for (int64_t i = 0; i < t.size(); ++i) most = worse(most, std::abs(t.at(i)));
  return most;
}
inline double distance(const Tensor& a, const Tensor& b) {  // max |a - b|
  REQUIRE(a.shape() == b.shape());
  double worst = 0;
  for (int64_t i = 0; i < a.size(); ++i) worst = worse(worst, std::abs(a.at(i) - b.at(i)));
  return worst;
}
inline double difference(const Tensor& a, const Tensor& b) {  // max |a - b| / max |b|
  return distance(a, b) / std::max(largest(b), 1e-30);
}
inline void check_near(const Tensor& a, const Tensor& b) {
  CHECK(difference(a, b) < 1e-4);
  CHECK(largest(b) > 1e-3);
}
inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.size() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0);
}
inline double deviation(const Tensor& t) {  // from 0
  double sum = 0;
  for (int64_t i = 0; i < t.size(); ++i) sum += t.at(i) * t.at(i);
  return std::sqrt(sum / double(t.size()));
}

}  // namespace fovea::test
