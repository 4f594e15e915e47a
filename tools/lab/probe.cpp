// Sums over the terms of a class loss; losses are the engine's own, term by term.
#include "tools/lab/probe.h"

#include <algorithm>
#include <cmath>

#include "ops/shape.h"
#include "tools/lab/terms.h"

namespace fovea::lab {

void Probe::add(const ClassTerms& terms) {
  const int64_t classes = terms.logits.dim(2), count = terms.logits.size();
  Tensor own({count, 1}, DType::i64);  // an image a term: the op's sums are then each term's
  for (int64_t i = 0; i < count; ++i) {
    const int64_t label = terms.labels.data<int64_t>()[i / classes];
    own.data<int64_t>()[i] = label == -2 ? -2 : label == i % classes ? 0 : -1;
  }
  const Tensor x = terms.logits.to(DType::f64);
  const Tensor loss = class_loss_of(loss_, reshape(x, {count, 1, 1}), own);
  const Tensor slope = terms.gradient ? terms.gradient.to(DType::f64) : Tensor();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t label = own.data<int64_t>()[i];
    if (label == -2) continue;
    const double xt = label == 0 ? x.data<double>()[i] : -x.data<double>()[i], pt = 1 / (1 + std::exp(-xt));
    const int bin = std::clamp(int(std::floor((xt - kLowest) / kBinWidth)), 0, kBins - 1);
    (label == 0 ? positive_ : negative_)[size_t(bin)] += 1;
    deciles_[size_t(std::clamp(int(pt * 10), 0, 9))] += loss.data<double>()[i];
    if (slope) (label == 0 ? own_ : pt >= 0.9 ? easy_ : hard_) += std::abs(slope.data<double>()[i]);
  }
}

void Probe::write_shares(Metrics& m) const {
  const double gradient = std::max(1e-300, easy_ + hard_ + own_);
  m["easy_negatives"].push_back(easy_ / gradient), m["hard_negatives"].push_back(hard_ / gradient);
  m["positives_share"].push_back(own_ / gradient);
  double loss = 1e-300;
  for (double v : deciles_) loss += v;
  for (double v : deciles_) m["deciles"].push_back(v / loss);
}

void Probe::write_histograms(Metrics& m) const {
  m["positive_histogram"] = positive_, m["negative_histogram"] = negative_;
  const LossCurve up0 = loss_curve(positive_, 0), up2 = loss_curve(positive_, 2);
  const LossCurve down0 = loss_curve(negative_, 0), down2 = loss_curve(negative_, 2);
  m["hardest_fifth"] = {up2.hardest(0.2)}, m["hardest_fifth_ce"] = {up0.hardest(0.2)};
  m["hardest_hundredth"] = {down2.hardest(0.01)}, m["hardest_hundredth_ce"] = {down0.hardest(0.01)};
  // How many times fewer samples carry half of the loss with gamma 2 than with gamma 0, as powers of ten.
  const auto focusing = [](const LossCurve& a, const LossCurve& b) {
    return std::log10(std::max(1e-9, a.carrying(0.5)) / std::max(1e-9, b.carrying(0.5)));
  };
  m["focus_positives"] = {focusing(up0, up2)}, m["focus_negatives"] = {focusing(down0, down2)};
}

LossCurve loss_curve(const std::vector<double>& histogram, double gamma) {
  LossCurve c{{0}, {0}};
  double samples = 0, loss = 0;
  std::vector<double> logits;
  for (int bin = 0; bin < int(histogram.size()); ++bin) logits.push_back(bin_logit(bin));
  const std::vector<double> focal = terms_at({.alpha = -1, .gamma = gamma}, logits).loss;
  for (int bin = int(histogram.size()) - 1; bin >= 0; --bin) {  // highest p_t, lowest loss first
    const double n = histogram[size_t(bin)];
    if (n == 0) continue;
    samples += n, loss += n * focal[size_t(bin)];
    c.x.push_back(samples), c.y.push_back(loss);
  }
  for (double& v : c.x) v /= std::max(samples, 1e-300);
  for (double& v : c.y) v /= std::max(loss, 1e-300);
  return c;
}

double LossCurve::hardest(double part) const {
  for (size_t i = 1; i < x.size(); ++i)
    if (x[i] >= 1 - part) return 1 - (y[i - 1] + (y[i] - y[i - 1]) * (1 - part - x[i - 1]) / (x[i] - x[i - 1]));
  return 0;
}
double LossCurve::carrying(double part) const {
  for (size_t i = 1; i < x.size(); ++i)
    if (y[i] >= 1 - part) return 1 - (x[i - 1] + (x[i] - x[i - 1]) * (1 - part - y[i - 1]) / (y[i] - y[i - 1]));
  return 0;
}

}  // namespace fovea::lab
