// What a row of the op table (op_cases.cpp) is made of: a named way to draw random inputs and to call the op on them.
#pragma once
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"

namespace fovea {

// One drawn call. `inputs` are f64 (differentiated where the op has a gradient) or i64/u8 (indices, masks: never).
struct OpSample {
  std::vector<Tensor> inputs;
  std::function<Tensor(const std::vector<Tensor>&)> run;  // several outputs: concatenated or summed
};

// What a row draws from: sizes with the edges 0 or 1 over-represented, and values that keep away from kinks.
class Draw {
 public:
  explicit Draw(uint64_t seed, int64_t scale = 1, int64_t step = 1) : dice(seed), scale(scale), step(step) {}
  Dice dice;
  int64_t scale;                             // 1 for checks; otherwise sizes are high * scale
  int64_t step;                              // and, from this size on, rounded up to a multiple of it
  int64_t size(int64_t low, int64_t high) {  // `low` itself every fourth time
    const int64_t n = dice.chance(0.25) ? low : dice.integer(low, high), large = high * scale;
    return scale == 1 ? n : large < step ? large : (large + step - 1) / step * step;
  }
  int64_t pick(int64_t low, int64_t high) { return dice.integer(low, high); }  // an option: never scaled
  Shape shape() { return {size(0, 3), size(1, 5), size(1, 4)}; }
  std::vector<int> axes(int rank);                          // some of 0..rank-1, shuffled; none is all
  Tensor normal(const Shape& shape, double deviation = 1);  // N(0, deviation^2)
  Tensor uniform(const Shape& shape, double low, double high);
  Tensor away(const Shape& shape, double gap = 0.05);             // N(0,1) pushed at least `gap` away from 0
  Tensor distinct(const Shape& shape);                            // a shuffle of evenly spaced values: no ties for max
  Tensor indices(const Shape& shape, int64_t low, int64_t high);  // i64 in [low, high]
  std::vector<Tensor> pair(
      double gap = 0);                     // two tensors that broadcast, every way; with a gap |a - b|, |a + b| >= gap
  Tensor boxes(int64_t n, double extent);  // [n,4] x1,y1,x2,y2 with sides of at least extent / 20
};

struct OpCase {
  std::string name;  // of the op, as profiler and errors show it
  std::function<OpSample(Draw&)> make;
};

}  // namespace fovea
