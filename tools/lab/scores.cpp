// Walks the scores from the highest down, groups of equal ones at a time.
#include "tools/lab/scores.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fovea::lab {
namespace {

// seen(positives before, negatives before, positives in the group, negatives in the group)
template <class F> void walk(std::vector<std::pair<double, bool>> all, F seen) {
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.first > b.first; });
  double up = 0, down = 0;
  for (size_t i = 0; i < all.size();) {
    double p = 0, n = 0;
    for (const double score = all[i].first; i < all.size() && all[i].first == score; ++i) (all[i].second ? p : n) += 1;
    seen(up, down, p, n);
    up += p, down += n;
  }
}

}  // namespace

void Scores::add(double probability, bool positive) {
  check(Code::not_finite, std::isfinite(probability), "the score of a picture is not finite");
  all_.push_back({probability, positive});
}

double Scores::auc() const {
  double area = 0, positives = 0, negatives = 0;
  walk(all_, [&](double up, double down, double p, double n) {
    area += n * (up + p / 2), positives = up + p, negatives = down + n;
  });
  return area / (positives * negatives);
}

double Scores::average_precision() const {
  double sum = 0, positives = 0;
  walk(all_, [&](double up, double down, double p, double n) {
    if (p > 0) sum += p * (up + p) / (up + p + down + n);
    positives = up + p;
  });
  return sum / positives;
}

std::vector<Scores::Bin> Scores::bins() const {
  std::vector<Bin> all(10);
  for (auto& [probability, positive] : all_) {
    Bin& bin = all[size_t(std::clamp(int(probability * 10), 0, 9))];
    bin.confidence += probability, bin.positives += positive, bin.count += 1;
  }
  for (Bin& bin : all)
    if (bin.count > 0) bin.confidence /= bin.count, bin.positives /= bin.count;
  return all;
}

double Scores::ece() const {
  double sum = 0;
  for (const Bin& bin : bins()) sum += bin.count * std::abs(bin.confidence - bin.positives);
  return sum / double(all_.size());
}

Metrics Scores::metrics() const {
  Metrics m{{"auc", {auc()}}, {"ap", {average_precision()}}, {"ece", {ece()}}};
  for (const Bin& bin : bins())
    m["confidence"].push_back(bin.confidence), m["frequency"].push_back(bin.positives), m["count"].push_back(bin.count);
  return m;
}

}  // namespace fovea::lab
