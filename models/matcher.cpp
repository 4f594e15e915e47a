// The matcher's loops: the best box of each anchor, the best anchor of each box, then who is positive. Two of them
// compare IoUs for equality, so this file is compiled without fused multiply-adds: an IoU has the same bits in each, on
// every processor and device.
#include "models/matcher.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/error.h"
#include "core/loops.h"

namespace fovea {
namespace {

constexpr int64_t kAnchors = 1024;  // of a row of the loops over anchors
constexpr int64_t kSpare = 64;      // a device's tables of boxes grow by so many, so that launches seldom change

struct Scene {
  const Box<float>* anchors;
  int64_t count;
  const Box<float>* boxes;
  const int64_t* first;                                                  // box of each image
  HD int64_t rows() const { return (count + kAnchors - 1) / kAnchors; }  // of one image
  HD int64_t width(int64_t begin) const { return count - begin < kAnchors ? count - begin : kAnchors; }
};

// The box that each anchor overlaps most (the first of equals), and their IoU; -1 where the image has none.
struct FindBox {
  Scene s;
  int64_t* box;
  float* quality;
  template <class Team> HD void operator()(Team team, int64_t row) const {
    const int64_t image = row / s.rows(), begin = row % s.rows() * kAnchors, to = image * s.count + begin;
    const int64_t boxes = s.first[image + 1] - s.first[image];
    const Box<float>*anchors = s.anchors + begin, *truth = s.boxes + s.first[image];
    int64_t* out = box + to;
    float* iou_of = quality + to;
    each_block(team, s.width(begin), [=](int64_t at, int64_t n) {
      float x1[kBlockOf<Team>], y1[kBlockOf<Team>], x2[kBlockOf<Team>], y2[kBlockOf<Team>], top[kBlockOf<Team>];
      int found[kBlockOf<Team>];
      for (int64_t i = 0; i < n; ++i) {
        const Box<float> a = anchors[at + i];
        x1[i] = a.x1, y1[i] = a.y1, x2[i] = a.x2, y2[i] = a.y2, top[i] = -1, found[i] = 0;
      }
      for (int b = 0; b < boxes; ++b) {
        const Box<float> one = truth[b];
        for (int64_t i = 0; i < n; ++i) {
          const float q = iou(one, Box<float>{x1[i], y1[i], x2[i], y2[i]});
          found[i] = q > top[i] ? b : found[i], top[i] = q > top[i] ? q : top[i];
        }
      }
      for (int64_t i = 0; i < n; ++i) out[at + i] = found[i], iou_of[at + i] = top[i];
    });
  }
};

struct BestOfBox {  // best[m]: the highest IoU of box m with an anchor
  Scene s;
  float* best;
  template <class Team> HD void operator()(Team team, int64_t m) const {
    const Box<float> one = s.boxes[m], *anchors = s.anchors;
    float* out = best + m;
    const float top = team.reduce(
        s.count, 0.0f, [=](int64_t a) { return iou(one, anchors[a]); }, Max{});
    team.each(1, [=](int64_t) { *out = top; });
  }
};
struct LeastOfImage {  // an anchor whose highest IoU is below every box's best cannot be the best of any
  static constexpr bool rare = true;
  const float* best;
  const int64_t* first;
  float* least;
  HD void operator()(int64_t image) const {
    float low = INFINITY;
    for (int64_t b = first[image]; b < first[image + 1]; ++b) low = best[b] < low ? best[b] : low;
    least[image] = low;
  }
};

enum Kind : uint8_t { kIsPositive = 1, kIsCounted = 2, kIsLow = 4, kIsIgnored = 8 };

// From box[a] and quality[a] to what an anchor is trained for, and its kinds.
struct Decide {
  Scene s;
  const float *quality, *best, *least;
  const Box<float>* ignore;
  const int64_t* first_ignore;
  const float* size;  // height and width of each image, or null
  float high, low, floor, ignore_ioa;
  bool low_quality, last, as_background;
  int64_t* box;
  uint8_t* kind;

  template <class Team> HD void operator()(Team team, int64_t row) const {
    const int64_t image = row / s.rows(), begin = row % s.rows() * kAnchors;
    const Decide self = *this;
    team.each(s.width(begin), [=](int64_t i) { self.one(image, begin + i); });
  }
  HD void one(int64_t image, int64_t a) const {
    const int64_t at = image * s.count + a, from = s.first[image], end = s.first[image + 1], most = box[at];
    const Box<float> anchor = s.anchors[a];
    const float q = quality[at];
    float own = q;  // its IoU with the box that it has to find
    bool counted = false;
    int64_t found = q >= high ? most : q < low ? Matches::background : Matches::ignored;
    if (from == end) found = Matches::background;
    else if (low_quality && q >= least[image])
      for (int64_t b = from; b < end; ++b) {
        if (!(best[b] >= floor && best[b] <= q && iou(s.boxes[b], anchor) == best[b])) continue;  // IoU <= q
        counted = true;  // a negative floor takes every anchor for a box that none overlaps (torchvision)
        if (!as_background || q >= low) found = last ? b - from : most, own = last ? best[b] : q;
      }
    // Background anchors that lie mostly inside one ignore region count for nothing.
    for (int64_t i = first_ignore[image]; i < first_ignore[image + 1] && found == Matches::background; ++i)
      if (ioa(anchor, ignore[i]) > ignore_ioa) found = Matches::ignored;
    if (size && outside(anchor, size + 2 * image)) found = Matches::ignored, counted = false;
    const bool positive = found >= 0, ignored = found == Matches::ignored;
    box[at] = found;
    kind[at] = uint8_t(kIsPositive * positive + kIsCounted * (positive || (as_background && counted)) +
                       kIsLow * (positive && own < high) + kIsIgnored * ignored);
  }
  // keras-retinanet: anchors centred in the padding are neither positive nor background.
  HD static bool outside(const Box<float>& a, const float* hw) {
    return !((a.x1 + a.x2) / 2 < hw[1] && (a.y1 + a.y2) / 2 < hw[0]);
  }
};

struct CountKind {  // out[image * columns]: anchors begin .. end - 1 of a kind
  const uint8_t* kind;
  uint8_t which;
  int64_t count, begin, end, columns;
  int64_t* out;
  template <class Team> HD void operator()(Team team, int64_t image) const {
    const uint8_t *from = kind + image * count + begin, w = which;
    int64_t* to = out + image * columns;
    const int64_t n = team.reduce(end - begin, int64_t{0}, [=](int64_t a) { return int64_t((from[a] & w) != 0); });
    team.each(1, [=](int64_t) { *to = n; });
  }
};
struct FoundBox {  // whether an anchor is trained for box m
  const int64_t *first, *box;
  int64_t images, count;
  int64_t* found;
  template <class Team> HD void operator()(Team team, int64_t m) const {
    int64_t image = 0;
    while (image < images && m >= first[image + 1]) ++image;
    const int64_t own = image < images ? m - first[image] : 0, *of = box + image * count;
    int64_t* out = found + m;
    const int64_t any = team.reduce(
        image < images ? count : 0, int64_t{0}, [=](int64_t a) { return int64_t(of[a] == own); }, Max{});
    team.each(1, [=](int64_t) { *out = any; });
  }
};
struct CountUnmatched {
  static constexpr bool rare = true;
  const int64_t *first, *found;
  int64_t columns;
  int64_t* out;
  HD void operator()(int64_t image) const {
    int64_t n = 0;
    for (int64_t m = first[image]; m < first[image + 1]; ++m) n += found[m] == 0;
    out[image * columns] = n;
  }
};

// The targets of a batch: pieces of one tensor, so that one copy brings them to a device.
struct Truths {
  Tensor first, first_ignore, labels, boxes, ignore, size;
  // Lays the pieces out over 8-byte words, or only counts these.
  int64_t lay_out(const Tensor& words, int64_t images, int64_t boxes_, int64_t regions) {
    int64_t at = 0;
    const auto piece = [&](const Shape& shape, DType type) {
      const size_t offset = static_cast<size_t>(at) * 8;
      at += (shape.numel() * size_of(type) + 7) / 8;
      return words ? Tensor(words.storage(), offset, shape, type) : Tensor();
    };
    boxes = piece({boxes_, 4}, DType::f32), ignore = piece({regions, 4}, DType::f32);  // first: they are aligned to 16
    first = piece({images + 1}, DType::i64), first_ignore = piece({images + 1}, DType::i64);
    labels = piece({boxes_}, DType::i64), size = piece({images, 2}, DType::f32);
    return at;
  }
};

Truths pack(const std::vector<Target>& targets, Device device) {
  int64_t images = static_cast<int64_t>(targets.size()), boxes = 0, regions = 0;
  for (const Target& t : targets)
    boxes += static_cast<int64_t>(t.boxes.size()), regions += static_cast<int64_t>(t.ignore.size());
  if (plays_device(device)) boxes = (boxes / kSpare + 1) * kSpare, regions = (regions / kSpare + 1) * kSpare;
  Truths all;
  Tensor words = Tensor::zeros({all.lay_out({}, images, boxes, regions)}, DType::i64);
  all.lay_out(words, images, boxes, regions);
  auto *box = static_cast<Box<float>*>(all.boxes.raw()), *region = static_cast<Box<float>*>(all.ignore.raw());
  int64_t *label = all.labels.data<int64_t>(), *first = all.first.data<int64_t>(),
          *first_ignore = all.first_ignore.data<int64_t>();
  float* size = all.size.data<float>();
  for (size_t n = 0; n < targets.size(); ++n) {
    const Target& t = targets[n];
    box = std::copy(t.boxes.begin(), t.boxes.end(), box), region = std::copy(t.ignore.begin(), t.ignore.end(), region);
    label = std::copy(t.labels.begin(), t.labels.end(), label);
    first[n + 1] = first[n] + static_cast<int64_t>(t.boxes.size());
    first_ignore[n + 1] = first_ignore[n] + static_cast<int64_t>(t.ignore.size());
    const bool all_of_it = t.size.first <= 0;
    size[2 * n] = all_of_it ? INFINITY : static_cast<float>(t.size.first);
    size[2 * n + 1] = all_of_it ? INFINITY : static_cast<float>(t.size.second);
  }
  words = words.to(device);
  all.lay_out(words, images, boxes, regions);
  return all;
}

void count(Assignment& a, const Tensor& kind) {
  const Device device = a.anchors.device();
  const int64_t columns = a.counts.dim(1), count = a.count();
  int64_t* out = a.counts.data<int64_t>();
  const auto tally = [&](uint8_t which, int64_t begin, int64_t end, int64_t column) {
    for_rows(device, a.images(), end - begin,
             CountKind{kind.data<uint8_t>(), which, count, begin, end, columns, out + column});
  };
  tally(kIsCounted, 0, count, Assignment::kCounted), tally(kIsLow, 0, count, Assignment::kLowQuality);
  tally(kIsIgnored, 0, count, Assignment::kIgnored);
  int64_t begin = 0, column = Assignment::kLevels;
  for (const int64_t size : a.levels) tally(kIsPositive, begin, begin + size, column++), begin += size;
  const Tensor found({a.boxes.dim(0)}, DType::i64, device);
  const int64_t *first = a.first.data<int64_t>(), *box = a.box.data<int64_t>();
  for_rows(device, found.size(), count, FoundBox{first, box, a.images(), count, found.data<int64_t>()});
  for_each(device, a.images(), CountUnmatched{first, found.data<int64_t>(), columns, out + Assignment::kUnmatched});
}

}  // namespace

Assignment assign(const Tensor& anchors, const std::vector<int64_t>& levels, const std::vector<Target>& targets,
                  const MatcherOptions& o, bool ignore_outside) {
  const bool last = o.rule == "last", as_background = o.rule == "background";
  check(Code::usage, last || as_background || o.rule == "argmax", "matcher: rule '", o.rule,
        "' is unknown\n  hint: argmax, last or background");
  check(std::accumulate(levels.begin(), levels.end(), int64_t{0}) == anchors.dim(0), "matcher: the levels have not ",
        anchors.dim(0), " anchors");
  for (size_t i = 0; i < targets.size(); ++i)
    check(targets[i].boxes.size() == targets[i].labels.size(), "matcher: image ", i, " has ", targets[i].boxes.size(),
          " boxes and ", targets[i].labels.size(), " labels");
  const Device device = anchors.device();
  const Truths truths = pack(targets, device);
  Assignment a{.levels = levels};
  for (const Target& t : targets) a.truths += static_cast<int64_t>(t.boxes.size());
  a.anchors = anchors, a.boxes = truths.boxes, a.labels = truths.labels, a.first = truths.first;
  const int64_t images = static_cast<int64_t>(targets.size()), n = anchors.dim(0), m = a.boxes.dim(0);
  a.box = Tensor({images, n}, DType::i64, device);
  a.counts = Tensor({images, Assignment::kLevels + static_cast<int64_t>(levels.size())}, DType::i64, device);
  const Tensor quality({images, n}, DType::f32, device), kind({images, n}, DType::u8, device),
      best({m}, DType::f32, device), least({images}, DType::f32, device);
  const Scene scene{box_data(anchors), n, box_data(a.boxes), a.first.data<int64_t>()};
  const int64_t rows = images * scene.rows(), work = kAnchors * (1 + a.truths);
  for_rows(device, rows, work, FindBox{scene, a.box.data<int64_t>(), quality.data<float>()});
  for_rows(device, m, n, BestOfBox{scene, best.data<float>()});
  for_each(device, images, LeastOfImage{best.data<float>(), scene.first, least.data<float>()});
  for_rows(device, rows, work,
           Decide{scene, quality.data<float>(), best.data<float>(), least.data<float>(), box_data(truths.ignore),
                  truths.first_ignore.data<int64_t>(), ignore_outside ? truths.size.data<float>() : nullptr,
                  float(o.high), float(o.low), float(o.floor), float(o.ignore_ioa), o.low_quality, last, as_background,
                  a.box.data<int64_t>(), kind.data<uint8_t>()});
  count(a, kind);
  return a;
}

std::vector<Matches> to_matches(const Assignment& a) {
  const std::vector<int64_t> box = a.box.values<int64_t>(), counts = a.counts.values<int64_t>();
  std::vector<Matches> all(static_cast<size_t>(a.images()));
  for (size_t n = 0; n < all.size(); ++n) {
    Matches& m = all[n];
    m.box.assign(box.begin() + static_cast<int64_t>(n) * a.count(),
                 box.begin() + static_cast<int64_t>(n + 1) * a.count());
    const int64_t* own = counts.data() + static_cast<int64_t>(n) * a.counts.dim(1);
    m.counted = own[Assignment::kCounted], m.low_quality = own[Assignment::kLowQuality];
    m.unmatched = own[Assignment::kUnmatched];
    m.positives = std::accumulate(own + Assignment::kLevels, own + a.counts.dim(1), int64_t{0});
  }
  return all;
}

void replace(Assignment& a, const std::vector<Matches>& matches) {
  const Device device = a.anchors.device();
  Tensor box(a.box.shape(), DType::i64), counts(a.counts.shape(), DType::i64);
  for (size_t n = 0; n < matches.size(); ++n) {
    const Matches& m = matches[n];
    std::copy(m.box.begin(), m.box.end(), box.data<int64_t>() + static_cast<int64_t>(n) * a.count());
    int64_t* own = counts.data<int64_t>() + static_cast<int64_t>(n) * a.counts.dim(1);
    own[Assignment::kCounted] = m.counted, own[Assignment::kLowQuality] = m.low_quality;
    own[Assignment::kUnmatched] = m.unmatched;
    own[Assignment::kIgnored] = std::count(m.box.begin(), m.box.end(), Matches::ignored);
    auto at = m.box.begin();
    own += Assignment::kLevels;
    for (const int64_t size : a.levels)
      *own++ = std::count_if(at, at + size, [](int64_t b) { return b >= 0; }), at += size;
  }
  a.box = box.to(device), a.counts = counts.to(device);
}

Matches match(std::span<const Box<float>> anchors, std::span<const Box<float>> boxes,
              std::span<const Box<float>> ignore, const MatcherOptions& options) {
  const Tensor cells({static_cast<int64_t>(anchors.size()), 4});
  if (!anchors.empty()) std::memcpy(cells.raw(), anchors.data(), anchors.size_bytes());
  const Target target{{boxes.begin(), boxes.end()}, std::vector<int64_t>(boxes.size()), {ignore.begin(), ignore.end()}};
  return to_matches(assign(cells, {cells.dim(0)}, {target}, options))[0];
}

}  // namespace fovea
