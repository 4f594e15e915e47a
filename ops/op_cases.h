// The op table: one row per op, grouped by the op's file. Gradient checks, rehearsal, thread invariance, benchmarks and
// the docs all run on it. A row draws random inputs (edge shapes among them) and says how to call the op.
#pragma once
#include <algorithm>

#include "ops/box_ops.h"
#include "ops/conv.h"
#include "ops/draw.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/focal_loss.h"
#include "ops/iou_loss.h"
#include "ops/matmul.h"
#include "ops/nms.h"
#include "ops/norm.h"
#include "ops/pointwise.h"
#include "ops/pool.h"
#include "ops/reduce.h"
#include "ops/regression_loss.h"
#include "ops/resize.h"
#include "ops/shape.h"
#include "ops/softmax.h"
#include "ops/topk.h"

namespace fovea {

// Inputs that several rows share.
inline PoolOptions draw_pool(Draw& d) {
  const int kh = int(d.pick(1, 3)), kw = int(d.pick(1, 3));
  return {{kh, kw}, {int(d.pick(1, 3)), int(d.pick(1, 3))}, {kh / 2, kw / 2}, d.dice.chance(0.5), d.dice.chance(0.5)};
}
template <class Run> OpSample draw_rows(Draw& d, Run run) {  // a - b is away from 0
  const Shape shape{d.size(0, 5), d.size(1, 5)};
  const Tensor a = d.normal(shape), gap = d.away(shape);
  Tensor b = a.clone();
  for (int64_t i = 0; i < b.size(); ++i) b.data<double>()[i] += gap.data<double>()[i];
  return {{a, b}, run};
}
template <class Run> OpSample draw_norm(Draw& d, bool relu, Run run) {  // values before a relu are away from its kink
  const auto near = [](const Tensor& y) {
    return std::any_of(y.data<double>(), y.data<double>() + y.size(), [](double v) { return std::abs(v) < 1e-3; });
  };
  const int64_t c = d.size(1, 6);
  const Shape shape{d.size(0, 3), d.size(1, 4), d.size(1, 4), c};
  std::vector<Tensor> in;
  do in = {d.normal(shape), d.normal({c}), d.normal({c})};
  while (relu && d.scale == 1 && near(run(in, false)));
  return {in, [run, relu](const std::vector<Tensor>& x) { return run(x, relu); }};
}
template <class Run> OpSample draw_box_pairs(Draw& d, Run run) {
  const int64_t n = d.size(0, 5);
  return {{d.boxes(n, 10), d.boxes(n, 10)}, run};
}

inline const std::vector<OpCase>& op_cases() {
  using In = const std::vector<Tensor>&;
  static const std::vector<OpCase> rows = {
      // pointwise: kinks are kept away from by the way inputs are drawn
      {"exp",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape())}, [](In x) { return exp(x[0]); }};
       }},
      {"log",
       [](Draw& d) {
         return OpSample{{d.uniform(d.shape(), 0.2, 3)}, [](In x) { return log(x[0]); }};
       }},
      {"sqrt",
       [](Draw& d) {
         return OpSample{{d.uniform(d.shape(), 0.2, 3)}, [](In x) { return sqrt(x[0]); }};
       }},
      {"abs",
       [](Draw& d) {
         return OpSample{{d.away(d.shape())}, [](In x) { return abs(x[0]); }};
       }},
      {"neg",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape())}, [](In x) { return neg(x[0]); }};
       }},
      {"sigmoid",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape(), 3)}, [](In x) { return sigmoid(x[0]); }};
       }},
      {"tanh",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape())}, [](In x) { return tanh(x[0]); }};
       }},
      {"relu",
       [](Draw& d) {
         return OpSample{{d.away(d.shape())}, [](In x) { return relu(x[0]); }};
       }},
      {"silu",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape(), 3)}, [](In x) { return silu(x[0]); }};
       }},
      {"gelu",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape(), 2)}, [](In x) { return gelu(x[0]); }};
       }},
      {"softplus",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape(), 5)}, [](In x) { return softplus(x[0]); }};
       }},
      {"log_sigmoid",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape(), 5)}, [](In x) { return log_sigmoid(x[0]); }};
       }},
      {"leaky_relu",
       [](Draw& d) {
         return OpSample{{d.away(d.shape())}, [](In x) { return leaky_relu(x[0], 0.1); }};
       }},
      {"pow",
       [](Draw& d) {
         const double e = std::vector<double>{-1, 0, 0.5, 1, 2, 2.7}[d.pick(0, 5)];
         return OpSample{{d.uniform(d.shape(), 0.3, 2)}, [e](In x) { return pow(x[0], e); }};
       }},
      {"clamp",
       [](Draw& d) {
         return OpSample{{d.distinct(d.shape())}, [](In x) { return clamp(x[0], -0.5, 0.7); }};
       }},
      {"scale",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape())}, [](In x) { return -2.5 * x[0]; }};
       }},
      {"shift",
       [](Draw& d) {
         return OpSample{{d.normal(d.shape())}, [](In x) { return 1 - x[0] + 2; }};
       }},
      {"add",
       [](Draw& d) {
         return OpSample{d.pair(), [](In x) { return add(x[0], x[1]); }};
       }},
      {"sub",
       [](Draw& d) {
         return OpSample{d.pair(), [](In x) { return sub(x[0], x[1]); }};
       }},
      {"mul",
       [](Draw& d) {
         return OpSample{d.pair(), [](In x) { return mul(x[0], x[1]); }};
       }},
      {"div",
       [](Draw& d) {
         auto x = d.pair();
         return OpSample{{x[0], d.uniform(x[1].shape(), 0.5, 2)}, [](In v) { return div(v[0], v[1]); }};
       }},
      {"minimum",
       [](Draw& d) {
         return OpSample{d.pair(0.05), [](In x) { return minimum(x[0], x[1]); }};
       }},
      {"maximum",
       [](Draw& d) {
         return OpSample{d.pair(0.05), [](In x) { return maximum(x[0], x[1]); }};
       }},
      {"add_relu",
       [](Draw& d) {
         return OpSample{d.pair(0.05), [](In x) { return add_relu(x[0], x[1]); }};
       }},
      {"where",
       [](Draw& d) {
         auto x = d.pair();
         const Tensor c = d.indices(d.dice.chance(0.5) ? x[0].shape() : Shape{}, 0, 1).to(DType::u8);
         return OpSample{{c, x[0], x[1]}, [](In v) { return where(v[0], v[1], v[2]); }};
       }},

      // reduce
      {"sum",
       [](Draw& d) {
         const auto axes = d.axes(4);
         return OpSample{{d.normal({d.size(0, 3), d.size(1, 4), d.size(1, 3), d.size(1, 20)})},
                         [axes](In x) { return sum(x[0], axes); }};
       }},
      {"mean",
       [](Draw& d) {
         const auto axes = d.axes(3);
         return OpSample{{d.normal({d.size(1, 3), d.size(1, 4), d.size(1, 40)})},
                         [axes](In x) { return mean(x[0], axes, true); }};
       }},
      {"max",
       [](Draw& d) {
         const auto axes = d.axes(3);
         return OpSample{{d.distinct({d.size(1, 3), d.size(1, 4), d.size(1, 40)})},
                         [axes](In x) { return max(x[0], axes); }};
       }},
      {"argmax",
       [](Draw& d) {
         const int axis = int(d.pick(-3, 2));
         return OpSample{{d.distinct({d.size(1, 3), d.size(1, 4), d.size(1, 40)})},
                         [axis](In x) { return argmax(x[0], axis); }};
       }},

      // matmul
      {"matmul",
       [](Draw& d) {
         const int64_t m = d.size(0, 5), k = d.size(0, 4), n = d.size(1, 4), batch = d.size(1, 3);
         const bool ta = d.dice.chance(0.5), tb = d.dice.chance(0.5);
         const std::vector<std::pair<Shape, Shape>> leads = {
             {{}, {}}, {{batch}, {}}, {{batch}, {batch}}, {{2, 1}, {batch}}};
         const auto& [a, b] = leads[d.pick(0, 3)];
         return OpSample{{d.normal((ta ? a.plus(k).plus(m) : a.plus(m).plus(k))),
                          d.normal((tb ? b.plus(n).plus(k) : b.plus(k).plus(n)))},
                         [ta, tb](In x) {
                           return matmul(x[0], x[1], {ta, tb});
                         }};
       }},
      {"linear",
       [](Draw& d) {
         const int64_t in = d.size(1, 5), out = d.size(1, 4);
         std::vector<Tensor> x = {d.normal({d.size(0, 3), d.size(1, 3), in}), d.normal({in, out})};
         if (d.dice.chance(0.7)) x.push_back(d.normal({out}));
         return OpSample{x, [](In v) { return linear(v[0], v[1], v.size() > 2 ? v[2] : Tensor()); }};
       }},

      // shape
      {"reshape",
       [](Draw& d) {
         const int64_t a = d.size(0, 4), b = d.size(1, 5);
         return OpSample{{d.normal({a, b})}, [a, b](In x) { return reshape(x[0], {b, 1, a}); }};
       }},
      {"slice",
       [](Draw& d) {
         const Shape s{d.size(1, 4), d.size(1, 5), d.size(1, 4)};
         const int axis = int(d.pick(0, 2));
         const int64_t begin = d.pick(0, s[axis]), end = d.pick(begin, s[axis]);
         return OpSample{{d.normal(s)}, [=](In x) { return slice(x[0], axis, begin, end); }};
       }},
      {"concat",
       [](Draw& d) {
         const Shape s{d.size(1, 3), d.size(1, 3), d.size(1, 3)};
         const int axis = int(d.pick(-3, 2));
         return OpSample{{d.normal(s.with(axis, d.size(0, 3))), d.normal(s), d.normal(s.with(axis, d.size(0, 2)))},
                         [axis](In x) { return concat(x, axis); }};
       }},
      {"permute",
       [](Draw& d) {
         std::vector<int> order = {0, 1, 2, 3};
         for (int i = 3; i > 0; --i) std::swap(order[i], order[d.pick(0, i)]);
         return OpSample{{d.normal({d.size(0, 3), d.size(1, 4), d.size(1, 3), d.size(1, 4)})},
                         [order](In x) { return permute(x[0], order); }};
       }},
      {"pad",
       [](Draw& d) {
         const std::vector<std::pair<int64_t, int64_t>> w = {
             {d.pick(0, 1), d.pick(0, 2)}, {d.pick(0, 2), 0}, {0, d.pick(0, 1)}};
         return OpSample{{d.normal({d.size(0, 3), d.size(1, 4), d.size(1, 4)})},
                         [w](In x) { return pad(x[0], w, 0.5); }};
       }},
      {"gather",
       [](Draw& d) {
         const Shape s{d.size(1, 3), d.size(1, 4), d.size(1, 3)};
         const int axis = int(d.pick(0, 2));
         return OpSample{{d.normal(s), d.indices({d.size(0, 6)}, 0, s[axis] - 1)},
                         [axis](In x) { return gather(x[0], x[1], axis); }};
       }},

      // softmax, embedding, dropout
      {"softmax",
       [](Draw& d) {
         const int axis = int(d.pick(-2, 1));
         return OpSample{{d.normal({d.size(0, 4), d.size(1, 40)}, 2)}, [axis](In x) { return softmax(x[0], axis); }};
       }},
      {"log_softmax",
       [](Draw& d) {
         const int axis = int(d.pick(-2, 1));
         return OpSample{{d.normal({d.size(1, 4), d.size(1, 40)}, 2)},
                         [axis](In x) { return log_softmax(x[0], axis); }};
       }},
      {"cross_entropy",
       [](Draw& d) {
         const int64_t rows = d.size(0, 6), k = d.size(1, 8);
         return OpSample{{d.normal({rows, k}, 2), d.indices({rows}, -1, k - 1)},
                         [](In x) { return cross_entropy(x[0], x[1], {.ignore = -1}); }};
       }},
      {"embedding",
       [](Draw& d) {
         const int64_t v = d.size(1, 5);
         return OpSample{{d.normal({v, d.size(1, 4)}), d.indices({d.size(0, 3), d.size(1, 3)}, 0, v - 1)},
                         [](In x) { return embedding(x[0], x[1]); }};
       }},
      {"dropout",
       [](Draw& d) {
         const double p = 0.25 * double(d.pick(0, 3));
         const uint64_t seed = uint64_t(d.pick(0, 1000));
         return OpSample{{d.normal(d.shape())}, [=](In x) { return dropout(x[0], p, seed, 3); }};
       }},

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
      {"conv2d_norm",  // the relu is left to conv2d's own tests: its kink
       [](Draw& d) {
         const int64_t k = d.pick(1, 3), c = d.size(1, 3), o = d.size(1, 3), stride = d.pick(1, 2);
         const Shape in{d.size(0, 2), d.size(1, 5) + k, d.size(1, 5) + k, c};
         const Conv2dOptions options{.stride = int(stride), .pad = int(k) - 1};
         const Shape out{in[0], (in[1] + k - 2) / stride + 1, (in[2] + k - 2) / stride + 1, o};
         const Tensor scale = d.normal({o});
         return OpSample{{d.normal(in), d.normal({k, k, c, o}), d.normal({o}), d.normal(out)},
                         [=](In x) { return conv2d_norm(x[0], x[1], scale.to(x[0].dtype()), x[2], x[3], options); }};
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
      {"max_pool2d",  // distinct values: no ties
       [](Draw& d) {
         const PoolOptions o = draw_pool(d);
         return OpSample{{d.distinct({d.size(0, 2), d.size(1, 6), d.size(1, 6), d.size(1, 3)})},
                         [o](In x) { return max_pool2d(x[0], o); }};
       }},
      {"avg_pool2d",
       [](Draw& d) {
         const PoolOptions o = draw_pool(d);
         return OpSample{{d.normal({d.size(0, 2), d.size(1, 6), d.size(1, 6), d.size(1, 3)})},
                         [o](In x) { return avg_pool2d(x[0], o); }};
       }},
      {"adaptive_avg_pool2d",
       [](Draw& d) {
         const Int2 out{int(d.size(1, 5)), int(d.size(1, 5))};
         return OpSample{{d.normal({d.size(0, 2), d.size(1, 6), d.size(1, 6), d.size(1, 3)})},
                         [out](In x) { return adaptive_avg_pool2d(x[0], out); }};
       }},

      // norm
      {"batch_norm",
       [](Draw& d) {
         return draw_norm(d, d.dice.chance(0.5), [](In x, bool relu) {
           return batch_norm(x[0], x[1], x[2], {}, {}, {.training = true, .eps = 0.1, .relu = relu});
         });
       }},
      {"frozen_batch_norm",
       [](Draw& d) {
         const Tensor mean = d.normal({6 * d.scale}), var = d.uniform({6 * d.scale}, 0.1, 2);
         return draw_norm(d, d.dice.chance(0.5), [=](In x, bool relu) {
           const DType t = x[0].dtype();
           const int64_t c = x[0].dim(-1);
           return frozen_batch_norm(x[0], x[1], x[2], mean.rows(0, c).to(t), var.rows(0, c).to(t), 1e-5, relu);
         });
       }},
      {"group_norm",
       [](Draw& d) {
         return draw_norm(d, d.dice.chance(0.5), [g = int(d.pick(1, 3))](In x, bool relu) {
           const int groups = x[0].dim(-1) % g == 0 ? g : 1;
           return group_norm(x[0], x[1], x[2], groups, 0.1, relu);
         });
       }},
      {"layer_norm",
       [](Draw& d) {
         const int64_t c = d.size(1, 40);
         return OpSample{{d.normal({d.size(0, 3), d.size(1, 4), c}), d.normal({c}), d.normal({c})},
                         [](In x) { return layer_norm(x[0], x[1], x[2], 0.1); }};
       }},

      // resize
      {"resize_nearest",
       [](Draw& d) {
         const int64_t h = d.size(1, 9), w = d.size(1, 9);
         return OpSample{{d.normal({d.size(0, 2), d.size(1, 5), d.size(1, 5), d.size(1, 3)})},
                         [=](In x) { return resize_nearest(x[0], h, w); }};
       }},
      {"resize_bilinear",
       [](Draw& d) {
         const int64_t h = d.size(1, 9), w = d.size(1, 9);
         return OpSample{{d.normal({d.size(0, 2), d.size(1, 5), d.size(1, 5), d.size(1, 3)})},
                         [=](In x) { return resize_bilinear(x[0], h, w); }};
       }},

      // focal_loss, regression_loss, iou_loss
      {"sigmoid_focal_loss",
       [](Draw& d) {
         const double gamma[] = {0, 0.5, 1, 2, 3.3};
         const FocalOptions o{d.dice.chance(0.5) ? std::optional(0.25) : std::nullopt, gamma[d.pick(0, 4)]};
         const int64_t n = d.size(0, 3), r = d.size(0, 5), k = d.size(1, 40);
         return OpSample{{d.normal({n, r, k}, 3), d.indices({n, r}, -2, k - 1)},
                         [o](In x) { return sigmoid_focal_loss(x[0], x[1], o); }};
       }},
      {"focal_loss_star",
       [](Draw& d) {
         const FocalStarOptions o{d.dice.chance(0.5) ? std::optional(0.25) : std::nullopt, d.dice.uniform(1, 4),
                                  d.dice.uniform(0, 2)};
         const int64_t n = d.size(0, 3), r = d.size(0, 5), k = d.size(1, 40);
         return OpSample{{d.normal({n, r, k}), d.indices({n, r}, -2, k - 1)},
                         [o](In x) { return focal_loss_star(x[0], x[1], o); }};
       }},
      {"smooth_l1",  // differences away from 0 (kink for beta 0); the kink at beta is of second order
       [](Draw& d) {
         return draw_rows(
             d, [b = d.dice.chance(0.3) ? 0 : d.dice.uniform(0.1, 1)](In x) { return smooth_l1(x[0], x[1], b); });
       }},
      {"l1_loss", [](Draw& d) { return draw_rows(d, [](In x) { return l1_loss(x[0], x[1]); }); }},
      {"l2_loss", [](Draw& d) { return draw_rows(d, [](In x) { return l2_loss(x[0], x[1]); }); }},
      {"iou_loss", [](Draw& d) { return draw_box_pairs(d, [](In x) { return iou_loss(x[0], x[1]); }); }},
      {"giou_loss", [](Draw& d) { return draw_box_pairs(d, [](In x) { return giou_loss(x[0], x[1]); }); }},
      {"diou_loss", [](Draw& d) { return draw_box_pairs(d, [](In x) { return diou_loss(x[0], x[1]); }); }},
      {"ciou_loss",  // with a constant alpha its gradient is none of its value's: ops' tests compare that with
                     // torchvision's rule
       [](Draw& d) {
         return draw_box_pairs(d, [](In x) { return ciou_loss(x[0], x[1], {.constant_alpha = false}); });
       }},

      // box_ops, nms, topk
      {"box_iou",
       [](Draw& d) {
         return OpSample{{d.boxes(d.size(0, 5), 10), d.boxes(d.size(0, 5), 10)},
                         [](In x) { return box_iou(x[0], x[1]); }};
       }},
      {"box_ioa",
       [](Draw& d) {
         return OpSample{{d.boxes(d.size(0, 5), 10), d.boxes(d.size(0, 5), 10)},
                         [](In x) { return box_ioa(x[0], x[1]); }};
       }},
      {"encode_boxes",
       [](Draw& d) { return draw_box_pairs(d, [](In x) {
                       return encode_boxes(x[0], x[1], {10, 10, 5, 5});
                     }); }},
      {"decode_boxes",
       [](Draw& d) {
         const int64_t n = d.size(1, 3), r = d.size(0, 4);
         const Tensor anchors = d.boxes(r, 10);
         return OpSample{{d.normal({n, r, 4})}, [=](In x) {
                           return decode_boxes(x[0], anchors.to(x[0].dtype()), {2, 2, 1, 1});
                         }};
       }},
      {"clip_boxes",
       [](Draw& d) {
         return OpSample{{d.boxes(d.size(0, 5), 10)}, [](In x) { return clip_boxes(x[0], 6, 8); }};
       }},
      {"nms",
       [](Draw& d) {
         const int64_t n = d.size(0, 30);
         return OpSample{{d.boxes(n, 10), d.distinct({n}), d.indices({n}, 0, 2)},
                         [](In x) { return batched_nms(x[0], x[1], x[2], 0.3); }};
       }},
      {"soft_nms",
       [](Draw& d) {
         const int64_t n = d.size(0, 30);
         return OpSample{{d.boxes(n, 10), d.distinct({n}), d.indices({n}, 0, 2)},
                         [](In x) { return soft_nms(x[0], x[1], x[2]).scores; }};
       }},
      {"top_k",
       [](Draw& d) {
         const int64_t n = d.size(0, 60), k = d.size(0, 9);
         return OpSample{{d.normal({n})}, [k](In x) { return top_k(x[0], k).values; }};
       }},
  };
  return rows;
}

}  // namespace fovea
