// The op table: one row per op, grouped by the op's file. Gradient checks, rehearsal, thread invariance, benchmarks and
// the docs all run on it. A row draws random inputs (edge shapes among them) and says how to call the op.
#pragma once
#include "ops/conv.h"
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
      {"conv2d",
       [](Draw& d) {
         const int64_t g = d.pick(1, 2), k = d.pick(1, 3), c = d.size(1, 3), o = d.size(1, 3);
         const Conv2dOptions options{
             {int(d.pick(1, 3)), int(d.pick(1, 3))}, {int(k) - 1, int(k)}, int(d.pick(1, 2)), int(g)};
         const int64_t h = d.size(1, 5), w = d.size(1, 5);
         return OpSample{{d.normal({d.size(0, 2), h + k, w + k, c * g}), d.normal({k, k, c, o * g}), d.normal({o * g})},
                         [options](In x) { return conv2d(x[0], x[1], x[2], options); }};
       }},
      {"conv_transpose2d",
       [](Draw& d) {
         const int64_t g = d.pick(1, 2), k = d.pick(1, 3), c = d.size(1, 3), o = d.size(1, 3), s = d.pick(2, 3);
         const ConvTranspose2dOptions options{int(s), 0, int(d.pick(0, 1)), int(d.pick(1, 2)), int(g)};
         return OpSample{{d.normal({d.size(0, 2), d.size(1, 4), d.size(1, 4), c * g}), d.normal({k, k, o, c * g}),
                          d.normal({o * g})},
                         [options](In x) { return conv_transpose2d(x[0], x[1], x[2], options); }};
       }},

      // pool

      // norm

      // resize

      // focal_loss, regression_loss, iou_loss

      // box_ops, nms, topk
  };
  return rows;
}

}  // namespace fovea
