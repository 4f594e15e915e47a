// The op table: one row per op, grouped by the op's file. Gradient checks, rehearsal, thread invariance, benchmarks and
// the docs all run on it. A row draws random inputs (edge shapes among them) and says how to call the op.
#pragma once
#include "ops/conv.h"
#include "ops/draw.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/matmul.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/shape.h"
#include "ops/softmax.h"

namespace fovea {

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
