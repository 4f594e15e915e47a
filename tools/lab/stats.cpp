// Student's distribution by the incomplete beta function, and the tests built on it.
#include "tools/lab/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/random.h"

namespace fovea::lab {
namespace {

// I_x(a, b) by Lentz's continued fraction (Abramowitz and Stegun 26.5.8), for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  double c = 1, d = 1 / std::max(kTiny, 1 - (a + b) * x / (a + 1)), f = d;
  for (int m = 1; m < 300; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    for (double k : {even, odd}) {
      d = 1 + k * d, d = 1 / (std::abs(d) < kTiny ? kTiny : d);
      c = 1 + k / c, c = std::abs(c) < kTiny ? kTiny : c;
      f *= c * d;
    }
    if (std::abs(c * d - 1) < 1e-15) break;
  }
  return f;
}
double incomplete_beta(double a, double b, double x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

// (mean - bound) / standard error; infinite where all numbers are equal.
double t_of(const Interval& i, double bound) {
  const double over = i.mean - bound, error = i.deviation / std::sqrt(double(i.n));
  if (error > 0) return over / error;
  return over == 0 ? 0 : std::copysign(std::numeric_limits<double>::infinity(), over);
}

}  // namespace

double t_probability(double t, double freedom) {
  if (std::isinf(t)) return t > 0 ? 1 : 0;
  const double tail = 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
  return t > 0 ? 1 - tail : tail;
}

double t_quantile(double part, double freedom) {
  check(part > 0 && part < 1 && freedom > 0, "t_quantile: ", part, " with ", freedom, " degrees of freedom");
  double low = -1, high = 1;
  while (t_probability(low, freedom) > part) low *= 2;
  while (t_probability(high, freedom) < part) high *= 2;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = low + (high - low) / 2;
    (t_probability(middle, freedom) < part ? low : high) = middle;
  }
  return low + (high - low) / 2;
}

Interval interval(const std::vector<double>& x) {
  Interval i{.n = int(x.size())};
  if (x.empty()) return i;
  for (double v : x) i.mean += v / i.n;
  for (double v : x) i.deviation += (v - i.mean) * (v - i.mean);
  i.deviation = i.n > 1 ? std::sqrt(i.deviation / (i.n - 1)) : 0;
  const double infinite = std::numeric_limits<double>::infinity();
  const double half = i.n > 1 ? t_quantile(0.975, i.n - 1) * i.deviation / std::sqrt(double(i.n)) : infinite;
  i.low = i.mean - half, i.high = i.mean + half;
  return i;
}

double t_test_above(const std::vector<double>& d, double bound) {
  if (d.size() < 2) return 1;
  return t_probability(-t_of(interval(d), bound), double(d.size()) - 1);  // 1 - P would lose the digits of a small p
}

constexpr size_t kExact = 20;  // with so many seeds all patterns are tried
constexpr int64_t kPatterns = 100000;

double sign_flip_above(const std::vector<double>& d) {
  const size_t n = d.size();
  double observed = 0, size = 0;
  for (double v : d) observed += v, size += std::abs(v);
  const double enough = observed - 1e-12 * size;  // equal sums, added in another order
  const bool exact = n <= kExact;
  const int64_t patterns = exact ? int64_t{1} << n : kPatterns;
  Dice dice(0x5167);
  int64_t reached = exact ? 0 : 1;  // the observed pattern is one of the random ones
  for (int64_t pattern = 0; pattern < patterns; ++pattern) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += (exact ? (pattern >> i & 1) == 1 : dice.chance(0.5)) ? -d[i] : d[i];
    reached += sum >= enough;
  }
  return double(reached) / double(exact ? patterns : patterns + 1);
}

double sign_flip_least(int n) { return 1 / (n <= int(kExact) ? std::ldexp(1.0, n) : double(kPatterns + 1)); }

double equivalence(const std::vector<double>& d, double margin) {
  std::vector<double> mirrored;
  for (double v : d) mirrored.push_back(-v);
  return std::max(t_test_above(d, -margin), t_test_above(mirrored, -margin));
}

Verdict judge(const std::vector<double>& d, double margin) {
  if (d.size() < 2) return Verdict::not_decided;
  const Interval i = interval(d);
  if (margin > 0) {
    if (equivalence(d, margin) < 0.05) return Verdict::reproduced;
    return i.low > margin || i.high < -margin ? Verdict::not_reproduced : Verdict::not_decided;
  }
  return i.low > 0 ? Verdict::reproduced : i.high < 0 ? Verdict::not_reproduced : Verdict::not_decided;
}

std::string name_of(Verdict verdict, int seeds) {
  if (verdict == Verdict::not_decided)
    return "not decided at " + std::to_string(seeds) + (seeds == 1 ? " seed" : " seeds");
  return verdict == Verdict::reproduced ? "reproduced" : "not reproduced";
}

}  // namespace fovea::lab
