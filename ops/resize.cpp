// Nearest and bilinear resizing of NHWC images, one pixel a row; gradients gather from the pixels that read this one.
#include "ops/resize.h"

#include <cmath>
#include <cstring>

#include "core/autograd.h"
#include "ops/columns.h"
#include "ops/pixels.h"

namespace fovea {
namespace {

// Nearest, along one axis. The f32 product is torch's; it is monotonic, so the readers of a pixel are a range.
struct Nearest {
  int64_t in, out;
  HD int64_t source(int64_t o) const {
    const int64_t i = int64_t(floorf(float(o) * (float(in) / float(out))));
    return i < in - 1 ? i : in - 1;
  }
  HD int64_t first(int64_t i) const {  // the first output whose source is i or later
    int64_t o = i * out / in;
    while (o > 0 && source(o - 1) >= i) --o;
    while (o < out && source(o) < i) ++o;
    return o;
  }
  HD Range readers(int64_t i) const { return {first(i), first(i + 1)}; }
};

// Bilinear, along one axis: output o reads pixels low and low + 1 (or low twice at the edge).
template <class T> struct Linear {
  int64_t in, out;
  struct Tap {
    int64_t low, high;
    T weight;  // of high
  };
  HD Tap tap(int64_t o) const {
    const T at = (T(o) + T(0.5)) * (T(in) / T(out)) - T(0.5), clamped = at > 0 ? at : T(0);
    int64_t low = int64_t(clamped);
    if (low > in - 1) low = in - 1;
    return {low, low < in - 1 ? low + 1 : low, clamped - T(low)};
  }
  HD T weight(int64_t o, int64_t i) const {  // of pixel i in output o
    const Tap t = tap(o);
    return (t.low == i ? 1 - t.weight : T(0)) + (t.high == i ? t.weight : T(0));
  }
  HD Range readers(int64_t i) const {  // outputs that may read pixel i: |source - i| < 1, with a margin for rounding
    const T scale = T(out) / T(in);
    const int64_t b = i == 0 ? 0 : int64_t((T(i) - T(0.5)) * scale - T(0.5)) - 1;
    const int64_t e = i == in - 1 ? out : int64_t((T(i) + T(1.5)) * scale - T(0.5)) + 2;
    return {b > 0 ? b : 0, e < out ? e : out};
  }
};

template <class A> struct Grid {
  A y, x;
  int64_t cols;
  HD Pixels inputs() const { return {y.in, x.in}; }
  HD Pixels outputs() const { return {y.out, x.out}; }
};

template <class T> struct NearestForward {
  static constexpr int kWidth = kLaneWidth<T>;
  const T* x;
  T* y;
  Grid<Nearest> g;
  bool aligned() const { return all_aligned(x, y); }
  const void* result() const { return y; }
  template <class Columns> HD void operator()(const Columns& at, int64_t, int64_t row, int64_t n) const {
    g.outputs().each(row, n, [=, this](int64_t r, const Pixel& o) FOVEA_FLAT {
      const auto from = at.load(x + ((o.image * g.y.in + g.y.source(o.y)) * g.x.in + g.x.source(o.x)) * g.cols);
      T* to = y + r * g.cols;
      if constexpr (Columns::all) {
        auto out = at.fresh(to);
        memcpy(out, from, size_t(g.cols) * sizeof(T));
        at.store(to, out);
      } else {
        at.store(to, from);
      }
    });
  }
};
template <class T> struct NearestBackward {
  static constexpr int kWidth = kLaneWidth<T>;
  const T* dy;
  T* dx;
  Grid<Nearest> g;
  bool aligned() const { return all_aligned(dy, dx); }
  template <class Columns> HD void operator()(const Columns& all, int64_t, int64_t row, int64_t n) const {
    g.inputs().each(row, n, [=, this](int64_t r, const Pixel& i) FOVEA_FLAT {
      const Range ry = g.y.readers(i.y), rx = g.x.readers(i.x);
      each_block(all, [=, this](const auto& at) FOVEA_FLAT {
        SumOfRows<std::decay_t<decltype(at)>, T> sum(at, dx + r * g.cols);
        for (int64_t oy = ry.begin; oy < ry.end; ++oy)
          for (int64_t ox = rx.begin; ox < rx.end; ++ox) {
            const auto d = at.load(dy + ((i.image * g.y.out + oy) * g.x.out + ox) * g.cols);
            sum.add([=](int64_t c) { return compute_t<T>(d[c]); });
          }
        sum.finish();
      });
    });
  }
};

template <class T> struct BilinearForward {
  const T* x;
  T* y;
  Grid<Linear<T>> g;
  template <class Team> HD void operator()(const Team& team, int64_t r) const {
    const Pixel o = g.outputs().at(r);
    const auto ty = g.y.tap(o.y), tx = g.x.tap(o.x);
    const T* image = x + o.image * g.y.in * g.x.in * g.cols;
    const T *top = image + ty.low * g.x.in * g.cols, *bottom = image + ty.high * g.x.in * g.cols;
    const T *a = top + tx.low * g.cols, *b = top + tx.high * g.cols;
    const T *c0 = bottom + tx.low * g.cols, *d = bottom + tx.high * g.cols;
    const T v = ty.weight, u = tx.weight;
    T* __restrict out = y + r * g.cols;
    team.each(g.cols,
              [=](int64_t c) { out[c] = (1 - v) * ((1 - u) * a[c] + u * b[c]) + v * ((1 - u) * c0[c] + u * d[c]); });
  }
};
template <class T> struct BilinearBackward {
  const T* dy;
  T* dx;
  Grid<Linear<T>> g;
  template <class Team> HD void operator()(const Team& team, int64_t r) const {
    const Pixel i = g.inputs().at(r);
    const Range ry = g.y.readers(i.y), rx = g.x.readers(i.x);
    T* __restrict sum = dx + r * g.cols;
    team.each(g.cols, [=](int64_t c) { sum[c] = 0; });
    for (int64_t oy = ry.begin; oy < ry.end; ++oy) {
      const T wy = g.y.weight(oy, i.y);
      if (wy == 0) continue;
      for (int64_t ox = rx.begin; ox < rx.end; ++ox) {
        const T w = wy * g.x.weight(ox, i.x);
        if (w == 0) continue;
        const T* d = dy + ((i.image * g.y.out + oy) * g.x.out + ox) * g.cols;
        team.each(g.cols, [=](int64_t c) { sum[c] += w * d[c]; });
      }
    }
  }
};

template <class T> struct Bilinear {
  using AxisType = Linear<T>;
  using Forward = BilinearForward<T>;
  using Backward = BilinearBackward<T>;
};
template <class T> struct NearestKind {
  using AxisType = Nearest;
  using Forward = NearestForward<T>;
  using Backward = NearestBackward<T>;
};

template <template <class> class Kind> struct Resize {
  static constexpr bool nearest = std::is_same_v<Kind<float>, NearestKind<float>>;
  Shape from, to;
  template <class F>
  static void dispatch(DType t, F f) {  // nearest copies and adds: what it is stored in is all the same
    if constexpr (nearest) dispatch_storage(t, f);
    else dispatch_float(t, f);
  }
  template <class T> Grid<typename Kind<T>::AxisType> grid() const {
    return {{from[1], to[1]}, {from[2], to[2]}, from[3]};
  }
  template <class Body> static void run(Device device, const Shape& shape, const Body& body) {
    if constexpr (nearest) for_strips(device, Strips::of_map(device, 1, shape.rows(), shape[3]), body);
    else for_rows(device, shape.rows(), shape[3], body);
  }
  Tensor forward(const Tensor& x) {
    Tensor y(to, x.dtype(), x.device());
    dispatch(x.dtype(), [&]<class T>() {
      run(x.device(), to, typename Kind<T>::Forward{x.data<T>(), y.data<T>(), grid<T>()});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = Tensor(from, dy.dtype(), dy.device());
    dispatch(dy.dtype(), [&]<class T>() {
      run(dy.device(), from, typename Kind<T>::Backward{dy.data<T>(), g[0].data<T>(), grid<T>()});
    });
  }
};
struct ResizeNearest : Resize<NearestKind> {
  static constexpr auto name = "resize_nearest";
};
struct ResizeBilinear : Resize<Bilinear> {
  static constexpr auto name = "resize_bilinear";
};

template <class Op> Tensor run(Op op, const Tensor& x, int64_t h, int64_t w) {
  check(x.rank() == 4, Op::name, ": x must be [N,H,W,C], got ", x.shape());
  check(h >= 1 && w >= 1 && x.dim(1) > 0 && x.dim(2) > 0, Op::name, ": from ", x.shape(), " to ", h, " x ", w);
  op.from = x.shape(), op.to = x.shape().with(1, h).with(2, w);
  return apply(std::move(op), x);
}

}  // namespace

Tensor resize_nearest(const Tensor& x, int64_t h, int64_t w) { return run(ResizeNearest{}, x, h, w); }
Tensor resize_bilinear(const Tensor& x, int64_t h, int64_t w) { return run(ResizeBilinear{}, x, h, w); }

}  // namespace fovea
