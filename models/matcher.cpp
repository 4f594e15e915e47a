// The matcher's two passes: the best box of each anchor and the best anchors of each box, then who is positive.
#include "models/matcher.h"

#include <algorithm>
#include <mutex>

#include "core/error.h"
#include "core/threads.h"

namespace fovea {
namespace {

constexpr int64_t kAnchors = 4096;  // of a chunk

// IoU of one anchor with every box. Both passes compare its results for equality, so there is one compiled copy of it.
template <class T>
__attribute__((noinline)) void overlaps(const Box<T>& anchor, std::span<const Box<T>> boxes, T* out) {
  for (size_t b = 0; b < boxes.size(); ++b) out[b] = iou(boxes[b], anchor);
}

// Pass 1. box[a]: the box that anchor a overlaps most (the first of equals), quality[a]: its IoU; best[b]: of each box.
template <class T>
void find_best(std::span<const Box<T>> anchors, std::span<const Box<T>> boxes, std::vector<int64_t>& box,
               std::vector<T>& quality, std::vector<T>& best) {
  std::mutex merge;
  parallel_for(static_cast<int64_t>(anchors.size()), kAnchors, [&](int64_t begin, int64_t end) {
    std::vector<T> row(boxes.size()), own(boxes.size(), T(0));
    for (int64_t a = begin; a < end; ++a) {
      overlaps(anchors[a], boxes, row.data());
      const auto top = std::max_element(row.begin(), row.end());
      box[a] = top - row.begin(), quality[a] = *top;
      for (size_t b = 0; b < row.size(); ++b) own[b] = std::max(own[b], row[b]);
    }
    std::lock_guard lock(merge);  // a maximum does not depend on the order
    for (size_t b = 0; b < own.size(); ++b) best[b] = std::max(best[b], own[b]);
  });
}

// Pass 2. take(a, b) for every anchor a that no anchor beats at box b (all of several equals).
template <class T, class F>
void for_best_anchors(std::span<const Box<T>> anchors, std::span<const Box<T>> boxes, const std::vector<T>& quality,
                      const std::vector<T>& best, T floor, F take) {
  if (boxes.empty()) return;
  T least = best[0];  // an anchor whose highest IoU is below every box's best cannot be the best of any
  for (T value : best) least = std::min(least, value);
  parallel_for(static_cast<int64_t>(anchors.size()), kAnchors, [&](int64_t begin, int64_t end) {
    std::vector<T> row(boxes.size());
    for (int64_t a = begin; a < end; ++a) {
      if (quality[a] < least) continue;
      overlaps(anchors[a], boxes, row.data());
      for (size_t b = 0; b < row.size(); ++b)
        if (row[b] == best[b] && best[b] >= floor) take(a, static_cast<int64_t>(b));
    }
  });
}

// Background anchors that lie mostly inside one ignore region count for nothing.
template <class T>
void ignore_regions(std::span<const Box<T>> anchors, std::span<const Box<T>> ignore, double limit,
                    std::vector<int64_t>& box) {
  if (ignore.empty()) return;
  parallel_for(static_cast<int64_t>(anchors.size()), kAnchors, [&](int64_t begin, int64_t end) {
    for (int64_t a = begin; a < end; ++a)
      for (size_t i = 0; i < ignore.size() && box[a] == Matches::background; ++i)
        if (ioa(anchors[a], ignore[i]) > static_cast<T>(limit)) box[a] = Matches::ignored;
  });
}

}  // namespace

template <class T>
Matches match(std::span<const Box<T>> anchors, std::span<const Box<T>> boxes, std::span<const Box<T>> ignore,
              const MatcherOptions& options) {
  const bool last = options.rule == "last", as_background = options.rule == "background";
  check(Code::usage, last || as_background || options.rule == "argmax", "matcher: rule '", options.rule,
        "' is unknown\n  hint: argmax, last or background");
  const int64_t n = static_cast<int64_t>(anchors.size());
  Matches m;
  m.box.assign(anchors.size(), Matches::background);
  m.best.assign(boxes.size(), 0);
  if (!boxes.empty()) {
    std::vector<int64_t> argmax(anchors.size());
    std::vector<T> quality(anchors.size()), best(boxes.size(), T(0));
    find_best(anchors, boxes, argmax, quality, best);
    const T high = static_cast<T>(options.high), low = static_cast<T>(options.low);
    for (int64_t a = 0; a < n; ++a)
      m.box[a] = quality[a] >= high ? argmax[a] : quality[a] < low ? Matches::background : Matches::ignored;
    std::vector<uint8_t> counted(as_background ? anchors.size() : 0);
    if (options.low_quality)  // a negative floor takes every anchor for a box that none overlaps (torchvision)
      for_best_anchors(anchors, boxes, quality, best, static_cast<T>(options.floor), [&](int64_t a, int64_t b) {
        if (as_background) counted[a] = 1;
        if (!as_background || quality[a] >= low) m.box[a] = last ? b : argmax[a];
      });
    std::vector<uint8_t> found(boxes.size());
    for (int64_t a = 0; a < n; ++a) {
      const bool positive = m.box[a] >= 0;
      m.positives += positive, m.low_quality += positive && quality[a] < high;
      m.counted += positive || (as_background && counted[a]);
      if (positive) found[m.box[a]] = 1;
    }
    m.unmatched = std::count(found.begin(), found.end(), 0);
    std::copy(best.begin(), best.end(), m.best.begin());
  }
  if (options.ignore_ioa <= 1) ignore_regions(anchors, ignore, options.ignore_ioa, m.box);
  return m;
}

template Matches match(std::span<const Box<float>>, std::span<const Box<float>>, std::span<const Box<float>>,
                       const MatcherOptions&);
template Matches match(std::span<const Box<double>>, std::span<const Box<double>>, std::span<const Box<double>>,
                       const MatcherOptions&);

}  // namespace fovea
