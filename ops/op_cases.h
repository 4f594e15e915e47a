// The op table: one row per op, grouped by the op's file. Gradient checks, rehearsal, thread invariance, benchmarks and
// the docs all run on it. A row draws random inputs (edge shapes among them) and says how to call the op.
#pragma once
#include "ops/draw.h"

namespace fovea {

inline const std::vector<OpCase>& op_cases() {
  using In = const std::vector<Tensor>&;
  static const std::vector<OpCase> rows = {
      // pointwise

      // reduce

      // matmul

      // shape

      // softmax, embedding, dropout

      // conv

      // pool

      // norm

      // resize

      // focal_loss, regression_loss, iou_loss

      // box_ops, nms, topk
  };
  return rows;
}

}  // namespace fovea
