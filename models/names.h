// Names that torchvision gave its weights before 0.13, for files that are still around.
#pragma once
#include "nn/safetensors.h"

namespace fovea {

// head.*_head.conv.2.weight -> head.*_head.conv.1.0.weight and backbone.fpn.*_blocks.1.weight -> .1.0.weight. Other
// names, today's among them, stay as they are: retinanet_resnet50_fpn_coco-eeacb38b loads either way.
NamedTensors modern_names(NamedTensors weights);

// A file's weights under today's names, without an optimiser's state. Throws as read_safetensors().
NamedTensors read_weights(const std::string& path);

}  // namespace fovea
