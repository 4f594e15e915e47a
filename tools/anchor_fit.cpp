// The best anchor of every box of a data set, and changes of the configuration that would give better ones.
#include "tools/anchor_fit.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "tools/terminal.h"
#include "tools/trainer.h"

namespace fovea {
namespace {

std::string scaled(const std::vector<double>& list, double factor, double digits = 1000) {
  std::string s;
  for (double v : list) s += text(s.empty() ? "" : ",", std::round(v * factor * digits) / digits);
  return s;
}

std::vector<AnchorAdvice> candidates(const Config& c) {
  const auto& a = c.model.anchors;
  std::vector<AnchorAdvice> all;
  const std::vector<double> sides(c.data.short_side.begin(), c.data.short_side.end());
  for (double factor : {1.5, 2.0}) {
    all.push_back({{{"data.short_side", scaled(sides, factor, 1)}}});
    if (c.data.max_side > 0)
      all.back().settings.push_back({"data.max_side", scaled({double(c.data.max_side)}, factor, 1)});
  }
  for (double factor : {0.5, 0.75, 1.5, 2.0}) all.push_back({{{"model.anchors.base", scaled({a.base}, factor)}}});
  all.push_back({{{"model.anchors.scales", scaled(a.scales, 0.5) + "," + scaled(a.scales, 1)}}});
  const auto [low, high] = std::minmax_element(a.ratios.begin(), a.ratios.end());
  for (double factor : {1.5, 2.0, 4.0})
    all.push_back({{{"model.anchors.ratios",
                     scaled({*low / factor}, 1) + "," + scaled(a.ratios, 1) + "," + scaled({*high}, factor)}}});
  return all;
}

}  // namespace

AnchorFit fit_anchors(const Dataset& dataset, const Config& config) {
  const LoaderOptions loader = loader_options(config, true);
  AugmentOptions size = loader.augment;
  AnchorFit fit;
  if (auto& sides = size.short_sides; !sides.empty()) {
    std::sort(sides.begin(), sides.end());
    fit.short_side = sides[sides.size() / 2];
    sides = {fit.short_side};
  }
  size = size.without_random();
  fit.classes.resize(dataset.classes().size());
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const Annotation& a = dataset.annotation(i);
    const Transform t = choose_transform(a.width, a.height, size, 0, 0, 0);
    std::vector<Box<float>> boxes;
    for (const Box<float>& box : a.boxes) boxes.push_back(t(box));
    const auto best = best_anchor_iou(config.model.anchors, config.model.last_level,
                                      {loader.padded(t.height), loader.padded(t.width)}, boxes);
    for (size_t b = 0; b < best.size(); ++b) {
      ++fit.histogram[size_t(std::min(9.f, best[b] * 10))];
      for (AnchorFit::Share* share : {&fit.all, &fit.classes[size_t(a.labels[b])]})
        ++share->boxes, share->low += best[b] < 0.4f, share->weak += best[b] < 0.5f;
    }
  }
  return fit;
}

std::string AnchorAdvice::str() const {
  std::string s;
  for (auto& [key, value] : settings) s += "--set " + key + "=" + value + " ";
  return s + "(" + number(100 * low_part, 1) + " %)";
}

std::vector<AnchorAdvice> advise_anchors(const Dataset& dataset, const Config& config, const AnchorFit& fit) {
  if (!fit.poor()) return {};
  std::vector<AnchorAdvice> all = candidates(config);
  std::erase_if(all, [&](AnchorAdvice& advice) {
    Config changed = config;
    try {
      for (auto& [key, value] : advice.settings) set_key(changed, key, value, "advice");
    } catch (const Error&) { return true; }  // beyond the key's range
    advice.low_part = fit_anchors(dataset, changed).all.low_part();
    return advice.low_part >= fit.all.low_part();
  });
  std::stable_sort(all.begin(), all.end(),
                   [](const AnchorAdvice& a, const AnchorAdvice& b) { return a.low_part < b.low_part; });
  size_t good = 0;
  while (good < all.size() && all[good].low_part <= fit.all.low_part() / 2) ++good;
  all.resize(std::min(all.size(), std::clamp<size_t>(good, 1, 3)));
  return all;
}

std::string anchor_warning(const Config& config, const AnchorFit& fit, const std::vector<AnchorAdvice>& advice) {
  if (!fit.poor()) return "";
  std::vector<std::string> ways;
  for (const AnchorAdvice& a : advice) ways.push_back(a.str());
  const std::string most = number(100 * fit.all.low_part(), 1) + " % of the boxes overlap no anchor of " +
                           config.preset + " by 0.4 (IoU), so they are hardly learnt; ";
  return most + (ways.empty()
                     ? "no usual change of sizes or ratios helps: are they in pixels? fovea data show draws them"
                     : "try " + joined(ways, ", or "));
}

}  // namespace fovea
