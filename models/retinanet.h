// RetinaNet (Lin et al. 2017, arXiv:1708.02002): a ResNet, a feature pyramid, two small convolutional heads, focal
// loss.
#pragma once
#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/box.h"
#include "models/anchors.h"
#include "models/backbone.h"
#include "models/head.h"
#include "models/matcher.h"
#include "models/sampler.h"
#include "ops/box_ops.h"

namespace fovea {

struct Detection {
  Box<float> box;  // pixels of the network input
  float score;
  int label;
};

// The loss of class logits.
struct ClassLossOptions {
  // focal        of a sigmoid for each class
  // ce           its cross entropy: no gamma, no alpha
  // alpha_ce     the same with the weight alpha
  // focal_star   the paper's appendix A
  // hinge        of p_t, which the paper found unstable
  // softmax      focal loss of a softmax over the classes and the background (Detectron's SOFTMAX); gamma 0 and
  //              alpha -1 make it the cross entropy
  std::string kind = "focal";
  double alpha = 0.25;  // < 0: no class balancing
  double gamma = 2;
  double beta = 1;      // of focal_star
  double margin = 0.9;  // of hinge: above this p_t there is no loss
};

// Every choice that papers and frameworks disagree on, by name; the defaults are the paper's where it says which. See
// models/README.md.
struct RetinaNetOptions {
  // Network
  std::string backbone = "resnet50";  // tiny | resnet18 | resnet34 | resnet50 | resnet101 | resnext101_32x8d
  int width = 0;  // channels of the backbone's stem, from which all others follow; 0: the usual (tiny 32, others 64)
  int classes = 80;
  std::string backbone_norm = "frozen";  // batch | fixed | frozen | group (nn/layers.h; fixed is mmdetection's)
  std::string head_norm = "none";        // none | batch | batch_per_level | group, after each convolution of the towers
  double norm_eps = 1e-5;
  bool stride_1x1 = false;     // bottlenecks stride in their first 1x1 convolution (Caffe2's weights)
  int freeze_stages = 2;       // of stem, layer1 .. layer4: the first n are not trained
  std::string p6_from = "c5";  // c5 | p5
  int last_level = 7;          // 5 .. 7: P3 to this level
  int channels = 256;          // of the pyramid and the towers
  int tower_depth = 4;
  double prior = 0.01;      // probability of an object that the network starts with
  double final_std = 0.01;  // of the weights of the last convolutions
  AnchorOptions anchors{};
  // Training
  MatcherOptions matcher{};
  bool ignore_outside = false;  // anchors centred outside the unpadded image are ignored (keras-retinanet)
  BoxCoder coder{};             // centre, weights 1 1 1 1
  ClassLossOptions loss{};
  // all        every anchor counts (the paper)
  // ohem       of each picture the sampler_batch anchors of highest loss, after suppression by loss (paper 5.1)
  // ohem_1_3   ... of them at most a quarter positives, and three times as many background ones
  std::string sampler = "all";
  int sampler_batch = 128;
  double sampler_nms = 0.7;  // boxes with a higher IoU with one of higher loss are left out
  // The boxes of that IoU: anchors | decoded (where the network moves them; the paper does not say which).
  std::string sampler_boxes = "anchors";
  std::string box_loss = "smooth_l1";  // smooth_l1 | l1 | l2 | iou | giou | diou | ciou
  double box_beta = 0.11;              // of smooth_l1
  double box_weight = 1;
  // per_image   each image by its own positives, then the mean over images (paper, torchvision)
  // batch       the sum by the batch's positives (mmdetection, keras-retinanet)
  // detectron   the sum by the batch's positives + images
  // ema         the sum by a running mean of the batch's positives, from 100, momentum 0.9 (detectron2); in
  //             evaluation, where it stands still, by that of the training batches
  std::string normaliser = "per_image";
  // Detection
  double score_threshold = 0.05;  // kept: score > threshold
  double last_threshold = -1;     // of the last level (Detectron: 0); < 0: the same
  int level_top = 1000;           // best scores of each level, before NMS
  std::string nms = "hard";       // hard | linear | gaussian: the last two lower scores instead (soft-NMS)
  double nms_threshold = 0.5;     // suppressed: IoU > threshold, within a class
  bool nms_at_threshold = false;  // ... or IoU = threshold (Detectron)
  double nms_sigma = 0.5;         // of gaussian
  int detections = 100;           // of an image
  // Pixels: (rgb / 255 - mean) / std, given to the network in this order: rgb | bgr (Caffe2's weights)
  std::string pixel_order = "rgb";
  std::array<double, 3> pixel_mean{0.485, 0.456, 0.406}, pixel_std{0.229, 0.224, 0.225};
};

// The options as text, for configuration files, --set and checkpoints: ("loss.gamma", "2"), ("anchors.base", "4"), ...
std::vector<std::pair<std::string, std::string>> to_text(const RetinaNetOptions& options);
// Throws Error{Code::usage} for an unknown key (naming the nearest) or a value that does not fit.
void set_option(RetinaNetOptions& options, const std::string& key, const std::string& value);
std::string help_of_option(const std::string& key);
// Throws Error{Code::usage} where options contradict each other or are out of range, with what to change.
void check_options(const RetinaNetOptions& options);
// For a run that loads no backbone weights: throws Error{Code::usage} where parts are frozen that were never trained.
void check_from_scratch(const RetinaNetOptions& options);

struct LossStats {
  int64_t images = 0, boxes = 0, anchors = 0;  // anchors: of one image
  std::vector<int64_t> positives;              // by level, over the batch
  std::vector<int64_t> image_positives;        // by image
  std::vector<double> image_scale;             // by image: what its sums were multiplied by
  std::vector<int64_t> image_ignored;          // by image: anchors that count for nothing
  int64_t low_quality = 0;                     // positives with an IoU below the upper threshold
  int64_t unmatched = 0;                       // boxes without any anchor
  int64_t total_positives() const;
};

// [N], the sum over each image: logits [N,R,K], labels [N,R] as sigmoid_focal_loss() takes them.
Tensor class_loss_of(const ClassLossOptions& options, const Tensor& logits, const Tensor& labels);

// What the class loss of one level saw, for experiments.
struct ClassTerms {
  Tensor logits;    // [N,R,K], detached
  Tensor labels;    // [N,R]: as sigmoid_focal_loss() takes them
  Tensor gradient;  // [N,R,K]: of the whole classification loss, normaliser included
};

// What the prior predicts for the classification loss at step 0 (all logits equal to the initial bias). Of `stats` it
// reads anchors, image_positives, image_scale and image_ignored; throws where those of the images differ in number.
double expected_initial_loss(const RetinaNetOptions& options, const LossStats& stats);

class RetinaNet : public Layer<RetinaNet> {
 public:
  // Throws as check_options() does. `seed` decides the initial weights.
  explicit RetinaNet(const RetinaNetOptions& options, uint64_t seed = 0);
  const RetinaNetOptions options;
  Backbone backbone;
  Head head;
  // From the images to the heads' last convolutions everything is stored and multiplied as bf16. Weights, statistics of
  // norms, those convolutions, outputs and losses stay f32. Throws Code::impossible at the first call where the
  // processor has no products of bf16.
  bool in_bf16 = false;
  // For inference in_bf16: rounds the weights of those products to bf16, which halves what is kept and, on the
  // processor, read (a GPU widens them at each call). They have no gradients afterwards.
  void round_weights();

  struct Output {                  // by level, P3 first
    std::vector<Tensor> features;  // [N,H,W,channels]; none under NoGrad, to give their memory to the heads
    std::vector<Tensor> logits;    // [N,H*W*A,K]; loss.kind "softmax": [N,H*W*A,K+1], the background first
    std::vector<Tensor> deltas;    // [N,H*W*A,4]
    std::vector<Tensor> anchors;   // [H*W*A,4], on the processor
    Tensor anchors_there;          // [A,4]: of all levels, where the logits are; or none
    std::pair<int, int> input_hw;  // height and width of the images, padding included
  };
  // images [N,H,W,3], normalised, of any size. model(images) does the same in training and in evaluation mode, but for
  // what batch norms do.
  Output forward(const Tensor& images);

  // What every anchor has to find, on the device of the outputs.
  // Throws Error{Code::data} for a label outside 0 .. classes - 1 or coordinates that are not finite, and where there
  // is not one target per image.
  Assignment assign(const Output& output, const std::vector<Target>& targets) const;

  struct Losses {
    Tensor classification, box;  // scalars, weighted
    Tensor total() const;        // their sum
    LossStats stats() const;     // of a device: waits for it
    // What stats() reads: Assignment::counts, and what each image's sums were multiplied by, f64 [N].
    Tensor counts, scale;
    int64_t boxes = 0, anchors = 0;
  };
  // Throws as assign() does. On a device nothing is waited for but where a sampler mines examples.
  Losses loss(const Output& output, const std::vector<Target>& targets);
  // Called by loss() for each level. Costs a backward pass of the class loss where set, nothing where not.
  std::function<void(const ClassTerms&)> observer;

  // image_hw: height and width of each image without its padding, which boxes are clipped to; none given: all of the
  // input. Best score first; equal scores: lower level, then the higher place in its level's list.
  std::vector<std::vector<Detection>> detect(const Output& output,
                                             const std::vector<std::pair<int, int>>& image_hw = {}) const;

 private:
  const std::vector<Tensor>& anchors_for(const std::vector<Tensor>& features, const Tensor& images);
  std::vector<Tensor> sampler_boxes(const Output& output, int64_t image) const;
  void sample_hard(const Output& output, const std::vector<Target>& targets, Assignment& assignment) const;
  Tensor class_loss(const Output& output, const Assignment& assignment, const Tensor& scale) const;
  Tensor box_loss(const Output& output, const Assignment& assignment, const Tensor& scale) const;
  Tensor normaliser_;   // [1], where options.normaliser is "ema"
  Shape anchor_shape_;  // of the images that anchors_ belong to
  std::vector<Tensor> anchors_;
  Tensor anchors_there_;
};

// detect() with other options than the network was built with: other thresholds, another number of detections. Throws
// where they are for another number of classes, and as check_options() does.
std::vector<std::vector<Detection>> detect(const RetinaNetOptions& options, const RetinaNet::Output& output,
                                           const std::vector<std::pair<int, int>>& image_hw = {});

}  // namespace fovea
