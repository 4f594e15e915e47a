// The engine's own losses at given p_t: every figure and number of the pages about formulas comes from here.
#pragma once
#include <string>
#include <vector>

#include "models/retinanet.h"

namespace fovea::lab {

struct TermCurve {
  std::vector<double> loss, slope;  // slope: by x_t, the logit of p_t
};
// Of one positive example at each logit x_t (weight alpha; alpha below 0: 1).
TermCurve terms_at(const ClassLossOptions& loss, const std::vector<double>& logits);
// Summed loss of 100,000 easy examples with p_t 0.9 over that of 100 hard ones with p_t 0.1; balanced: easy ones are
// negatives (1 - alpha), hard ones positives (alpha).
struct Balance {
  double easy = 0, hard = 0;
  double ratio() const { return easy / hard; }
};
Balance balance(double gamma, double alpha);  // alpha < 0: without

std::string loss_script();  // FL and dFL in JavaScript, and the engine's values
std::string curve_script(const std::vector<double>& positive, const std::vector<double>& negative);  // Figure 4

}  // namespace fovea::lab
