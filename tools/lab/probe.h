// What the class loss saw: histograms of p_t, and whose the gradient and the loss are.
#pragma once
#include "models/retinanet.h"
#include "tools/lab/lab.h"

namespace fovea::lab {

// p_t is binned by its logit x_t, from -12 to 12; values outside count in the end bins.
constexpr int kBins = 240;
constexpr double kLowest = -12, kBinWidth = 0.1;
inline double bin_logit(int bin) { return kLowest + (bin + 0.5) * kBinWidth; }

class Probe {
 public:
  explicit Probe(const ClassLossOptions& loss) : loss_(loss) {}
  void add(const ClassTerms& terms);
  // Appends to the lists: parts of the summed |gradient| that are easy negatives' (p_t >= 0.9), other negatives',
  // positives'; and "deciles": ten parts of the loss by p_t, [0, 0.1) first.
  void write_shares(Metrics& m) const;
  // "positive_histogram", "negative_histogram", and what their loss curves say (see the source).
  void write_histograms(Metrics& m) const;

 private:
  const ClassLossOptions loss_;
  std::vector<double> positive_ = std::vector<double>(kBins), negative_ = positive_, deciles_ = std::vector<double>(10);
  double easy_ = 0, hard_ = 0, own_ = 0;
};

// Figure 4 of the paper for any gamma: of samples sorted by focal loss, easiest first, the part of the loss that the
// first part x of them carries. (0, 0) first, (1, 1) last; a point a bin that is not empty. alpha cancels.
struct LossCurve {
  std::vector<double> x, y;
  double hardest(double part) const;           // what the hardest part of the samples carries
  double carrying(double part_of_loss) const;  // the part of the samples, hardest first, that carries so much
};
LossCurve loss_curve(const std::vector<double>& histogram, double gamma);

}  // namespace fovea::lab
