// Opening a data set by flags, and running a trained network over it: detections in the pictures' own pixels, COCO's
// figures, the loss.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/detection_errors.h"
#include "data/loader.h"
#include "models/retinanet.h"
#include "tools/command.h"
#include "tools/weights.h"

namespace fovea {

// The flags that open a data set; `folder`: the names of the one for its folder, which may be an argument.
void add_data_flags(Command& command, DatasetOptions& data, const std::string& folder = "dir,--data");
// Throws Code::usage unless either a folder or a file of annotations says what the data are.
void check_named_once(const std::string& dir, const std::string& annotations);

struct Evaluation {
  CocoResult coco;
  std::vector<ImageDetections> detections;
  double classification = 0, box = 0;  // mean losses over the batches, each as often as it has pictures
  double seconds = 0;
  int64_t images = 0;
};

struct EvaluationOptions {
  LoaderOptions loader;
  bool labels_are_ids = false;  // the network's labels are the data's category ids (torchvision's weights)
  // Called before each batch with the number of images done; false stops, which throws Exit{130}.
  std::function<bool(int64_t done, int64_t all)> progress{};
};
Evaluation evaluate(RetinaNet& model, const Dataset& data, const EvaluationOptions& options);

// The data set for weights that were trained already: classes in their order, their run's part for validation where
// val_fraction is NaN; warns of boxes that were mended. Throws as open_dataset(), and Code::model for other classes.
Dataset open_for(const LoadedModel& loaded, DatasetOptions options);
// Says that a file of annotations that was named is scored or shown in part, where it is.
void note_part(const DatasetOptions& options, const Dataset& data);
// The same weights over all of it, with a progress bar.
Evaluation evaluate(const LoadedModel& loaded, const Dataset& data);

// Boxes of the network's input back in pixels of the picture, cut to it.
std::vector<Detection> to_picture(const std::vector<Detection>& detections, const Transform& transform, int width,
                                  int height);

// The detections of each picture by its id.
std::map<int64_t, const std::vector<CocoDetection>*> by_image(const std::vector<ImageDetections>& images);

// What is wrong with the detections: of the evaluated data set, and as a table, a kind a line.
ErrorReport errors_of(const Evaluation& result, const Dataset& data);
extern const std::vector<std::string> kErrorHeads;
Rows error_rows(const ErrorReport& report);
std::string error_table(const ErrorReport& report);
std::string ap50_text(const ErrorReport& report);

// "AP = 0.612  AP50 = 0.907".
std::string ap_line(const CocoResult& result);
// The AP of each class by its label, which need not be the order of the categories' ids; -1 where undefined.
std::vector<double> class_aps(const CocoResult& result, const Dataset& data);
// A class a line: name, ground truths, AP.
std::string class_table(const CocoResult& result, const Dataset& data);

}  // namespace fovea
