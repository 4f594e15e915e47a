// Which product for which precision, and its launches.
#include "ops/cuda/conv.h"

#include <deque>

#include "core/gemm.h"
#include "ops/cuda/conv_products.h"

namespace fovea::cuda {
namespace {

void check_sizes(const ConvShape& s) {
  const int64_t c = (s.c + 7) / 8 * 8, o = (s.o + 7) / 8 * 8;  // as in_vectors() may make them
  for (const int64_t n : {s.n * s.h * s.w, s.n * s.oh * s.ow, s.taps() * c, s.taps() * o})
    check(n < int64_t{1} << 30, "conv2d: a map of ", n, " pixels or places; on a GPU fewer than 2^30");
  const int64_t down = int64_t{s.dilation.h} * s.kernel.h, across = int64_t{s.dilation.w} * s.kernel.w;
  for (const int64_t n : {s.taps() * c / s.groups * o, (down * s.w + across) * c, (down * s.ow + across) * o})
    check(n < int64_t{1} << 30, "conv2d: a kernel of ", n,
          " weights, or that spans as many numbers of a map; on a GPU fewer than 2^30");
}

// Without stride and padding a convolution of 1x1 is a product of matrices as they lie, x [pixels,c] and w [c,o], and
// the library's. One of bf16 stays here: that has no bias of f32 there.
bool plain(const ConvShape& s) { return s.pointwise() && s.groups == 1; }

// The pipeline multiplies vectors of 16 bytes, of numbers of S: images of another type or with other channels are
// copied first, with zeros behind them.
template <class S> constexpr int64_t kVector = 16 / sizeof(S);
template <class S> int64_t vectors(int64_t n) { return (n + kVector<S> - 1) / kVector<S>; }
template <class S> bool in_vectors(const ConvShape& s) {
  return s.groups == 1 || (s.group_c() % kVector<S> == 0 && s.group_o() % kVector<S> == 0);
}
// f.operator()<Bf16>() or <Tf32>() where the pipeline takes a convolution of maps of T; otherwise false.
template <class T, class F> bool piped(const ConvShape& s, F f) {
  if (std::is_same_v<T, bf16> || factors() == Factors::bf16) {
    if (in_vectors<bf16>(s)) return f.template operator()<Bf16>(), true;
  } else if constexpr (std::is_same_v<T, float>) {
    if (tf32() && in_vectors<float>(s) && !plain(s)) return f.template operator()<Tf32>(), true;
  }
  return false;
}
template <class T, class S> struct Widen {
  const T* from;            // [pixels, c]
  Pack<S, kVector<S>>* to;  // [pixels, chunks]
  int64_t c, chunks;
  HD void operator()(int64_t i) const {
    const int64_t first = i % chunks * kVector<S>;
    const T* p = from + i / chunks * c + first;
    Pack<S, kVector<S>> v;
    FOVEA_UNROLL for (int k = 0; k < kVector<S>; ++k) v[k] = S(first + k < c ? float(p[k]) : 0.f);
    to[i] = v;
  }
};
template <class S> class Wide {
 public:
  template <class T>
  Wide(Device device, const T* from, int64_t pixels, int64_t c)
      : memory_(stays(from, c) ? 0 : size_t(pixels * vectors<S>(c)) * 16, device) {
    images_ = {nullptr, vectors<S>(c) * kVector<S>};
    if constexpr (std::is_same_v<T, S>) images_.x = from;
    if (stays(from, c)) return;
    auto* to = memory_.as<Pack<S, kVector<S>>>();
    for_each(device, pixels * vectors<S>(c), Widen<T, S>{from, to, c, vectors<S>(c)});
    images_.x = memory_.as<S>();
  }
  const Images<S>& images() const { return images_; }

 private:
  template <class T> static bool stays(const T* from, int64_t c) {
    return std::is_same_v<T, S> && c % kVector<S> == 0 && uintptr_t(from) % 16 == 0;
  }
  Workspace memory_;
  Images<S> images_;
};
template <class S> struct RoundWeights {
  const float* from;  // [taps, c, o]
  S* to;              // [taps, wide_c, wide_o]
  int c, o, wide_c, wide_o;
  HD void operator()(int64_t i) const {
    const int line = int(i) / wide_o, column = int(i) % wide_o, tap = line / wide_c, channel = line % wide_c;
    to[i] = S(channel < c && column < o ? from[int64_t{tap * c + channel} * o + column] : 0.f);
  }
};
template <class S> class RoundedWeights {
 public:
  RoundedWeights(Device device, const float* from, const ConvShape& s, bool wide)
      : c_(int(wide ? vectors<S>(s.group_c()) * kVector<S> : s.group_c())),
        o_(int(wide ? vectors<S>(s.o) * kVector<S> : s.o)),
        memory_(size_t(s.taps() * c_ * o_) * sizeof(S), device) {
    for_each(device, s.taps() * c_ * o_, RoundWeights<S>{from, memory_.as<S>(), int(s.group_c()), int(s.o), c_, o_});
  }
  StoredWeights<S> stored() { return {memory_.as<S>(), c_, o_}; }

 private:
  int c_, o_;
  Workspace memory_;
};

int64_t large_tiles(int64_t rows, int64_t cols) { return ((rows + 127) / 128) * ((cols + 127) / 128); }
int64_t inputs(const ConvShape& s) { return s.n * s.h * s.w; }  // pixels
int64_t outputs(const ConvShape& s) { return s.n * s.oh * s.ow; }

// f.operator()<P>() with tiles as large as may be while they fill the multiprocessors, of which large GPUs have 132.
template <class Number, class F> void with_tiles(int64_t rows, int64_t cols, F f) {
  if (large_tiles(rows, cols) < 132) return f.template operator()<Pipelined<Number, 64, 64, 2>>();
  if (cols > 64) return f.template operator()<Pipelined<Number, 128, 128, 2>>();
  f.template operator()<Pipelined<Number, 128, 64, 4>>();
}

template <class T> using Maps = std::vector<ConvMap<T>>;
// f(some maps): as many as one launch takes, and then the rest.
template <class T, class F> void in_launches(const Maps<T>& maps, F f) {
  for (size_t i = 0; i < maps.size(); i += kMaps)
    f(Maps<T>(maps.begin() + int64_t(i), maps.begin() + int64_t(std::min(maps.size(), i + kMaps))));
}

// Pixels of some maps, count(shape) of each.
template <class T, class F> int64_t pixels_of(const Maps<T>& maps, F count) {
  int64_t n = 0;
  for (const ConvMap<T>& m : maps) n += count(m.s);
  check(n < int64_t{1} << 30, "conv2d: maps of ", n, " pixels; on a GPU fewer than 2^30");
  return n;
}

template <class Number, class T, class Launch>
void piped_value(Device device, const Maps<T>& all, const float* w, const ConvEnd<float>& end, Launch launch) {
  using S = typename Number::Stored;
  RoundedWeights<S> weights(device, w, all[0].s, true);
  in_launches(all, [&](const Maps<T>& maps) {
    std::deque<Wide<S>> wide;
    std::vector<Images<S>> x;
    for (const ConvMap<T>& m : maps) x.push_back(wide.emplace_back(device, m.x, inputs(m.s), m.s.c).images());
    with_tiles<Number>(pixels_of(maps, outputs), maps[0].s.group_o(), [&]<class P>() {
      if (maps.size() == 1) value<P>(device, maps[0], x[0], weights.stored(), end, launch);
      else values<P>(device, maps, x, weights.stored(), end, launch);
    });
  });
}
template <class Number, class T, class Launch>
void piped_input_gradient(Device device, const Maps<T>& all, const float* w, Launch launch) {
  using S = typename Number::Stored;
  RoundedWeights<S> weights(device, w, all[0].s, true);
  in_launches(all, [&](const Maps<T>& maps) {
    std::deque<Wide<S>> wide;
    std::vector<Images<S>> dy;
    for (const ConvMap<T>& m : maps) dy.push_back(wide.emplace_back(device, m.dy, outputs(m.s), m.s.o).images());
    const auto& stride = maps[0].s.stride;  // pixels of one remainder make a product
    with_tiles<Number>(pixels_of(maps, inputs) / (int64_t{stride.h} * stride.w), maps[0].s.group_c(), [&]<class P>() {
      if (maps.size() == 1) input_gradient<P>(device, maps[0], dy[0], weights.stored(), launch);
      else input_gradients<P>(device, maps, dy, weights.stored(), launch);
    });
  });
}
template <class Number, class T, class Launch>
void piped_weight_gradient(Device device, const Maps<T>& maps, float* dw, Launch launch) {
  using S = typename Number::Stored;
  std::deque<Wide<S>> wide;
  std::vector<SeenAndGradient<S>> both;
  for (const ConvMap<T>& m : maps) {
    const Images<S> x = wide.emplace_back(device, m.x, inputs(m.s), m.s.c).images();
    both.push_back({m.s, x, wide.emplace_back(device, m.dy, outputs(m.s), m.s.o).images()});
  }
  const auto sums = [&]<class P>() { weight_gradient<P>(device, both, dw, launch); };
  const int64_t rows = maps[0].s.taps() * maps[0].s.group_c(), cols = maps[0].s.group_o();
  if (cols > 64 && rows > 64) return sums.template operator()<Pipelined<Number, 128, 128, 2>>();
  if (rows > 64) return sums.template operator()<Pipelined<Number, 128, 64, 4>>();
  sums.template operator()<Pipelined<Number, 64, 64, 2>>();
}

template <class T> struct ScaledWeights {
  const T *w, *scale;
  T* out;
  int64_t o;
  HD void operator()(int64_t i) const { out[i] = w[i] * scale[i % o]; }
};
template <class T>
void plain_value(Device device, const std::vector<ConvMap<T>>& maps, const T* w, const ConvEnd<T>& end) {
  const int64_t c = maps[0].s.c, o = maps[0].s.o;
  Workspace scaled(end.scale ? size_t(c * o) * sizeof(T) : 0, device);
  if (end.scale) for_each(device, c * o, ScaledWeights<T>{w, end.scale, scaled.as<T>(), o}), w = scaled.as<T>();
  for (const ConvMap<T>& m : maps) {
    Gemm<T> g{.m = inputs(m.s), .n = o, .k = c, .a = {m.x, c}, .b = {w, o}, .c = m.y, .ldc = o};
    g.beta = m.residual ? 1 : 0, g.end = {m.residual, end.b, end.relu};
    gemm(device, g);
  }
}
template <class T>
void plain_input_gradient(Device device, const std::vector<ConvMap<T>>& maps, const T* w) {  // dx = dy w^T
  const int64_t c = maps[0].s.c, o = maps[0].s.o;
  for (const ConvMap<T>& m : maps)
    gemm(device,
         Gemm<T>{.m = inputs(m.s), .n = c, .k = o, .a = {m.dy, o}, .b = {w, o, Trans::yes}, .c = m.dx, .ldc = c});
}
template <class T>
void plain_weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, T* dw) {  // dw = x^T dy, of all maps
  const int64_t c = maps[0].s.c, o = maps[0].s.o;
  for (const ConvMap<T>& m : maps) {
    Gemm<T> g{.m = c, .n = o, .k = inputs(m.s), .a = {m.x, c, Trans::yes}, .b = {m.dy, o}, .c = dw, .ldc = o};
    g.beta = T(&m != &maps[0]);
    gemm(device, g);
  }
}

// What is left for the kernel that takes all: f32, tf32 and f64, and bf16 of odd groups. `blocks` of large tiles.
template <class T, class F> void with_precision(int64_t blocks, F f) {
  if constexpr (std::is_same_v<T, bf16>) f.template operator()<TensorCores<Bf16>>();
  else {
    if constexpr (std::is_same_v<T, float>) {
      if (tf32()) return f.template operator()<TensorCores<Tf32>>();
      if (blocks < 2 * 132) return f.template operator()<Lanes<float, 64>>();
    }
    f.template operator()<Lanes<T>>();
  }
}
// f(weights as that kernel wants them)
template <class T, class F> void with_weights(Device device, const compute_t<T>* w, const ConvShape& s, F f) {
  if constexpr (std::is_same_v<T, bf16>) f(RoundedWeights<bf16>(device, w, s, false).stored());
  else f(StoredWeights<T>{w, int(s.group_c()), int(s.o)});
}

}  // namespace

template <class T>
void conv_value(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w,
                const ConvEnd<compute_t<T>>& end) {
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  for (const ConvMap<T>& m : maps) check_sizes(m.s);
  if constexpr (sizeof(T) < 8)
    if (piped<T>(maps[0].s, [&]<class Number>() { piped_value<Number>(device, maps, w, end, launch); })) return;
  if constexpr (!std::is_same_v<T, bf16>)
    if (plain(maps[0].s)) return plain_value(device, maps, w, end);
  with_weights<T>(device, w, maps[0].s, [&](const StoredWeights<T>& weights) {
    for (const ConvMap<T>& m : maps)
      with_precision<T>(large_tiles(outputs(m.s), m.s.group_o()) * m.s.groups, [&]<class P>() {
        value<P>(device, m, Images<T>{m.x, m.s.c}, weights, end, launch);
      });
  });
}
template <class T> void conv_input_gradient(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w) {
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  for (const ConvMap<T>& m : maps) check_sizes(m.s);
  if constexpr (sizeof(T) < 8)
    if (piped<T>(maps[0].s, [&]<class Number>() { piped_input_gradient<Number>(device, maps, w, launch); })) return;
  if constexpr (!std::is_same_v<T, bf16>)
    if (plain(maps[0].s)) return plain_input_gradient(device, maps, w);
  with_weights<T>(device, w, maps[0].s, [&](const StoredWeights<T>& weights) {
    for (const ConvMap<T>& m : maps)
      with_precision<T>(large_tiles(inputs(m.s) / (int64_t{m.s.stride.h} * m.s.stride.w), m.s.group_c()) * m.s.groups,
                        [&]<class P>() {
                          input_gradient<P>(device, m, Images<T>{m.dy, m.s.o}, weights, launch);
                        });
  });
}
template <class T> void conv_weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, compute_t<T>* dw) {
  const auto launch = [=](const auto& product) { for_tiles(device, product.blocks(), product); };
  for (const ConvMap<T>& m : maps) check_sizes(m.s);
  if constexpr (sizeof(T) < 8)
    if (piped<T>(maps[0].s, [&]<class Number>() { piped_weight_gradient<Number>(device, maps, dw, launch); })) return;
  if constexpr (!std::is_same_v<T, bf16>)
    if (plain(maps[0].s)) return plain_weight_gradient(device, maps, dw);
  std::vector<SeenAndGradient<T>> both;
  for (const ConvMap<T>& m : maps) both.push_back({m.s, {m.x, m.s.c}, {m.dy, m.s.o}});
  with_precision<T>(INT64_MAX, [&]<class P>() { weight_gradient<P>(device, both, dw, launch); });
}

#define FOVEA_CONV(T)                                                                                \
  template void conv_value<T>(Device, const std::vector<ConvMap<T>>&, const compute_t<T>*,           \
                              const ConvEnd<compute_t<T>>&);                                         \
  template void conv_input_gradient<T>(Device, const std::vector<ConvMap<T>>&, const compute_t<T>*); \
  template void conv_weight_gradient<T>(Device, const std::vector<ConvMap<T>>&, compute_t<T>*);
FOVEA_CONV(double)
#ifdef __CUDACC__
FOVEA_CONV(float)
FOVEA_CONV(bf16)
#endif
#undef FOVEA_CONV

}  // namespace fovea::cuda
