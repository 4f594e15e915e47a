// Pooling of NHWC images, one pixel a row; gradients gather from the windows that cover a pixel.
#include "ops/pool.h"

#include <cmath>

#include "core/autograd.h"
#include "ops/columns.h"
#include "ops/pixels.h"

namespace fovea {
namespace {

// f(y, x) for all of both, row by row. In one loop, so that what f sums stays in registers.
template <class F> HD void each_place(const Range& rows, const Range& columns, F f) {
  if (columns.begin >= columns.end) return;
  for (int64_t y = rows.begin, x = columns.begin; y < rows.end;) {
    f(y, x);
    if (++x == columns.end) x = columns.begin, ++y;
  }
}

// Windows along one axis. kernel 0: adaptive, window o covers [floor(o in / out), ceil((o + 1) in / out)).
struct Axis {
  int64_t in, out, kernel = 0, stride = 1, pad = 0;
  HD int64_t start(int64_t o) const { return kernel == 0 ? o * in / out : o * stride - pad; }
  HD Range window(int64_t o) const {  // without its padding
    const int64_t b = start(o), e = kernel == 0 ? ((o + 1) * in + out - 1) / out : b + kernel;
    return {b < 0 ? 0 : b, e < in ? e : in};
  }
  HD int64_t padded(int64_t o) const {  // its length with the padding, but not what hangs over that (ceil)
    const int64_t b = start(o), e = b + kernel;
    return (e < in + pad ? e : in + pad) - b;
  }
  HD Range covering(int64_t i) const {  // the windows that pixel i is in
    if (kernel == 0) return {i * out / in, ((i + 1) * out + in - 1) / in};
    const int64_t b = i + pad < kernel ? 0 : (i + pad - kernel) / stride + 1, e = (i + pad) / stride + 1;
    return {b, e < out ? e : out};
  }
};
struct Grid {
  Axis y, x;
  int64_t channels;
  HD Pixels inputs() const { return {y.in, x.in}; }
  HD Pixels outputs() const { return {y.out, x.out}; }

  // f(p, at) for each pixel p of x in the window of output pixel o, row by row; `at`: its place in the window, counted
  // with the padding.
  template <class F> HD void each_in_window(const Pixel& o, F f) const {
    const Range wy = y.window(o.y), wx = x.window(o.x);
    for (int64_t iy = wy.begin; iy < wy.end; ++iy)
      for (int64_t ix = wx.begin; ix < wx.end; ++ix)
        f((o.image * y.in + iy) * x.in + ix, int32_t((iy - y.start(o.y)) * x.kernel + ix - x.start(o.x)));
  }
  // The reverse: f(r, at) for each output pixel r whose window pixel i is in, and its place there.
  template <class F> HD void each_window_with(const Pixel& i, F f) const {
    const Range ry = y.covering(i.y), rx = x.covering(i.x);
    const int64_t line = i.image * y.out;
    each_place(ry, rx, [=, this](int64_t oy, int64_t ox) FOVEA_FLAT {
      f((line + oy) * x.out + ox, int32_t((i.y - y.start(oy)) * x.kernel + i.x - x.start(ox)));
    });
  }
  HD int32_t first_place(const Pixel& o) const {  // in its window, of the first that is no padding
    return int32_t((y.window(o.y).begin - y.start(o.y)) * x.kernel + x.window(o.x).begin - x.start(o.x));
  }
  HD int64_t pixels(const Pixel& o) const {  // in its window, without the padding
    const Range wy = y.window(o.y), wx = x.window(o.x);
    return (wy.end - wy.begin) * (wx.end - wx.begin);
  }
  HD double share(const Pixel& o, bool count_pad) const {  // of each pixel in the average of its window
    return 1.0 / double(count_pad ? y.padded(o.y) * x.padded(o.x) : pixels(o));
  }
};

// where [N,OH,OW,C]: the winner's place in its window. NaN wins, the last one of several.
template <class T, class I> struct MaxForward {
  static constexpr int kWidth = kLaneWidth<T>;
  const T* x;
  T* y;
  I* where;
  Grid grid;
  static constexpr bool rare = sizeof(I) > 1;  // large windows
  bool aligned() const { return all_aligned(x, y, where); }
  template <class Columns> HD void operator()(const Columns& all, int64_t, int64_t row, int64_t n) const {
    grid.outputs().each(row, n, [=, this](int64_t r, const Pixel& o) FOVEA_FLAT {
      each_block(all, [=, this](const auto& at) FOVEA_FLAT { this->best(at, r, o); });
    });
  }
  template <class Columns> HD void best(const Columns& at, int64_t r, const Pixel& o) const {
    using C = compute_t<T>;
    OfColumns<Columns, C> top;
    OfColumns<Columns, int32_t> place;  // as wide as C, so that both are chosen together
    const int32_t begin = grid.first_place(o);
    at.each([&](int64_t c) { top[c] = C(-INFINITY), place[c] = begin; });
    grid.each_in_window(o, [&](int64_t p, int32_t here) FOVEA_FLAT {
      const auto v = at.load(x + p * grid.channels);
      at.each([&](int64_t c) {
        const auto a = C(v[c]);
        const C b = top[c];
        const int32_t before = place[c];
        const bool take = (a > b) | (a != a);
        top[c] = take ? a : b, place[c] = take ? here : before;
      });
    });
    T* to = y + r * grid.channels;
    I* winner = where + r * grid.channels;
    auto out = at.fresh(to);
    auto won = at.fresh(winner);
    at.each([&](int64_t c) { out[c] = T(top[c]); });
    at.each([&](int64_t c) { won[c] = I(place[c]); });
    at.store(to, out), at.store(winner, won);
  }
};
template <class T, class I> struct MaxBackward {  // dx of a pixel: the sum of dy over the windows that it won
  static constexpr int kWidth = kLaneWidth<T>;
  const T* dy;
  const I* where;
  T* dx;
  Grid grid;
  static constexpr bool rare = sizeof(I) > 1;
  bool aligned() const { return all_aligned(dy, where, dx); }
  template <class Columns> HD void operator()(const Columns& all, int64_t, int64_t row, int64_t n) const {
    const int64_t cols = grid.channels;
    grid.inputs().each(row, n, [=, this](int64_t p, const Pixel& i) FOVEA_FLAT {
      each_block(all, [=, this](const auto& at) FOVEA_FLAT {
        SumOfRows<std::decay_t<decltype(at)>, T> sum(at, dx + p * cols);
        grid.each_window_with(i, [&](int64_t r, int32_t here) FOVEA_FLAT {
          const auto d = at.load(dy + r * cols);
          const auto winner = at.load(where + r * cols);
          sum.add([=](int64_t c) {
            const auto v = compute_t<T>(d[c]);  // loaded in any case, so that the choice vectorises
            return int32_t(winner[c]) == here ? v : 0;
          });
        });
        sum.finish();
      });
    });
  }
};

// y of a pixel: its window's shares of x. dx of a pixel: its shares of dy in the windows that it is in.
template <bool kGradient, class T> struct Average {
  const T* from;
  T* to;
  Grid grid;
  bool count_pad;
  template <class Team> HD void operator()(const Team& team, int64_t i) const {
    constexpr int64_t kMany = 1024;  // pixels, over which a sum of f32 would lose digits
    const int64_t cols = grid.channels;
    const Pixel own = (kGradient ? grid.inputs() : grid.outputs()).at(i);
    if constexpr (!kGradient)
      if (grid.pixels(own) > kMany) return of_many(team, i, own);
    T* __restrict sum = to + i * cols;
    team.each(cols, [=](int64_t c) { sum[c] = 0; });
    const T same = kGradient ? T(0) : T(grid.share(own, count_pad));
    const auto add = [&](int64_t other, int32_t) {
      const T *d = from + other * cols, part = kGradient ? T(grid.share(grid.outputs().at(other), count_pad)) : same;
      team.each(cols, [=](int64_t c) { sum[c] += part * d[c]; });
    };
    if constexpr (kGradient) grid.each_window_with(own, add);
    else grid.each_in_window(own, add);
  }
  template <class Team> HD void of_many(const Team& team, int64_t i, const Pixel& o) const {
    const int64_t cols = grid.channels;
    const double same = grid.share(o, count_pad);
    each_block(team, cols, [=, this](int64_t c, int64_t count) {
      double sum[kBlockOf<Team>] = {};
      grid.each_in_window(o, [&](int64_t p, int32_t) {
        for (int64_t k = 0; k < count; ++k) sum[k] += double(from[p * cols + c + k]);
      });
      for (int64_t k = 0; k < count; ++k) to[i * cols + c + k] = T(sum[k] * same);
    });
  }
};

struct PoolState {
  Grid grid;
  Shape from, to;  // of x and y
};

struct MaxPool : PoolState {
  static constexpr auto name = "max_pool2d";
  Tensor where;
  DType position() const { return grid.y.kernel * grid.x.kernel <= 256 ? DType::u8 : DType::i64; }
  template <class F> void dispatch(DType t, F f) const {
    dispatch_storage(t, [&]<class T>() {
      if (position() == DType::u8) f.template operator()<T, uint8_t>();
      else f.template operator()<T, int64_t>();
    });
  }
  Tensor forward(const Tensor& x) {
    Tensor y(to, x.dtype(), x.device());
    where = Tensor(to, position(), x.device());
    dispatch(x.dtype(), [&]<class T, class I>() {
      for_strips(x.device(), Strips::of_map(x.device(), 1, to.rows(), grid.channels),
                 MaxForward<T, I>{x.data<T>(), y.data<T>(), where.data<I>(), grid});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = Tensor(from, dy.dtype(), dy.device());
    dispatch(dy.dtype(), [&]<class T, class I>() {
      for_strips(dy.device(), Strips::of_map(dy.device(), 1, from.rows(), grid.channels),
                 MaxBackward<T, I>{dy.data<T>(), where.data<I>(), g[0].data<T>(), grid});
    });
  }
};

struct AveragePool : PoolState {
  static constexpr auto name = "avg_pool2d";
  bool count_pad;
  Tensor forward(const Tensor& x) {
    Tensor y(to, x.dtype(), x.device());
    const int64_t window = to.rows() > 0 ? from.rows() / to.rows() + 1 : 1;
    dispatch_float(x.dtype(), [&]<class T>() {
      for_rows(x.device(), to.rows(), grid.channels * window,
               Average<false, T>{x.data<T>(), y.data<T>(), grid, count_pad});
    });
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = Tensor(from, dy.dtype(), dy.device());
    dispatch_float(dy.dtype(), [&]<class T>() {
      for_rows(dy.device(), from.rows(), grid.channels,
               Average<true, T>{dy.data<T>(), g[0].data<T>(), grid, count_pad});
    });
  }
};
struct AdaptiveAveragePool : AveragePool {
  static constexpr auto name = "adaptive_avg_pool2d";
};

// Torch's rule: with `ceil` a last window that would start in the right padding is left out.
Axis window_axis(const char* op, const Tensor& x, int axis, int kernel, int stride, int pad, bool ceil) {
  if (stride == 0) stride = kernel;
  check(kernel >= 1 && stride >= 1, op, ": kernel ", kernel, " and stride ", stride, " must be at least 1");
  check(pad >= 0 && pad <= kernel / 2, op, ": pad ", pad, " must be 0 to half the kernel of ", kernel);
  const int64_t in = x.dim(axis), room = in + int64_t{2} * pad - kernel, more = ceil ? stride - 1 : 0;
  check(room + more >= 0 && in > 0, op, ": a window of ", kernel, " does not fit\n  x ", x.shape(),
        "   (N,H,W,C)\n  axis ", axis, " with pad ", pad, " has ", in + int64_t{2} * pad);
  int64_t out = (room + more) / stride + 1;
  if (ceil && (out - 1) * stride >= in + pad) --out;
  return {in, out, kernel, stride, pad};
}

template <class Op> Tensor run(Op op, const Tensor& x, Axis y_axis, Axis x_axis) {
  op.grid = {y_axis, x_axis, x.dim(3)};
  op.from = x.shape(), op.to = x.shape().with(1, y_axis.out).with(2, x_axis.out);
  return apply(std::move(op), x);
}
void check_image(const char* op, const Tensor& x) {
  check(x.rank() == 4, op, ": x must be [N,H,W,C], got ", x.shape());
}
template <class Op> Tensor pool(Op op, const Tensor& x, const PoolOptions& o) {
  check_image(Op::name, x);
  return run(std::move(op), x, window_axis(Op::name, x, 1, o.kernel.h, o.stride.h, o.pad.h, o.ceil),
             window_axis(Op::name, x, 2, o.kernel.w, o.stride.w, o.pad.w, o.ceil));
}

}  // namespace

Tensor max_pool2d(const Tensor& x, PoolOptions o) { return pool(MaxPool{}, x, o); }
Tensor avg_pool2d(const Tensor& x, PoolOptions o) {
  AveragePool op;
  op.count_pad = o.count_pad;
  return pool(std::move(op), x, o);
}
Tensor adaptive_avg_pool2d(const Tensor& x, Int2 out) {
  check_image("adaptive_avg_pool2d", x);
  check(out.h >= 1 && out.w >= 1 && x.dim(1) > 0 && x.dim(2) > 0, "adaptive_avg_pool2d: from ", x.shape(), " to ",
        out.h, " x ", out.w);
  AdaptiveAveragePool op;
  op.count_pad = false;
  return run(std::move(op), x, {x.dim(1), out.h}, {x.dim(2), out.w});
}

}  // namespace fovea
