// RetinaNet put together: backbone, heads, anchors, and which of it is trained.
#include "models/retinanet.h"

#include "core/autograd.h"
#include "core/error.h"
#include "ops/pointwise.h"
#include "ops/shape.h"

namespace fovea {
namespace {

const RetinaNetOptions& checked(const RetinaNetOptions& options) { return check_options(options), options; }

Backbone::Options backbone_options(const RetinaNetOptions& o) {
  ResNetOptions body = resnet_options(o.backbone);
  if (o.width > 0) body.width = o.width;
  body.norm = norm_kind(o.backbone_norm), body.eps = o.norm_eps, body.freeze_stages = o.freeze_stages,
  body.stride_1x1 = o.stride_1x1;
  return {.body = body, .channels = o.channels, .p6_from_p5 = o.p6_from == "p5", .last_level = o.last_level};
}
Head::Options head_options(const RetinaNetOptions& o) {
  const bool per_level = o.head_norm == "batch_per_level";
  return {.channels = o.channels,
          .anchors = o.anchors.count(),
          .classes = o.classes,
          .depth = o.tower_depth,
          .norm = per_level ? NormKind::none : norm_kind(o.head_norm),
          .norm_levels = per_level ? o.last_level - 2 : 0,
          .eps = o.norm_eps,
          .deviation = o.final_std,
          .background = o.loss.kind == "softmax",
          .prior = o.prior};
}

}  // namespace

RetinaNet::RetinaNet(const RetinaNetOptions& o, uint64_t seed)
    : Layer(seed),
      options(checked(o)),
      backbone(*this, "backbone", backbone_options(options)),
      head(*this, "head", head_options(options)) {
  const char* stages[] = {"backbone.body.conv1.*,backbone.body.bn1.*", "backbone.body.layer1.*",
                          "backbone.body.layer2.*", "backbone.body.layer3.*", "backbone.body.layer4.*"};
  for (int stage = 0; stage < options.freeze_stages; ++stage) set_trainable(stages[stage], false);
  if (options.normaliser == "ema")
    normaliser_ = buffer("loss_normaliser", Tensor::full({1}, 100, ParameterType::current()));
}

static void round_convolutions(Module& part) {
  for (Module* child : part.children()) {
    if (auto* conv = dynamic_cast<Conv2d*>(child)) conv->round_weight();
    else round_convolutions(*child);
  }
}
void RetinaNet::round_weights() { round_convolutions(backbone), head.round_weights(); }

RetinaNet::Output RetinaNet::forward(const Tensor& images) {
  check(images.rank() == 4 && images.dim(3) == 3, "retinanet: images have shape ", images.shape(),
        ", expected [N,H,W,3]");
  Output out;
  const Device there = device();
  const Tensor x = images.device() == there ? images : images.to(there);
  std::vector<Tensor> features = backbone(in_bf16 ? cast(x, DType::bf16) : x);
  out.anchors = anchors_for(features, images);
  out.anchors_there = anchors_there_;
  if (!NoGrad::active()) out.features = features;
  Head::Output heads = head(std::move(features));
  out.logits = std::move(heads.logits), out.deltas = std::move(heads.deltas);
  out.input_hw = {static_cast<int>(images.dim(1)), static_cast<int>(images.dim(2))};
  return out;
}

const std::vector<Tensor>& RetinaNet::anchors_for(const std::vector<Tensor>& features, const Tensor& images) {
  const Device there = device();
  if (!anchors_there_ || !(anchor_shape_ == images.shape()) || anchors_there_.device() != there) {
    anchors_.clear();
    for (size_t i = 0; i < features.size(); ++i)
      anchors_.push_back(make_anchors(options.anchors, static_cast<int>(i) + 3,
                                      {features[i].dim(1), features[i].dim(2)}, {images.dim(1), images.dim(2)}));
    const Tensor all = concat(anchors_, 0);
    int64_t first = 0;
    for (Tensor& level : anchors_) level = all.rows(first, first + level.dim(0)), first += level.dim(0);
    anchors_there_ = all.to(there);
    anchor_shape_ = images.shape();
  }
  return anchors_;
}

Tensor RetinaNet::Losses::total() const { return classification + box; }

}  // namespace fovea
