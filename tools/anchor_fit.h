// Do a preset's anchors fit the boxes of a data set? A box that no anchor overlaps well is trained badly or not at all:
// the most common cause of classes that are never found.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "tools/config.h"

namespace fovea {

struct AnchorFit {
  struct Share {
    int64_t boxes = 0, low = 0, weak = 0;  // weak: the best IoU with an anchor is below 0.5; low: below 0.4
    double low_part() const { return part(low); }
    double part(int64_t of) const { return boxes > 0 ? double(of) / double(boxes) : 0; }
  };
  Share all;
  std::vector<Share> classes;
  std::array<int64_t, 10> histogram{};  // of the best IoU: [0, 0.1) .. [0.9, 1]
  int short_side = 0;                   // that it was taken at; 0: of each picture its own
  bool poor() const { return all.low_part() > 0.05; }
};

// At the size of training without its random parts; of several short sides, the middle one.
AnchorFit fit_anchors(const Dataset& dataset, const Config& config);

// One change of sizes or ratios, and what would be left of low_part().
struct AnchorAdvice {
  std::vector<std::pair<std::string, std::string>> settings;  // key, value
  double low_part = 0;
  std::string str() const;  // "--set data.short_side=480 (3.1 %)"
};
// For a fit that is poor(), otherwise none: those that at least halve low_part(), the best first, three at most; where
// none does, the best that lowers it, if any. Fits the data set anew for each candidate.
std::vector<AnchorAdvice> advise_anchors(const Dataset& dataset, const Config& config, const AnchorFit& fit);

// One line for a fit that is poor(); otherwise empty.
std::string anchor_warning(const Config& config, const AnchorFit& fit, const std::vector<AnchorAdvice>& advice);

}  // namespace fovea
