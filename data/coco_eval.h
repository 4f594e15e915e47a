// The COCO box evaluator: twelve figures, AP per category and precision curves, equal to those of the COCO toolkit
// (pycocotools: cocoeval.py, maskApi.c).
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace fovea {

// A box as COCO files have it: left, top, width and height in pixels, in double as the toolkit computes with.
struct CocoBox {
  double x = 0, y = 0, w = 0, h = 0;
};

// The COCO box of corners (x1, y1) and (x2, y2).
inline CocoBox coco_box(double x1, double y1, double x2, double y2) { return {x1, y1, x2 - x1, y2 - y1}; }

struct CocoGroundTruth {
  std::int64_t category = 0;
  CocoBox box;
  std::optional<double> area{};  // of the object's mask: what small, medium and large are judged by; none: w * h
  bool crowd = false;            // an ignore region: detections inside it count neither for nor against
  std::int64_t id = 1;           // the annotation's id; matters only when it is 0 and CocoOptions::strict
};

struct CocoDetection {
  std::int64_t category = 0;
  CocoBox box;
  double score = 0;
};

// Intersection over union of a detection with an object; over the detection's area where that is a crowd.
double coco_overlap(const CocoBox& detection, const CocoGroundTruth& truth);

struct CocoOptions {
  // Repeats two faults of the toolkit: a ground truth with id 0 can never be found, and the first figure exists only
  // where max_dets contains 100.
  bool strict = false;
  std::array<int, 3> max_dets{1, 10, 100};  // detections kept per image and category, ascending
  bool use_categories = true;               // false: all categories are one (the recall of proposals)
};

inline constexpr int coco_ious = 10;      // IoU thresholds
inline constexpr int coco_areas = 4;      // all, small, medium, large
inline constexpr int coco_recalls = 101;  // points of a precision curve
// numpy.linspace(0.5, 0.95, 10): the ninth value is one unit in the last place below 0.9.
inline constexpr std::array<double, coco_ious> coco_iou_thresholds{
    0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95};

struct CocoResult {
  // AP, AP50, AP75, AP small, medium, large, AR at max_dets[0], [1], [2], AR small, medium, large; -1 where undefined.
  std::array<double, 12> stats{};
  std::vector<std::int64_t> categories;  // ascending; the single entry -1 without use_categories
  std::vector<double> category_ap;       // one per category; -1 where it has no ground truth
  std::vector<double> precision;         // [categories, areas, IoU thresholds, recalls]; -1 where undefined
  std::vector<double> recall;            // [categories, areas, max_dets, IoU thresholds]; -1 where undefined
  std::array<int, 3> max_dets{};
  bool strict = false;
  std::vector<std::string> warnings;  // what a reader of the figures should know, one line each

  // Interpolated precision at recall 0, 0.01 .. 1 of a category (its place in `categories`), for PR plots.
  std::span<const double> curve(std::size_t category, int iou, int area = 0) const {
    const std::size_t row = (category * coco_areas + area) * coco_ious + iou;
    return std::span(precision).subspan(row * coco_recalls, coco_recalls);
  }
};

// Streaming: add the images in any order, each once, then ask for the figures (more images may follow).
// Images without objects count: their detections are false positives.
class CocoEvaluator {
 public:
  explicit CocoEvaluator(int num_categories, const CocoOptions& options = {});  // categories 0 .. num_categories - 1
  explicit CocoEvaluator(std::vector<std::int64_t> categories, const CocoOptions& options = {});

  // Throws Code::data for a ground truth of an unknown category, a number that is not finite, an image seen before.
  // Detections of unknown categories are left out, as in the toolkit, and lead to a warning.
  void add_image(std::int64_t image, const std::vector<CocoGroundTruth>& ground_truths,
                 const std::vector<CocoDetection>& detections);
  CocoResult summarize();

 private:
  struct Scored {  // a detection after matching; bit t of hit and ignored belongs to IoU threshold t
    double score;
    std::int64_t image;
    int rank;  // place among the image's detections of this category
    std::array<std::uint16_t, coco_areas> hit{}, ignored{};
  };
  struct Category {
    std::vector<Scored> detections;
    std::array<std::int64_t, coco_areas> positives{};  // ground truths that count
  };
  int slot(std::int64_t category) const;
  void match_groups(std::int64_t image, std::span<const std::pair<int, const CocoGroundTruth*>> ground_truths,
                    std::span<const std::pair<int, const CocoDetection*>> detections);
  void match(Category& category, std::int64_t image, std::span<const CocoGroundTruth* const> ground_truths,
             std::span<const CocoDetection* const> detections) const;
  void accumulate(std::size_t category, CocoResult& result) const;
  double literal_ap(int max_dets) const;
  void add_warnings(CocoResult& result) const;

  CocoOptions options_;
  std::vector<std::int64_t> ids_;
  std::vector<Category> categories_;
  std::unordered_set<std::int64_t> images_;
  std::int64_t id_zero_ = 0, unknown_category_ = 0;  // for the warnings
};

// The toolkit's twelve lines, with n/a where there is no ground truth.
std::string coco_table(const CocoResult& result);

}  // namespace fovea
