// One reference case of torchvision's RetinaNet (see tools/parity.cpp), and the same step computed here.
//
// A case is a .safetensors file that a script around torchvision's model writes. All maps are in torchvision's layouts,
// all of f32, or all of f64; expect/ is what it computed. N images, A anchors, K classes:
//   metadata                arch: resnet18 .. resnet101, or v2 (retinanet_resnet50_fpn_v2); classes: K
//   param/NAME              all of the state_dict, from before the step
//   input/images            [N,3,H,W], normalised and padded: what the backbone gets
//   target/I/boxes, labels  [M,4] corners in pixels, and i64 [M] from 0: of image I
//   expect/...              of one training step: features/LEVEL (P3 is 0), anchors [A,4], cls_logits [N,A,K],
//                           bbox_regression [N,A,4], I/matches i64 [A] (-1 background, -2 between),
//                           loss_classification, loss_bbox, and grad/NAME of the losses' sum
//   expect/eval/...         cls_logits and bbox_regression in evaluation mode, with the same param/
//   expect/I/...            the detections from these: boxes, scores, labels
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "models/retinanet.h"
#include "nn/safetensors.h"

namespace fovea {

// The file, and what its metadata says about the network. Throws Error{Code::model} where a field is missing.
struct ParityCase {
  explicit ParityCase(const std::string& path);
  DType type() const { return images.dtype(); }  // what the reference computed in: f32 or f64
  NamedTensors file;
  std::string path, arch;
  RetinaNetOptions options;
  Tensor images;  // [N,H,W,3]
  std::vector<Target> targets;
};

// The forward pass of the training step, in f32 or f64. The running statistics move with it.
struct ParityStep {
  ParityStep(const ParityCase& c, DType type, Device device);
  RetinaNet model;
  // Outputs of all modules, in the order of the calls; on the processor and without a tape.
  std::vector<std::pair<std::string, Tensor>> layers;
  std::vector<Tensor> outputs;  // the same on the tape
  std::vector<Tensor> before;   // what the ReLU saw that made an output; undefined for others (tools/parity_kinks.h)
  RetinaNet::Output out;
};

// What one step gives, on the processor, by the case's names and in its layouts ("cls_logits", "features/0",
// "grad/...", "0/matches" ...).
struct ParityRun {
  std::vector<std::pair<std::string, Tensor>> values;
  int64_t near = 0, moved = 0;  // activations at the kink of ReLU (tools/parity_kinks.h)
};
// Losses and gradients of `step`; `other` is the step in the other precision. Runs once.
ParityRun finish(const ParityCase& c, ParityStep& step, const ParityStep& other);

// Evaluation mode: logits and deltas as above, and detections from the reference's own logits.
struct ParityEval {
  std::vector<std::pair<std::string, Tensor>> values;
  std::vector<std::vector<Detection>> detections, candidates;  // and all scores above the threshold, before any choice
};
ParityEval evaluate(const ParityCase& c, DType type, Device device);

// max|a - b| / max|b|, in double; infinity for other shapes or where either is not finite.
double difference(const Tensor& value, const Tensor& reference);

// The same for detections of one image: how far each of the reference's is from one of our candidates. Which of the
// candidates are kept may differ only where rounding decides: a score is at a cut (best of a level, best of the image),
// two scores are equal, an overlap is at NMS's threshold, or one kept for such a reason suppresses another.
double detection_difference(const ParityCase& c, size_t image, const ParityEval& eval);

}  // namespace fovea
