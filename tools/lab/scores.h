// How good scores of a two-class problem are: ranking (ROC-AUC, average precision) and calibration.
#pragma once
#include "tools/lab/lab.h"

namespace fovea::lab {

class Scores {
 public:
  void add(double probability, bool positive);  // throws Code::not_finite
  double auc() const;                           // P(a positive's score is above a negative's), equal ones counting half
  double average_precision() const;  // mean over positives of the precision at their score; equal scores together
  // Ten bins of the probability: mean probability, part of positives, count. ECE: the count-weighted mean distance.
  struct Bin {
    double confidence = 0, positives = 0, count = 0;
  };
  std::vector<Bin> bins() const;
  double ece() const;
  Metrics metrics() const;  // auc, ap, ece, confidence, frequency, count

 private:
  std::vector<std::pair<double, bool>> all_;
};

}  // namespace fovea::lab
