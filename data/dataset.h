// A data set: pictures and their boxes, whatever the format of the files. COCO, PASCAL VOC, YOLO and CSV are read.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/box.h"
#include "data/coco_eval.h"
#include "data/image.h"

namespace fovea {

// What is known of a picture without opening it. Boxes are [x1,y1,x2,y2] in pixels of the upright picture, edges, not
// pixel indices; labels are 0..K-1 (places in Dataset::classes()).
struct Annotation {
  std::string path;
  int64_t id = 0;  // COCO's image id; for others 1.. in the order of the names
  int width = 0, height = 0;
  std::vector<Box<float>> boxes;
  std::vector<int> labels;
  std::vector<Box<float>> ignore;  // crowd and difficult: neither object nor background
  std::string file{};              // for messages about bad boxes: the picture's own label file, and ...
  std::vector<int> lines{};        // ... the line of each truth there, until the policy is applied
  // All of them as the evaluator wants them: doubles as in the file, before clipping (dropped ones are not there);
  // category is one of class_ids().
  std::vector<CocoGroundTruth> truths;
};

struct Sample {
  Image image;
  std::vector<Box<float>> boxes;
  std::vector<int> labels;
  std::vector<Box<float>> ignore;
  int64_t id = 0;
  std::string path;
};

// What to do with a box that is not finite, has no area in the picture or leaves it (by more than a pixel: less is the
// rounding of some program, and always cut off).
enum class BoxPolicy {
  error,  // refuse the data set (Code::data), naming file, image and box
  clip,   // cut it to the picture, and drop what has no area; a number that is not finite is still an error
  drop,   // leave it out
};

struct DatasetOptions {
  std::string dir{};                    // the folder, unless annotations and images are given
  std::string format = "auto";          // auto | coco | voc | yolo | csv | shapes (of `fovea data make shapes`: COCO)
  std::string split{};                  // train, val ...; empty: all there is without a split
  std::string annotations{}, images{};  // COCO: a file and the folder of its pictures, instead of dir and split
  std::string policy = "clip";          // error | clip | drop
  double val_fraction = 0.1;            // where the data has no splits: the part that is "val", chosen by file name
  std::vector<std::string> classes{};   // the order of classes, e.g. of a model; others are then an error. Empty: all
};

struct Problems {
  int64_t clipped = 0, dropped = 0;   // boxes
  std::vector<std::string> messages;  // one line each, the first 20
  std::string summary() const;        // "3 boxes clipped, 2 dropped" or ""
};

class Dataset {
 public:
  int64_t size() const { return int64_t(annotations_.size()); }
  const Annotation& annotation(int64_t i) const { return annotations_[size_t(i)]; }
  // Reads the picture. Throws Code::data, also where its size is not what the annotations say.
  Sample get(int64_t i) const;
  const std::vector<std::string>& classes() const { return classes_; }  // 0..K-1
  const std::vector<int64_t>& class_ids() const { return class_ids_; }  // COCO's category ids; for others 1..K
  const Problems& problems() const { return problems_; }
  const std::string& name() const { return name_; }  // what was opened, for messages
  Dataset first(int64_t n) const;                    // the first n pictures, e.g. to overfit
  // Without the pictures that training can do without: "empty" ones have no object (detectron2 leaves them out), "tiny"
  // ones none that is more than a pixel wide and high (torchvision); "none" leaves out nothing. Throws Code::usage for
  // another word.
  Dataset filtered(const std::string& kind) const;

  // Takes the truths that a reader found, applies the policy to each, and makes boxes, labels and ignore of them.
  Dataset(std::string name, std::vector<std::string> classes, std::vector<int64_t> class_ids,
          std::vector<Annotation> annotations, BoxPolicy policy);

 private:
  std::string name_;
  std::vector<std::string> classes_;
  std::vector<int64_t> class_ids_;
  std::vector<Annotation> annotations_;
  Problems problems_;
};

// Throws Code::data for files that are missing, damaged or contradict each other, and for a data set without pictures;
// Code::usage for an unknown format, policy or split (naming those that exist).
Dataset open_dataset(const DatasetOptions& options);
// The splits that open_dataset() would find there: e.g. {"train", "val"}; empty where there are none.
std::vector<std::string> find_splits(const std::string& dir, const std::string& format = "auto");

// Of `splits`, what is trained without and scored on where nothing else is said: val, or the only one that is called
// valid, validation, val2017 or dev; empty where there is none.
std::string val_split_of(const std::vector<std::string>& splits);

// {"images", "categories", "annotations"} of a data set, as the COCO toolkit reads it (ids are kept).
void write_coco_truth(const std::string& path, const Dataset& dataset);
struct ImageDetections {
  int64_t image_id = 0;
  std::vector<CocoDetection> detections;  // category: one of class_ids()
};
// A COCO results file: [{"image_id", "category_id", "bbox", "score"}].
void write_coco_detections(const std::string& path, const std::vector<ImageDetections>& images);

}  // namespace fovea
