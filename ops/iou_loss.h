// Losses that grow as two boxes overlap less. boxes, targets [R,4] corners x1,y1,x2,y2 -> [R]; gradients to both.
// They throw for other shapes and for two types.
#pragma once
#include "core/tensor.h"

namespace fovea {

struct IouLossOptions {
  double eps = 1e-7;           // added to denominators, as torchvision does
  bool constant_alpha = true;  // ciou_loss: no gradient through the trade-off alpha, as torchvision does
};

// With I and U the areas of intersection and union, E the smallest box around both, c its diagonal, d the distance of
// centres (Yu et al. 2016; Rezatofighi et al. 2019; DIoU and CIoU: Zheng et al. 2020):
Tensor iou_loss(const Tensor& boxes, const Tensor& targets, IouLossOptions options = {});   // 1 - I/U
Tensor giou_loss(const Tensor& boxes, const Tensor& targets, IouLossOptions options = {});  // 1 - I/U + (|E| - U) / |E|
Tensor diou_loss(const Tensor& boxes, const Tensor& targets, IouLossOptions options = {});  // 1 - I/U + d^2 / c^2
// DIoU's + alpha v, v = (2/pi (atan(w_t/h_t) - atan(w/h)))^2, alpha = v / (1 - I/U + v)
Tensor ciou_loss(const Tensor& boxes, const Tensor& targets, IouLossOptions options = {});

}  // namespace fovea
