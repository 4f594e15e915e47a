// The presets: the paper's networks, torchvision's two, one for small data and one for trying things out.
#include "models/presets.h"

#include "core/error.h"
#include "core/words.h"

namespace fovea {
namespace {

using Training = std::vector<std::pair<std::string, std::string>>;

// Made shapes at 160 pixels: minutes on a CPU.
Preset toy() {
  RetinaNetOptions m{.backbone = "tiny",
                     .classes = 4,
                     .backbone_norm = "batch",
                     .head_norm = "group",
                     .freeze_stages = 0,
                     .last_level = 6,
                     .channels = 64,
                     .tower_depth = 2,
                     .anchors = {.base = 2.5},
                     .box_loss = "giou",
                     .normaliser = "batch"};
  return {"toy",
          "a thin network for the made shapes: minutes on two cores",
          m,
          {{"epochs", "12"},
           {"batch", "8"},
           {"short_side", "160"},
           {"max_side", "160"},
           {"group_by_aspect", "true"},
           {"optimizer", "adamw"},
           {"lr", "0.003"},
           {"weight_decay", "0.01"},
           {"schedule", "cosine"},
           {"warmup", "50"},
           {"clip_norm", "10"},
           {"ema", "0.99"},
           {"flip", "0.5"}}};
}

// Detectron's and the paper's schedule; learning rates are for 16 images a step.
Training paper_training() {
  return {{"batch", "16"},
          {"optimizer", "sgd"},
          {"lr", "0.01"},
          {"momentum", "0.9"},
          {"weight_decay", "0.0001"},
          {"norm_weight_decay", "0"},
          {"schedule", "multistep"},
          {"milestones", "0.6667,0.8889"},
          {"warmup", "500"},
          {"warmup_factor", "0.3333"},
          {"epochs", "12"},
          {"short_side", "800"},
          {"max_side", "1333"},
          {"group_by_aspect", "true"},
          {"flip", "0.5"},
          {"clip_norm", "10"}};
}
Preset paper(const std::string& name, const std::string& backbone, const std::string& description) {
  return {name, description, {.backbone = backbone}, paper_training()};
}
// ResNet-18 and 34: trained whole, with batch norm, at a size for small machines.
Preset light(const std::string& name, const std::string& backbone, const std::string& description) {
  RetinaNetOptions m{.backbone = backbone, .backbone_norm = "batch", .freeze_stages = 0, .box_loss = "l1"};
  return {name,
          description,
          m,
          {{"epochs", "20"},
           {"batch", "4"},
           {"optimizer", "adamw"},
           {"lr", "0.0002"},
           {"schedule", "cosine"},
           {"warmup", "100"},
           {"clip_norm", "10"},
           {"short_side", "320"},
           {"max_side", "640"},
           {"flip", "0.5"}}};
}
// From scratch on hundreds of images: norms everywhere, overlap as the box loss, averaged weights.
Preset small() {
  RetinaNetOptions m{.backbone = "resnet18",
                     .backbone_norm = "batch",
                     .head_norm = "group",
                     .freeze_stages = 0,
                     .channels = 128,
                     .tower_depth = 2,
                     .box_loss = "giou",
                     .box_weight = 2,
                     .normaliser = "batch"};
  return {"retinanet_small",
          "ResNet-18 with norms everywhere: from scratch on small data",
          m,
          {{"epochs", "40"},
           {"batch", "4"},
           {"optimizer", "adamw"},
           {"lr", "0.0005"},
           {"weight_decay", "0.05"},
           {"schedule", "cosine"},
           {"warmup", "100"},
           {"clip_norm", "10"},
           {"ema", "0.99"},
           {"short_side", "320"},
           {"max_side", "640"},
           {"flip", "0.5"},
           {"scale_min", "0.8"},
           {"scale_max", "1.25"},
           {"brightness", "0.2"},
           {"contrast", "0.2"}}};
}

// What torchvision's weights were trained with: 91 classes (COCO's ids), its anchors, its matcher, 300 detections.
RetinaNetOptions torchvision_model() {
  return {.backbone = "resnet50",
          .classes = 91,
          .backbone_norm = "frozen",
          .norm_eps = 0,
          .freeze_stages = 2,
          .p6_from = "p5",
          .anchors = {.style = "torchvision"},
          .matcher = {.floor = -1},
          .box_loss = "l1",
          .detections = 300};
}
Preset torchvision_v1() {
  Training t = paper_training();
  for (auto& [key, value] : t) {
    if (key == "epochs") value = "26";
    if (key == "milestones") value = "0.6154,0.8462";
    if (key == "warmup") value = "1000";
    if (key == "warmup_factor") value = "0.001";
  }
  t.insert(t.end(), {{"aspect_groups", "8"}, {"filter", "tiny"}});
  return {"tv_retinanet_r50", "torchvision's retinanet_resnet50_fpn: its weights load unchanged", torchvision_model(),
          t};
}
Preset torchvision_v2() {
  RetinaNetOptions m = torchvision_model();
  m.backbone_norm = "batch", m.head_norm = "group", m.norm_eps = 1e-5, m.freeze_stages = 0, m.p6_from = "c5",
  m.box_loss = "giou";
  return {"tv_retinanet_r50_v2",
          "torchvision's retinanet_resnet50_fpn_v2: its weights load unchanged",
          m,
          {{"batch", "16"},
           {"optimizer", "adamw"},
           {"lr", "0.0001"},
           {"weight_decay", "0.05"},
           {"norm_weight_decay", "0"},
           {"schedule", "multistep"},
           {"milestones", "0.6154,0.8462"},
           {"warmup", "1000"},
           {"epochs", "26"},
           {"short_side", "480,512,544,576,608,640,672,704,736,768,800"},
           {"max_side", "1333"},
           {"group_by_aspect", "true"},
           {"aspect_groups", "8"},
           {"filter", "tiny"},
           {"flip", "0.5"}}};
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> all = {
      toy(),
      small(),
      light("retinanet_r18", "resnet18", "ResNet-18, batch norm, trained whole"),
      light("retinanet_r34", "resnet34", "ResNet-34, batch norm, trained whole"),
      paper("retinanet_r50", "resnet50", "the paper's ResNet-50, on weights of a classifier"),
      paper("retinanet_r101", "resnet101", "the paper's ResNet-101, on weights of a classifier"),
      paper("retinanet_x101", "resnext101_32x8d",
            "ResNeXt-101 32x8d (the paper's Table 2), on weights of a classifier"),
      torchvision_v1(),
      torchvision_v2()};
  return all;
}

Preset preset(const std::string& name) {
  std::vector<std::string> names;
  for (const Preset& p : presets()) {
    if (p.name == name) return p;
    names.push_back(p.name);
  }
  fail(Code::usage,
       "preset '" + name + "' is unknown" + suggestion(name, names) + "\n  hint: there are " + joined(names));
}

}  // namespace fovea
