// The statistics of the experiments: intervals and tests for pairs of runs that share a seed.
#pragma once
#include <string>
#include <vector>

namespace fovea::lab {

double t_probability(double t, double freedom);  // P(T <= t) of Student's distribution
double t_quantile(double part, double freedom);  // its inverse, 0 < part < 1

// Of numbers x: mean and the 95 % interval of Student's t (infinitely wide for one number).
struct Interval {
  int n = 0;
  double mean = 0, deviation = 0, low = 0, high = 0;
};
Interval interval(const std::vector<double>& x);

// P values of differences d against "their mean is not above `bound`".
double t_test_above(const std::vector<double>& d, double bound = 0);
// The same from flipping signs (Fisher): of all 2^n patterns, the part whose mean is at least the observed one. Exact
// to n = 20, from 100,000 random patterns and the observed one above.
double sign_flip_above(const std::vector<double>& d);
double sign_flip_least(int n);  // below which it cannot fall for n seeds: 2^-n, or 1 / 100,001
// Two one-sided tests (Schuirmann 1987) against "|mean| is at least margin".
double equivalence(const std::vector<double>& d, double margin);

enum class Verdict { reproduced, not_reproduced, not_decided };
// margin 0, the claim "above": the 95 % interval of d is above 0, below 0, or neither. Otherwise the claim "within the
// margin": equivalence at 5 %, the 95 % interval outside the margin, or neither.
Verdict judge(const std::vector<double>& d, double margin);
std::string name_of(Verdict verdict, int seeds);  // "reproduced", "not decided at 3 seeds"

}  // namespace fovea::lab
