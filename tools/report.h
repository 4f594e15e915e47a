// What a run leaves for people: curves and pictures as PNG, and report.html, one file with all of it inside.
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/draw.h"
#include "tools/evaluate.h"
#include "tools/run_dir.h"

namespace fovea {

// The picture, `scale` times as large, with what was found (labels and scores) and, thin, what is there; both in pixels
// of the picture. ids, names: of the classes, in the order of their labels.
Image draw_detections(const Image& picture, const std::vector<CocoDetection>& found, const std::vector<int64_t>& ids,
                      const std::vector<std::string>& names, double threshold, double scale,
                      const Annotation* truth = nullptr);
// A page of `count` pictures, evenly from all of `data`.
Image validation_page(const Dataset& data, const std::vector<ImageDetections>& found, int64_t count, double threshold);

// loss.png, ap.png, validation.png (where there are pictures) and report.html in the run's folder, from its log.
void write_report(const RunDirectory& run, const Config& config, const Dataset* val, const Evaluation* evaluation,
                  const std::string& state);

}  // namespace fovea
