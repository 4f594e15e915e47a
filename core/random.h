// Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): a pure function of (seed, stream, index), no
// state.
#pragma once
#include <cmath>
#include <cstdint>

#include "core/platform.h"

namespace fovea {

struct Philox {
  struct Block {
    uint32_t v[4];
  };
  uint64_t seed = 0, stream = 0;

  HD Block block(uint64_t counter) const {
    uint32_t a = uint32_t(counter), b = uint32_t(counter >> 32), c = uint32_t(stream), d = uint32_t(stream >> 32);
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53} * a, p1 = uint64_t{0xCD9E8D57} * c;
      a = uint32_t(p1 >> 32) ^ b ^ k0, b = uint32_t(p1), c = uint32_t(p0 >> 32) ^ d ^ k1, d = uint32_t(p0);
      k0 += 0x9E3779B9, k1 += 0xBB67AE85;
    }
    return {{a, b, c, d}};
  }
  HD uint32_t bits(uint64_t i) const { return block(i / 4).v[i % 4]; }
  HD float uniform(uint64_t i) const { return float(bits(i) >> 8) * 0x1p-24f; }  // [0, 1)
  HD double uniform64(uint64_t i) const {                                        // [0, 1), 53 bits
    const Block b = block(i);
    return double((uint64_t(b.v[0]) << 21) ^ (b.v[1] >> 11)) * 0x1p-53;
  }
  HD double normal(uint64_t i) const {  // N(0,1) by Box-Muller
    const Block b = block(i);
    const double u = (double(b.v[0]) + 0.5) * 0x1p-32, v = double(b.v[1]) * 0x1p-32;
    return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v);
  }
  HD uint64_t below(uint64_t i, uint64_t n) const { return uint64_t(uniform64(i) * double(n)); }  // 0..n-1
};

// A walk along one stream, for code that draws one number after another on the host.
class Dice {
 public:
  explicit Dice(uint64_t seed, uint64_t stream = 0) : philox_{seed, stream} {}
  double uniform(double low = 0, double high = 1) { return low + (high - low) * philox_.uniform64(next_++); }
  double normal(double mean = 0, double deviation = 1) { return mean + deviation * philox_.normal(next_++); }
  int64_t integer(int64_t low, int64_t high) {
    return low + int64_t(philox_.below(next_++, uint64_t(high - low + 1)));
  }  // both included
  bool chance(double p) { return uniform() < p; }

 private:
  Philox philox_;
  uint64_t next_ = 0;
};

}  // namespace fovea
