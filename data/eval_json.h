// Reads COCO ground truth and result files for the evaluator, checking every record, and writes its figures as JSON.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/coco_eval.h"
#include "data/detection_errors.h"

namespace fovea {

struct Json;

// What the evaluator needs of an annotation file.
struct CocoTruthFile {
  std::string path;
  std::vector<std::int64_t> images;                         // ids, ascending
  std::vector<std::string> files;                           // one entry per image: its file_name, or ""
  std::vector<std::vector<CocoGroundTruth>> ground_truths;  // one entry per image
  std::vector<std::int64_t> categories;                     // ids, ascending
  std::vector<std::string> names;                           // one entry per category
  std::vector<std::string> warnings;
};

// Both throw Code::data, naming the file, the record and what is wrong with it: a file that cannot be read or is cut
// off, a missing field, a value of the wrong type, a number that is not finite, an unknown image, and (in ground truth
// only) an unknown category. strict: see CocoOptions; also, annotations that share an id all become the last of them.
CocoTruthFile read_coco_truth(const std::string& path, bool strict = false);
// Detections in file order, one entry per image of truth. A record that names its picture (file_name) and class
// (category), as those of `fovea detect` do, whose ids are its own, is of that picture, by the end of its path, and of
// the truth's class of that name; it is refused where the truth names its pictures and has none that is called so.
std::vector<std::vector<CocoDetection>> read_coco_detections(const std::string& path, const CocoTruthFile& truth);

// Both files, read and evaluated; the result's warnings include the files'.
CocoResult evaluate_coco_files(const std::string& truth_path, const std::string& detections_path,
                               const CocoOptions& options = {});
// ... of detections that were read, one entry per image of truth.
CocoResult evaluate_coco(const CocoTruthFile& truth, const std::vector<std::vector<CocoDetection>>& detections,
                         const CocoOptions& options = {});

// {"stats": [12 figures], "per_category_ap": {"id": ap}}; -1 where undefined.
Json to_json(const CocoResult& result);
// {"ap50", "objects", "found", "detections", "localisation": {"count", "gain"} ...}.
Json to_json(const ErrorReport& report);

}  // namespace fovea
