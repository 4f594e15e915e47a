// The rows of the op table, one per op: each draws random inputs (edge shapes among them) and says how to call the op.
#include "ops/op_cases.h"

#include <algorithm>

#include "ops/box_ops.h"
#include "ops/conv.h"
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
namespace {

using In = const std::vector<Tensor>&;

// A constant of a row, in the type and on the device of an input.
Tensor like(const Tensor& constant, const Tensor& x) { return constant.to(x.dtype()).to(x.device()); }

template <class Of> bool any_of(int64_t count, Of of) {
  for (int64_t i = 0; i < count; ++i)
    if (of(i)) return true;
  return false;
}

// The rows of the table, a function a file of ops/. Inputs keep away from kinks by the way they are drawn.
class OpTable {
 public:
  OpTable() {
    pointwise_rows(), reduce_rows(), matmul_rows(), shape_rows(), softmax_rows(), conv_rows(), pool_rows();
    norm_rows(), resize_rows(), loss_rows(), box_rows();
  }
  std::vector<OpCase> rows;

 private:
  // A row: draws inputs, and says how to call the op on them. `unary` and `binary`: of an op that takes just these.
  void row(const char* name, std::function<OpSample(Draw&)> make) { rows.push_back({name, std::move(make)}); }
  template <class Make> void unary(const char* name, Make make, Tensor (*op)(const Tensor&)) {
    row(name, [=](Draw& d) { return OpSample{{make(d)}, [op](In x) { return op(x[0]); }}; });
  }
  template <class Make> void binary(const char* name, Make make, Tensor (*op)(const Tensor&, const Tensor&)) {
    row(name, [=](Draw& d) { return OpSample{make(d), [op](In x) { return op(x[0], x[1]); }}; });
  }

  // Inputs that several rows share.
  static auto normal(double deviation = 1) {
    return [=](Draw& d) { return d.normal(d.shape(), deviation); };
  }
  static auto uniform(double low, double high) {
    return [=](Draw& d) { return d.uniform(d.shape(), low, high); };
  }
  static Tensor away(Draw& d) { return d.away(d.shape()); }
  static auto pair(double gap = 0) {
    return [=](Draw& d) { return d.pair(gap); };
  }
  static Shape image(Draw& d) { return {d.size(0, 2), d.size(1, 6), d.size(1, 6), d.size(1, 3)}; }
  static Shape cube(Draw& d) { return {d.size(1, 3), d.size(1, 4), d.size(1, 40)}; }
  static std::vector<Tensor> distant_rows(Draw& d) {  // a - b is away from 0
    const Shape shape{d.size(0, 5), d.size(1, 5)};
    const Tensor a = d.normal(shape);
    return {a, a + d.away(shape)};
  }
  static std::vector<Tensor> box_pairs(Draw& d) {  // no two sides that meet: there overlaps and hulls have kinks
    const int64_t n = d.size(0, 5);
    std::vector<Tensor> x;
    const auto meet = [&x](int64_t i) {  // side i of x[0] with the two of x[1] on its axis
      return std::abs(x[0].at(i) - x[1].at(i)) < 0.02 || std::abs(x[0].at(i) - x[1].at(i ^ 2)) < 0.02;
    };
    do x = {d.boxes(n, 10), d.boxes(n, 10)};
    while (d.scale == 1 && any_of(x[0].size(), meet));
    return x;
  }
  static std::vector<Tensor> box_sets(Draw& d) { return {d.boxes(d.size(0, 5), 10), d.boxes(d.size(0, 5), 10)}; }
  static std::vector<Tensor> scored_boxes(Draw& d) {
    const int64_t n = d.size(0, 30);
    return {d.boxes(n, 10), d.distinct({n}), d.indices({n}, 0, 2)};
  }
  static PoolOptions window(Draw& d) {
    const int h = int(d.pick(1, 3)), w = int(d.pick(1, 3));
    return {{h, w}, {int(d.pick(1, 3)), int(d.pick(1, 3))}, {h / 2, w / 2}, d.dice.chance(0.5), d.dice.chance(0.5)};
  }

  void pointwise_rows() {
    unary("exp", normal(), exp);
    unary("log", uniform(0.2, 3), log);
    unary("sqrt", uniform(0.2, 3), sqrt);
    unary("abs", away, abs);
    unary("neg", normal(), neg);
    unary("sigmoid", normal(3), sigmoid);
    unary("tanh", normal(), tanh);
    unary("relu", away, relu);
    unary("silu", normal(3), silu);
    unary("gelu", normal(2), gelu);
    unary("softplus", normal(5), softplus);
    unary("log_sigmoid", normal(5), log_sigmoid);
    unary("leaky_relu", away, [](const Tensor& x) { return leaky_relu(x, 0.1); });
    unary("scale", normal(), [](const Tensor& x) { return -2.5 * x; });
    unary("shift", normal(), [](const Tensor& x) { return 3 + x; });
    unary("cast", normal(), [](const Tensor& x) { return cast(x, x.dtype()); });  // rounding has no slope: see test_ops
    row("clamp", [](Draw& d) {
      return OpSample{{d.distinct(d.shape())}, [](In x) { return clamp(x[0], -0.5, 0.7); }};
    });
    row("pow", [](Draw& d) {
      const double e = std::vector<double>{-1, 0, 0.5, 1, 2, 2.7}[d.pick(0, 5)];
      return OpSample{{d.uniform(d.shape(), 0.3, 2)}, [e](In x) { return pow(x[0], e); }};
    });
    binary("add", pair(), add);
    binary("sub", pair(), sub);
    binary("mul", pair(), mul);
    binary("minimum", pair(0.05), minimum);
    binary("maximum", pair(0.05), maximum);
    binary("add_relu", pair(0.05), add_relu);
    row("div", [](Draw& d) {
      const auto x = d.pair();
      return OpSample{{x[0], d.uniform(x[1].shape(), 0.5, 2)}, [](In v) { return div(v[0], v[1]); }};
    });
    row("where", [](Draw& d) {
      const auto x = d.pair();
      const Tensor c = d.indices(d.dice.chance(0.5) ? x[0].shape() : Shape{}, 0, 1).to(DType::u8);
      return OpSample{{c, x[0], x[1]}, [](In v) { return where(v[0], v[1], v[2]); }};
    });
  }

  void reduce_rows() {
    row("sum", [](Draw& d) {
      const auto axes = d.axes(4);
      const Shape s{d.size(0, 3), d.size(1, 4), d.size(1, 3), d.size(1, 20)};
      return OpSample{{d.normal(s)}, [axes](In x) { return sum(x[0], axes); }};
    });
    row("mean", [](Draw& d) {
      const auto axes = d.axes(3);
      return OpSample{{d.normal(cube(d))}, [axes](In x) { return mean(x[0], axes, true); }};
    });
    row("max", [](Draw& d) {
      const auto axes = d.axes(3);
      return OpSample{{d.distinct(cube(d))}, [axes](In x) { return max(x[0], axes); }};
    });
    row("argmax", [](Draw& d) {
      const int axis = int(d.pick(-3, 2));
      return OpSample{{d.distinct(cube(d))}, [axis](In x) { return argmax(x[0], axis); }};
    });
  }

  void matmul_rows() {
    row("matmul", [](Draw& d) {
      const int64_t m = d.size(0, 5), k = d.size(0, 4), n = d.size(1, 4), batch = d.size(1, 3);
      const bool ta = d.dice.chance(0.5), tb = d.dice.chance(0.5);
      const std::pair<Shape, Shape> leads[] = {{{}, {}}, {{batch}, {}}, {{batch}, {batch}}, {{2, 1}, {batch}}};
      const auto& [a, b] = leads[d.pick(0, 3)];
      const Tensor u = d.normal(ta ? a.plus(k).plus(m) : a.plus(m).plus(k));
      const Tensor v = d.normal(tb ? b.plus(n).plus(k) : b.plus(k).plus(n));
      const MatmulOptions o{ta, tb};
      return OpSample{{u, v}, [o](In x) { return matmul(x[0], x[1], o); }};
    });
    row("linear", [](Draw& d) {
      const int64_t in = d.size(1, 5), out = d.size(1, 4);
      std::vector<Tensor> x = {d.normal({d.size(0, 3), d.size(1, 3), in}), d.normal({in, out})};
      if (d.dice.chance(0.7)) x.push_back(d.normal({out}));
      return OpSample{x, [](In v) { return linear(v[0], v[1], v.size() > 2 ? v[2] : Tensor()); }};
    });
  }

  void shape_rows() {
    row("reshape", [](Draw& d) {
      const int64_t a = d.size(0, 4), b = d.size(1, 5);
      return OpSample{{d.normal({a, b})}, [=](In x) { return reshape(x[0], {b, 1, a}); }};
    });
    row("slice", [](Draw& d) {
      const Shape s{d.size(1, 4), d.size(1, 5), d.size(1, 4)};
      const int axis = int(d.pick(0, 2));
      const int64_t begin = d.pick(0, s[axis]), end = d.pick(begin, s[axis]);
      return OpSample{{d.normal(s)}, [=](In x) { return slice(x[0], axis, begin, end); }};
    });
    row("concat", [](Draw& d) {
      const Shape s{d.size(1, 3), d.size(1, 3), d.size(1, 3)};
      const int axis = int(d.pick(-3, 2));
      const auto part = [&](int64_t size) { return d.normal(s.with(axis, size)); };
      return OpSample{{part(d.size(0, 3)), d.normal(s), part(d.size(0, 2))}, [axis](In x) { return concat(x, axis); }};
    });
    row("permute", [](Draw& d) {
      std::vector<int> order = {0, 1, 2, 3};
      for (int i = 3; i > 0; --i) std::swap(order[i], order[d.pick(0, i)]);
      const Shape s{d.size(0, 3), d.size(1, 4), d.size(1, 3), d.size(1, 4)};
      return OpSample{{d.normal(s)}, [order](In x) { return permute(x[0], order); }};
    });
    row("pad", [](Draw& d) {
      const std::vector<std::pair<int64_t, int64_t>> w = {
          {d.pick(0, 1), d.pick(0, 2)}, {d.pick(0, 2), 0}, {0, d.pick(0, 1)}};
      const Shape s{d.size(0, 3), d.size(1, 4), d.size(1, 4)};
      return OpSample{{d.normal(s)}, [w](In x) { return pad(x[0], w, 0.5); }};
    });
    row("gather", [](Draw& d) {
      const Shape s{d.size(1, 3), d.size(1, 4), d.size(1, 3)};
      const int axis = int(d.pick(0, 2));
      const Tensor index = d.indices({d.size(0, 6)}, 0, s[axis] - 1);
      return OpSample{{d.normal(s), index}, [axis](In x) { return gather(x[0], x[1], axis); }};
    });
    row("pick", [](Draw& d) {
      const int64_t rows = d.size(0, 6), cols = d.size(1, 5);
      return OpSample{{d.normal({rows, cols}), d.indices({rows}, 0, cols - 1)}, [](In x) { return pick(x[0], x[1]); }};
    });
  }

  void softmax_rows() {  // and embedding, dropout
    row("softmax", [](Draw& d) {
      const int axis = int(d.pick(-2, 1));
      return OpSample{{d.normal({d.size(0, 4), d.size(1, 40)}, 2)}, [axis](In x) { return softmax(x[0], axis); }};
    });
    row("log_softmax", [](Draw& d) {
      const int axis = int(d.pick(-2, 1));
      return OpSample{{d.normal({d.size(1, 4), d.size(1, 40)}, 2)}, [axis](In x) { return log_softmax(x[0], axis); }};
    });
    row("cross_entropy", [](Draw& d) {
      const int64_t rows = d.size(0, 6), k = d.size(1, 8);
      const Tensor labels = d.indices({rows}, -1, k - 1);
      return OpSample{{d.normal({rows, k}, 2), labels}, [](In x) { return cross_entropy(x[0], x[1], {.ignore = -1}); }};
    });
    row("embedding", [](Draw& d) {
      const int64_t v = d.size(1, 5);
      const Tensor ids = d.indices({d.size(0, 3), d.size(1, 3)}, 0, v - 1);
      return OpSample{{d.normal({v, d.size(1, 4)}), ids}, [](In x) { return embedding(x[0], x[1]); }};
    });
    row("dropout", [](Draw& d) {
      const double p = 0.25 * double(d.pick(0, 3));
      const uint64_t seed = uint64_t(d.pick(0, 1000));
      return OpSample{{d.normal(d.shape())}, [=](In x) { return dropout(x[0], p, seed, 3); }};
    });
  }

  void conv_rows() {
    row("conv2d", [](Draw& d) {
      const int64_t g = d.pick(1, 2), k = d.pick(1, 3), c = d.size(1, 3), o = d.size(1, 3);
      const Int2 stride{int(d.pick(1, 3)), int(d.pick(1, 3))}, pad{int(k) - 1, int(k)};
      const Conv2dOptions options{stride, pad, int(d.pick(1, 2)), int(g)};
      const Shape in{d.size(0, 2), d.size(1, 5) + k, d.size(1, 5) + k, c * g};
      return OpSample{{d.normal(in), d.normal({k, k, c, o * g}), d.normal({o * g})},
                      [options](In x) { return conv2d(x[0], x[1], x[2], options); }};
    });
    row("conv2d_norm", [](Draw& d) {  // the relu is left to conv2d's own tests: its kink
      const int64_t k = d.pick(1, 3), c = d.size(1, 3), o = d.size(1, 3), stride = d.pick(1, 2);
      const Shape in{d.size(0, 2), d.size(1, 5) + k, d.size(1, 5) + k, c};
      const Conv2dOptions options{.stride = int(stride), .pad = int(k) - 1};
      const Shape out{in[0], (in[1] + k - 2) / stride + 1, (in[2] + k - 2) / stride + 1, o};
      const Tensor scale = d.normal({o});
      return OpSample{{d.normal(in), d.normal({k, k, c, o}), d.normal({o}), d.normal(out)},
                      [=](In x) { return conv2d_norm(x[0], x[1], like(scale, x[1]), x[2], x[3], options); }};
    });
    row("conv_transpose2d", [](Draw& d) {
      const int64_t g = d.pick(1, 2), k = d.pick(1, 3), c = d.size(1, 3), o = d.size(1, 3), s = d.pick(1, 3);
      const int64_t dilation = d.pick(1, 2), extra = d.pick(0, std::max(s, dilation) - 1);
      const int64_t border = dilation * (k - 1) / 2;  // more padding could leave nothing
      const Int2 pad{int(d.pick(0, border)), int(d.pick(0, border))};
      const ConvTranspose2dOptions options{int(s), pad, int(extra), int(dilation), int(g)};
      const Shape in{d.size(0, 2), d.size(1, 4), d.size(1, 4), c * g};
      return OpSample{{d.normal(in), d.normal({k, k, o, c * g}), d.normal({o * g})},
                      [options](In x) { return conv_transpose2d(x[0], x[1], x[2], options); }};
    });
  }

  void pool_rows() {
    row("max_pool2d", [](Draw& d) {  // distinct values: no ties
      const PoolOptions o = window(d);
      return OpSample{{d.distinct(image(d))}, [o](In x) { return max_pool2d(x[0], o); }};
    });
    row("avg_pool2d", [](Draw& d) {
      const PoolOptions o = window(d);
      return OpSample{{d.normal(image(d))}, [o](In x) { return avg_pool2d(x[0], o); }};
    });
    row("adaptive_avg_pool2d", [](Draw& d) {
      const Int2 out{int(d.size(1, 5)), int(d.size(1, 5))};
      return OpSample{{d.normal(image(d))}, [out](In x) { return adaptive_avg_pool2d(x[0], out); }};
    });
  }

  void norm_rows() {
    row("batch_norm", [](Draw& d) {
      return norm(d, [](In x, bool relu) {
        return batch_norm(x[0], x[1], x[2], {}, {}, {.training = true, .eps = 0.1, .relu = relu});
      });
    });
    row("frozen_batch_norm", [](Draw& d) {
      const int64_t most = d.size(6, 6);
      const Tensor mean = d.normal({most}), var = d.uniform({most}, 0.1, 2);
      return norm(d, [=](In x, bool relu) {
        const auto part = [&](const Tensor& t) { return like(t.rows(0, x[0].dim(-1)), x[1]); };
        return frozen_batch_norm(x[0], x[1], x[2], part(mean), part(var), 1e-5, relu);
      });
    });
    row("group_norm", [](Draw& d) {
      return norm(d, [g = int(d.pick(1, 3))](In x, bool relu) {
        return group_norm(x[0], x[1], x[2], x[0].dim(-1) % g == 0 ? g : 1, 0.1, relu);
      });
    });
    row("layer_norm", [](Draw& d) {
      const int64_t c = d.size(1, 40);
      return OpSample{{d.normal({d.size(0, 3), d.size(1, 4), c}), d.normal({c}), d.normal({c})},
                      [](In x) { return layer_norm(x[0], x[1], x[2], 0.1); }};
    });
  }
  template <class Run> static OpSample norm(Draw& d, Run run) {  // values before a relu are away from its kink
    const bool relu = d.dice.chance(0.5);
    const auto near = [](const Tensor& y) {
      const auto values = y.values<double>();
      return std::any_of(values.begin(), values.end(), [](double v) { return std::abs(v) < 1e-3; });
    };
    const int64_t c = d.size(1, 6);
    const Shape shape{d.size(0, 3), d.size(1, 4), d.size(1, 4), c};
    std::vector<Tensor> in;
    do in = {d.normal(shape), d.normal({c}), d.normal({c})};
    while (relu && d.scale == 1 && near(run(in, false)));
    return {in, [run, relu](In x) { return run(x, relu); }};
  }

  void resize_rows() {
    row("resize_nearest", [](Draw& d) {
      const int64_t h = d.size(1, 9), w = d.size(1, 9);
      return OpSample{{d.normal(image(d))}, [=](In x) { return resize_nearest(x[0], h, w); }};
    });
    row("resize_bilinear", [](Draw& d) {
      const int64_t h = d.size(1, 9), w = d.size(1, 9);
      return OpSample{{d.normal(image(d))}, [=](In x) { return resize_bilinear(x[0], h, w); }};
    });
  }

  void loss_rows() {  // focal_loss, regression_loss, iou_loss
    row("sigmoid_focal_loss", [](Draw& d) {
      const double gamma[] = {0, 0.5, 1, 2, 3.3};
      const FocalOptions o{d.dice.chance(0.5) ? std::optional(0.25) : std::nullopt, gamma[d.pick(0, 4)]};
      const int64_t n = d.size(0, 3), r = d.size(0, 5), k = d.size(1, 40);
      const Tensor labels = d.indices({n, r}, -2, k - 1);
      return OpSample{{d.normal({n, r, k}, 3), labels}, [o](In x) { return sigmoid_focal_loss(x[0], x[1], o); }};
    });
    row("focal_loss_star", [](Draw& d) {
      const auto alpha = d.dice.chance(0.5) ? std::optional(0.25) : std::nullopt;
      const FocalStarOptions o{alpha, d.dice.uniform(1, 4), d.dice.uniform(0, 2)};
      const int64_t n = d.size(0, 3), r = d.size(0, 5), k = d.size(1, 40);
      const Tensor labels = d.indices({n, r}, -2, k - 1);
      return OpSample{{d.normal({n, r, k}), labels}, [o](In x) { return focal_loss_star(x[0], x[1], o); }};
    });
    row("sigmoid_hinge_loss", [](Draw& d) {  // the kink at p_t = margin is at logit 0
      const HingeOptions o{d.dice.chance(0.5) ? std::optional(0.25) : std::nullopt, 0.5};
      const int64_t n = d.size(0, 3), r = d.size(0, 5), k = d.size(1, 40);
      const Tensor labels = d.indices({n, r}, -2, k - 1);
      return OpSample{{d.away({n, r, k}), labels}, [o](In x) { return sigmoid_hinge_loss(x[0], x[1], o); }};
    });
    row("smooth_l1", [](Draw& d) {  // kinks: at 0 for beta 0; its slope's at beta
      const double beta = d.dice.chance(0.3) ? 0 : d.dice.uniform(0.1, 1);
      std::vector<Tensor> x;
      const auto near = [&](int64_t i) { return std::abs(std::abs(x[0].at(i) - x[1].at(i)) - beta) < 0.01; };
      do x = distant_rows(d);
      while (d.scale == 1 && any_of(x[0].size(), near));
      return OpSample{x, [beta](In x) { return smooth_l1(x[0], x[1], beta); }};
    });
    binary("l1_loss", distant_rows, l1_loss);
    binary("l2_loss", distant_rows, l2_loss);
    binary("iou_loss", box_pairs, [](auto& a, auto& b) { return iou_loss(a, b); });
    binary("giou_loss", box_pairs, [](auto& a, auto& b) { return giou_loss(a, b); });
    binary("diou_loss", box_pairs, [](auto& a, auto& b) { return diou_loss(a, b); });
    // With a constant alpha its gradient is none of its value's: ops' tests compare that with torchvision's rule.
    binary("ciou_loss", box_pairs, [](auto& a, auto& b) { return ciou_loss(a, b, {.constant_alpha = false}); });
  }

  void box_rows() {  // and nms, top_k
    binary("box_iou", box_sets, box_iou);
    binary("box_ioa", box_sets, box_ioa);
    row("encode_boxes", [](Draw& d) {
      const BoxCoder coder{10, 10, 5, 5, BoxCoder::Style(d.pick(0, 1))};
      return OpSample{box_pairs(d), [coder](In x) { return encode_boxes(x[0], x[1], coder); }};
    });
    row("decode_boxes", [](Draw& d) {
      const int64_t n = d.size(1, 3), r = d.size(0, 4);
      const Tensor anchors = d.boxes(r, 10);
      const BoxCoder coder{2, 2, 1, 1, BoxCoder::Style(d.pick(0, 1))};
      return OpSample{{d.normal({n, r, 4})}, [=](In x) { return decode_boxes(x[0], like(anchors, x[0]), coder); }};
    });
    row("clip_boxes", [](Draw& d) {
      return OpSample{{d.boxes(d.size(0, 5), 10)}, [](In x) { return clip_boxes(x[0], 6, 8); }};
    });
    row("nms", [](Draw& d) {
      return OpSample{scored_boxes(d), [](In x) { return batched_nms(x[0], x[1], x[2], 0.3); }};
    });
    row("soft_nms", [](Draw& d) {
      return OpSample{scored_boxes(d), [](In x) { return soft_nms(x[0], x[1], x[2]).scores; }};
    });
    row("top_k", [](Draw& d) {
      const int64_t n = d.size(0, 60), k = d.size(0, 9);
      return OpSample{{d.normal({n})}, [k](In x) { return top_k(x[0], k).values; }};
    });
  }
};

}  // namespace

const std::vector<OpCase>& op_cases() {
  static const OpTable table;
  return table.rows;
}

}  // namespace fovea
