// conv2d and conv_transpose2d against the seven nested loops of their definition, in f64 and f32; errors; thread
// invariance.
#include "ops/conv.h"

#include <climits>
#include <cmath>
#include <cstring>

#include "core/autograd.h"
#include "core/threads.h"
#include "ops/conv_reference.h"
#include "ops/cpu/kernels.h"
#include "ops/pointwise.h"
#include "ops/reduce.h"
#include "ops/samples.h"
#include "tests/files.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;

namespace {

// f(image, i, j, row, at, group, u, v) for each pair of an output pixel (i,j) and the input pixel (row,at) under tap
// (u,v).
template <class F> void each_tap(const ConvShape& s, F f) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t i = 0; i < s.oh; ++i)
      for (int64_t j = 0; j < s.ow; ++j)
        for (int u = 0; u < s.kernel.h; ++u)
          for (int v = 0; v < s.kernel.w; ++v) {
            const int64_t row = i * s.stride.h - s.pad.h + u * s.dilation.h,
                          at = j * s.stride.w - s.pad.w + v * s.dilation.w;
            if (row >= 0 && row < s.h && at >= 0 && at < s.w)
              f((n * s.oh + i) * s.ow + j, (n * s.h + row) * s.w + at, u * s.kernel.w + v);
          }
}

struct Naive {
  Tensor y, dx, dw, db;
};
// All in f64. x [n,h,w,c], w [kh,kw,c/g,o], b [o], dy [n,oh,ow,o]
Naive naive(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& b, const Tensor& dy) {
  Naive r{zeros_like(dy), zeros_like(x), zeros_like(w), zeros_like(b)};
  const double *px = x.data<double>(), *pw = w.data<double>(), *pd = dy.data<double>(), *pb = b.data<double>();
  for (int64_t i = 0; i < dy.size(); ++i) r.y.data<double>()[i] = pb[i % s.o], r.db.data<double>()[i % s.o] += pd[i];
  const int64_t cg = s.group_c(), og = s.group_o();
  each_tap(s, [&](int64_t out, int64_t in, int64_t tap) {
    for (int64_t o = 0; o < s.o; ++o)
      for (int64_t c = 0; c < cg; ++c) {
        const int64_t xi = in * s.c + o / og * cg + c, wi = (tap * cg + c) * s.o + o, yi = out * s.o + o;
        r.y.data<double>()[yi] += px[xi] * pw[wi];
        r.dx.data<double>()[xi] += pd[yi] * pw[wi];
        r.dw.data<double>()[wi] += px[xi] * pd[yi];
      }
  });
  return r;
}

struct Random {
  ConvShape s;
  Conv2dOptions options;
  Tensor x, w, b, dy;
};
Random draw(uint64_t seed) {
  Draw d(seed);
  const int g = int(d.pick(1, 3));
  const Int2 k(int(d.pick(1, 4)), int(d.pick(1, 4)));
  Conv2dOptions o{{int(d.pick(1, 5)), int(d.pick(1, 5))},
                  {int(d.pick(0, 2)), int(d.pick(0, 2))},
                  {int(d.pick(1, 2)), int(d.pick(1, 2))},
                  g};
  const int64_t most = d.dice.chance(0.2) ? 40 : 4;  // Winograd begins at 16
  const int64_t c = g * d.size(1, most), out = g * d.size(1, most), n = d.size(0, 3);
  const int64_t h = d.size(1, 6) + o.dilation.h * (k.h - 1), w = d.size(1, 6) + o.dilation.w * (k.w - 1);
  const int64_t oh = (h + 2 * o.pad.h - o.dilation.h * (k.h - 1) - 1) / o.stride.h + 1;
  const int64_t ow = (w + 2 * o.pad.w - o.dilation.w * (k.w - 1) - 1) / o.stride.w + 1;
  return {{n, h, w, c, oh, ow, out, k, o.stride, o.pad, o.dilation, g},
          o,
          d.normal({n, h, w, c}),
          d.normal({k.h, k.w, c / g, out}),
          d.normal({out}),
          d.normal({n, oh, ow, out})};
}
Tensor leaf(const Tensor& t, DType type) {
  Tensor x = t.to(type);
  x.set_requires_grad();
  return x;
}

}  // namespace

TEST_CASE("conv2d equals its definition, value and gradients, in both precisions") {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    const Random r = draw(seed);
    const Naive want = naive(r.s, r.x, r.w, r.b, r.dy);
    for (const DType type : {DType::f64, DType::f32}) {
      const Tensor x = leaf(r.x, type), w = leaf(r.w, type), b = leaf(r.b, type);
      const Tensor y = conv2d(x, w, b, r.options);
      backward(y, r.dy.to(type));
      const double bound = type == DType::f64 ? 1e-12 : 2e-5;
      INFO("seed " << seed << " x " << x.shape() << " w " << w.shape() << " " << name_of(type));
      CHECK(difference(y, want.y) < bound);
      CHECK(difference(x.grad(), want.dx) < bound);
      CHECK(difference(w.grad(), want.dw) < bound);
      CHECK(difference(b.grad(), want.db) < bound);
    }
  }
}

TEST_CASE("conv_transpose2d is the transpose of conv2d") {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    const Random r = draw(seed);  // the roles of x and dy are exchanged
    const ConvShape& s = r.s;
    const Tensor zero = Tensor::zeros({s.o}, DType::f64);
    const Int2 left((int(s.h) + 2 * s.pad.h - s.dilation.h * (s.kernel.h - 1) - 1) % s.stride.h,
                    (int(s.w) + 2 * s.pad.w - s.dilation.w * (s.kernel.w - 1) - 1) % s.stride.w);
    const ConvTranspose2dOptions o{s.stride, s.pad, left, s.dilation, s.groups};
    const Naive want = naive(s, r.x, r.w, zero, r.dy);
    for (const DType type : {DType::f64, DType::f32}) {
      const Tensor x = leaf(r.dy, type), w = leaf(r.w, type), b = leaf(Tensor::full({s.c}, 0.5), type);
      const Tensor y = conv_transpose2d(x, w, b, o);
      backward(y, r.x.to(type));
      const double bound = type == DType::f64 ? 1e-12 : 2e-5;
      Tensor dx = want.dx.clone();
      for (int64_t i = 0; i < dx.size(); ++i) dx.data<double>()[i] += 0.5;
      INFO("seed " << seed << " x " << x.shape() << " w " << w.shape() << " " << name_of(type));
      CHECK(difference(y, dx) < bound);
      CHECK(difference(x.grad(), want.y) < bound);
      CHECK(difference(w.grad(), want.dw) < bound);
    }
  }
}

TEST_CASE("fused relu and several maps equal their parts") {
  Draw d(7);
  const Tensor w = leaf(d.normal({3, 3, 5, 6}), DType::f64), b = leaf(d.normal({6}), DType::f64);
  const std::vector<Tensor> maps{leaf(d.normal({2, 7, 5, 5}), DType::f64), leaf(d.normal({2, 3, 2, 5}), DType::f64)};
  const auto ys = conv2d(maps, w, b, {.pad = 1, .relu = true});
  REQUIRE(ys.size() == 2);
  Tensor dw = zeros_like(w), db = zeros_like(b);
  for (size_t i = 0; i < 2; ++i) {
    const Tensor x = leaf(maps[i], DType::f64), v = leaf(w, DType::f64), c = leaf(b, DType::f64);
    const Tensor plain = conv2d(x, v, c, {.pad = 1}), dy = d.normal(plain.shape());
    Tensor masked = dy.clone(), relu = plain.clone();
    for (int64_t k = 0; k < dy.size(); ++k)
      if (plain.at(k) <= 0) masked.data<double>()[k] = 0, relu.data<double>()[k] = 0;
    backward(plain, masked);
    backward(ys[i], dy, {.retain_graph = true});
    CHECK(difference(ys[i], relu) == 0);
    CHECK(difference(maps[i].grad(), x.grad()) < 1e-13);
    add_into(dw, v.grad()), add_into(db, c.grad());
  }
  CHECK(difference(w.grad(), dw) < 1e-13);
  CHECK(difference(b.grad(), db) < 1e-13);
}

TEST_CASE("convolutions give the same bits on any number of threads") {
  const ThreadCount restored;
  Draw d(3);
  for (const int64_t o : {40, 200}) {  // by blocks of tiles; 100 tiles, of which threads take slabs of columns
    const int64_t n = o == 40 ? 2 : 1;
    const Tensor x0 = d.normal({n, 40, 37, 24}), w0 = d.normal({3, 3, 24, o}, 0.1), dy = d.normal({n, 40, 37, o});
    const auto run = [&](DType type) {
      const Tensor x = leaf(x0, type), w = leaf(w0, type), b = leaf(Tensor::zeros({o}), type);
      const Tensor y = conv2d(x, w, b, {.pad = 1});
      backward(y, dy.to(type));
      return std::vector<Tensor>{y, x.grad(), w.grad(), b.grad()};
    };
    const auto want = run(DType::f64);
    std::vector<std::vector<float>> first;
    for (const int count : {1, 2, 3, 8}) {
      set_num_threads(count);
      std::vector<std::vector<float>> bits;
      for (const Tensor& t : run(DType::f32)) {
        CHECK(difference(t, want[bits.size()]) < 2e-5);
        bits.push_back(t.values<float>());
      }
      if (count == 1) first = bits;
      CHECK(bits == first);
    }
  }
}

TEST_CASE("conv2d_norm is the convolution and what follows it, on every path, relu and absent parts too") {
  for (int i = 0; i < 48; ++i) {
    Draw d(static_cast<uint64_t>(i) + 300);
    const bool f32 = i % 2, relu = i % 3 == 0;
    const int k = i % 4 == 0 ? 1 : 3;  // 3: Winograd in f32
    const auto leaf = [&](const Shape& shape) {
      Tensor t = d.normal(shape).to(f32 ? DType::f32 : DType::f64);
      return t.set_requires_grad(true), t;
    };
    const int64_t h = d.pick(1, 20), c = d.pick(1, 40), o = d.pick(1, 150);
    Tensor x = leaf({2, h, 9, c}), w = leaf({k, k, c, o});
    Tensor scale = i % 5 ? leaf({o}).detach() : Tensor(), shift = i / 6 % 3 ? leaf({o}) : Tensor();
    if (i / 6 % 3 == 2) shift = shift.detach();  // a frozen norm's
    Tensor residual = i / 3 % 2 ? leaf({2, h, 9, o}) : Tensor();
    const Tensor dy = d.normal({2, h, 9, o}).to(x.dtype());
    const Conv2dOptions options{.pad = k / 2, .relu = relu};
    std::vector<Tensor> leaves;
    for (const Tensor& t : {x, w, shift, residual})
      if (t && t.requires_grad()) leaves.push_back(t);
    const auto run = [&](auto f) {
      for (Tensor& t : leaves) t.set_grad({});
      const Tensor y = f();
      backward(y, dy);
      std::vector<Tensor> all{y};
      for (Tensor& t : leaves) all.push_back(t.grad().clone());
      return all;
    };
    const auto fused = run([&] { return conv2d_norm(x, w, scale, shift, residual, options); });
    const auto plain = run([&] {
      Tensor y = conv2d(x, w, {}, {.pad = k / 2});
      if (scale) y = y * scale;
      if (shift) y = y + shift;
      if (residual) y = y + residual;
      return relu ? fovea::relu(y) : y;
    });
    for (size_t j = 0; j < plain.size(); ++j) CHECK(difference(fused[j], plain[j]) < (f32 ? 2e-5 : 1e-13));
  }
}

TEST_CASE("a residual that is moved in becomes the result, bit for bit; one that others hold, or read from, does not") {
  const ConvAlgo chosen = conv_algo();
  for (int i = 0; i < 96; ++i) {
    Draw d(static_cast<uint64_t>(i) + 500);
    const bool half = i % 4 == 3 && cpu::kernels().half, grouped = i % 5 == 4;
    const int k = i % 3 ? 3 : 1, stride = i % 7 == 6 ? 2 : 1;
    const int64_t h = d.pick(1, 40), groups = grouped ? 4 : 1, c = groups * d.pick(1, 24), o = groups * d.pick(1, 90);
    const DType type = half ? DType::bf16 : DType::f32;
    const Tensor x = d.normal({2, h, 13, c}).to(type), w = d.normal({k, k, c / groups, o}).to(DType::f32);
    const Tensor scale = d.normal({o}).to(DType::f32), shift = d.normal({o}).to(DType::f32);
    const Tensor residual = d.normal({2, (h - 1) / stride + 1, 12 / stride + 1, o}).to(type), kept = residual.clone();
    const auto run = [&](Tensor r) {
      return conv2d_norm(x, w, scale, shift, std::move(r),
                         {.stride = stride, .pad = k / 2, .groups = int(groups), .relu = i % 2 == 0});
    };
    INFO("sample " << i);
    for (const ConvAlgo algo : {ConvAlgo::automatic, ConvAlgo::direct, ConvAlgo::winograd, ConvAlgo::reference}) {
      if (half && algo == ConvAlgo::reference) continue;
      set_conv_algo(algo);
      const Tensor held = run(residual);
      CHECK(!held.shares_storage(residual));
      Tensor own = residual.clone();
      const void* place = own.raw();
      const Tensor y = run(std::move(own));
      CHECK((y.raw() == place) == (algo != ConvAlgo::reference && y.size() > 0));
      CHECK(std::memcmp(y.raw(), held.raw(), y.bytes()) == 0);
      CHECK(std::memcmp(residual.raw(), kept.raw(), kept.bytes()) == 0);
    }
  }
  set_conv_algo(chosen);
  std::vector<float> theirs(24, 3);  // such as a file that is mapped
  const auto storage = std::make_shared<Storage>(theirs.data(), 96, std::make_shared<int>());
  const Tensor x = Tensor::zeros({1, 2, 3, 4}), w = Tensor::zeros({1, 1, 4, 4}), one = Tensor::full({4}, 1);
  CHECK(conv2d_norm(x, w, {}, one, Tensor(storage, 0, {1, 2, 3, 4}, DType::f32)).at(0) == 4);
  CHECK(theirs == std::vector<float>(24, 3));
  // What an op has saved for its gradient, it holds.
  const Tensor z = leaf(Tensor::full({1, 2, 3, 4}, 2), DType::f32);
  Tensor saved = exp(z);
  backward(sum(conv2d_norm(x, w, {}, one, std::move(saved))));
  CHECK(z.grad().at(0) == Approx(std::exp(2)));
}

TEST_CASE("bf16 maps: weights and their gradients stay f32, every sum is rounded once") {
  if (!has_bf16()) return;
  for (int i = 0; i < 24; ++i) {
    Draw d(static_cast<uint64_t>(i) + 900);
    const int k = i % 3 == 0 ? 1 : 3, stride = i % 2 + 1;
    const int64_t h = d.pick(1, 20), c = d.pick(1, 40), o = d.pick(1, 150);
    const Shape out{2, (h - 1) / stride + 1, 8 / stride + 1, o};
    const auto rounded = [&](const Shape& s) { return d.normal(s).to(DType::bf16).to(DType::f32); };
    const Tensor x0 = rounded({2, h, 9, c}), r0 = rounded(out), dy = rounded(out), w0 = rounded({k, k, c, o});
    const Tensor scale = rounded({o}), b0 = rounded({o});
    std::vector<std::vector<Tensor>> runs;
    for (const DType type : {DType::bf16, DType::f32}) {
      const Tensor x = leaf(x0, type), r = leaf(r0, type), w = leaf(w0, DType::f32), b = leaf(b0, DType::f32);
      const Tensor y =
          conv2d_norm(x, w, i % 5 ? scale : Tensor(), b, r, {.stride = stride, .pad = k / 2, .relu = i % 4 == 0});
      backward(y, dy.to(type));
      runs.push_back({y.detach(), x.grad(), r.grad(), w.grad(), b.grad()});
    }
    const DType types[] = {DType::bf16, DType::bf16, DType::bf16, DType::f32, DType::f32};
    for (size_t j = 0; j < 5; ++j) {
      INFO("sample " << i << ", result " << j);
      CHECK(runs[0][j].dtype() == types[j]);
      CHECK(difference(runs[0][j], runs[1][j]) < 0.01);  // with a scale, dy is rounded once more
    }
  }
}

TEST_CASE("weights of bf16: for maps of bf16, and for values alone") {
  if (!has_bf16()) return;
  Draw d(7);
  const Tensor x = d.normal({2, 9, 11, 20}).to(DType::bf16), w = d.normal({3, 3, 20, 30}).to(DType::bf16);
  const Tensor b = d.normal({30}).to(DType::f32), scale = d.normal({30}).to(DType::f32), wide = w.to(DType::f32);
  for (const int stride : {1, 2}) {
    const Conv2dOptions o{.stride = stride, .pad = 1};
    CHECK((conv2d(x, w, b, o).values<bf16>() == conv2d(x, wide, b, o).values<bf16>()));
    CHECK((conv2d_norm(x, w, scale, b, {}, o).values<bf16>() == conv2d_norm(x, wide, scale, b, {}, o).values<bf16>()));
  }
  const auto refused = contains("no gradients with a weight of bf16");
  CHECK_THROWS_WITH(conv2d(leaf(x, DType::bf16), w), refused);
  CHECK_THROWS_WITH(conv2d(x, leaf(w, DType::bf16)), refused);
  {
    const NoGrad off;
    CHECK_NOTHROW(conv2d(leaf(x, DType::bf16), leaf(w, DType::bf16)));
  }
  CHECK_THROWS_WITH(conv2d(x.to(DType::f32), w), contains("input is f32, weight bf16"));
  CHECK_THROWS_WITH(conv2d(x, w, b.to(DType::bf16)), contains("weight bf16, bias bf16"));
}

TEST_CASE("conv_transpose2d of a 1x1 kernel with output padding: the additional pixels are the bias") {
  for (const DType type : {DType::f64, DType::f32}) {
    const Tensor x = leaf(Tensor::from<double>({1, 2, 2, 1}, {1, 2, 3, 4}), type);
    const Tensor w = leaf(Tensor::full({1, 1, 1, 1}, 1), type);
    const Tensor y = conv_transpose2d(x, w, {}, {.output_pad = 1, .dilation = 2});
    CHECK(y.to(DType::f64).values<double>() == std::vector<double>{1, 2, 0, 3, 4, 0, 0, 0, 0});
    backward(y, Tensor::from<double>({1, 3, 3, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9}).to(type));
    CHECK(x.grad().to(DType::f64).values<double>() == std::vector<double>{1, 2, 4, 5});
    CHECK(w.grad().at(0) == 1 + 4 + 12 + 20);
  }
}

TEST_CASE("strides beyond the image cost nothing") {
  Tensor x = leaf(Tensor::full({1, 8, 8, 4}, 1), DType::f32), w = leaf(Tensor::full({3, 3, 4, 4}, 1), DType::f32);
  const Tensor y = conv2d(x, w, {}, {.stride = 1'000'000});
  backward(y, Tensor::full(y.shape(), 1));
  CHECK(y.shape() == Shape{1, 1, 1, 4});
  CHECK(x.grad().at(0) == 4);
  CHECK(x.grad().at(x.size() - 1) == 0);
  Tensor one = leaf(Tensor::full({3, 3, 1, 4}, 1), DType::f32);  // in groups
  x.set_grad({});
  backward(conv2d(x, one, {}, {.stride = 1'000'000, .groups = 4}), Tensor::full(y.shape(), 1));
  CHECK(x.grad().at(0) == 1);
  CHECK(x.grad().at(x.size() - 1) == 0);
}

TEST_CASE("strides and dilations far into the padding cost little, in groups too") {
  constexpr int kFar = 1'000'000;
  Tensor x = leaf(Tensor::full({1, 8, 8, 4}, 1), DType::f32), w = leaf(Tensor::full({3, 3, 1, 4}, 1), DType::f32);
  const Tensor apart = conv2d(x, w, {}, {.pad = kFar, .dilation = kFar, .groups = 4});  // only the middle sees x
  CHECK(sum(apart).item() == 8 * 8 * 4);
  backward(sum(apart));
  CHECK(w.grad().at(4 * 4) == 64);
  CHECK(sum(w.grad()).item() == 64 * 4);
  const Tensor corners = conv2d(x, w, {}, {.stride = kFar, .pad = kFar, .groups = 4});
  CHECK(corners.shape() == Shape{1, 3, 3, 4});
  CHECK(corners.at(4 * 4) == 9);
  CHECK(sum(corners).item() == 9 * 4);
}

TEST_CASE("convolution errors name the op, both shapes and a hint") {
  const Tensor x({8, 32, 32, 3}), w({3, 3, 64, 64});
  CHECK(message_of([&] { conv2d(x, w); }) ==
        "conv2d: input has 3 channels, weight expects 64\n  input  [8, 32, 32, 3]   (N,H,W,C)\n"
        "  weight [3, 3, 64, 64]   (kh,kw,in,out)\n  hint: was the stem left out?");
  CHECK(message_of([&] { conv2d(Tensor({1, 2, 2, 64}), w); }).find("kernel is larger") != std::string::npos);
  CHECK(message_of([&] {
          conv2d(Tensor({1, 9, 9, 64}), w, Tensor({3}));
        }).find("bias has shape [3]") != std::string::npos);
  CHECK(message_of([&] {
          conv2d(Tensor({1, 9, 9, 64}, DType::f64), w);
        }).find("input is f64, weight f32") != std::string::npos);
  CHECK(message_of([&] { conv2d(x.view({8, 32, 96}), w); }).find("rank 3") != std::string::npos);
  CHECK(message_of([&] { conv2d(x, Tensor({3, 3, 3, 4}), {}, {.stride = 0}); }).find("stride") != std::string::npos);
  for (const Shape& empty : {Shape{0, 3, 3, 4}, Shape{3, 3, 3, 0}})
    CHECK(message_of([&] { conv2d(x, Tensor(empty)); }).find("is empty") != std::string::npos);
  for (const int pad : {1 << 30, INT_MAX})  // more numbers than there can be, not fewer
    CHECK(message_of([&] { conv2d(x, Tensor({3, 3, 3, 4}), {}, {.pad = pad}); }) != "");
  CHECK(message_of([&] { conv2d(x, Tensor({3, 3, 1, 4}), {}, {.groups = 3}); }).find("divide") != std::string::npos);
  CHECK(message_of([&] { conv_transpose2d(x, w); }).find("conv_transpose2d: input has 3 channels") !=
        std::string::npos);
  CHECK(message_of([&] {
          conv_transpose2d(x, Tensor({3, 3, 4, 3}), {}, {.output_pad = 1});
        }).find("output padding") != std::string::npos);
  const auto refused = [](auto f, const char* words) { CHECK_THROWS_WITH(f(), contains(words)); };
  const Tensor four({3, 3, 3, 4});
  refused([&] { conv2d(x, four, {}, {.pad = {0, -1}}); }, "padding 0x-1 must not be negative");
  refused([&] { conv2d(x, four, {}, {.dilation = {1, 0}}); }, "dilation 1x0 must be positive");
  refused([&] { conv2d(Tensor({1, 64, 9, 9}), w); }, "channels-last here: permute(x, {0, 2, 3, 1})");
  refused([&] { conv_transpose2d(x, Tensor({3, 3, 4, 3}), {}, {.groups = 2}); }, "3 input channels do not divide");
  refused([&] { conv_transpose2d(Tensor({1, 1, 1, 3}), four.view({3, 3, 4, 3}), {}, {.pad = 2}); }, "leaves nothing");
  refused([&] { conv2d_norm(x, four, Tensor({3}), {}, {}); }, "scale [3], expected f32 [4]");
  refused([&] { conv2d_norm(x, four, Tensor({4}, DType::f64), {}, {}); }, "expected f32 [4]");
  refused(
      [&] {
        conv2d_norm(x, four, {}, {}, Tensor({8, 30, 30, 3}));
      },
      "residual [8, 30, 30, 3], expected [8, 30, 30, 4]");
}
