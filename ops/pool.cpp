// Pooling of NHWC images, one pixel a row; gradients gather from the windows that cover a pixel.
#include "ops/pool.h"

#include "core/autograd.h"
#include "ops/columns.h"

namespace fovea {
namespace {

struct Range {
  int64_t begin, end;
};

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

  // f(p, at) for each pixel p of x in the window of output pixel r, row by row; `at`: its place in the window, counted
  // with the padding.
  template <class F> HD void each_in_window(int64_t r, F f) const {
    const int64_t ox = r % x.out, oy = r / x.out % y.out, n = r / x.out / y.out;
    const Range wy = y.window(oy), wx = x.window(ox);
    for (int64_t iy = wy.begin; iy < wy.end; ++iy)
      for (int64_t ix = wx.begin; ix < wx.end; ++ix)
        f((n * y.in + iy) * x.in + ix, (iy - y.start(oy)) * x.kernel + ix - x.start(ox));
  }
  // The reverse: f(r, at) for each output pixel r whose window pixel p is in, and its place there.
  template <class F> HD void each_window_with(int64_t p, F f) const {
    const int64_t ix = p % x.in, iy = p / x.in % y.in, n = p / x.in / y.in;
    const Range ry = y.covering(iy), rx = x.covering(ix);
    for (int64_t oy = ry.begin; oy < ry.end; ++oy)
      for (int64_t ox = rx.begin; ox < rx.end; ++ox)
        f((n * y.out + oy) * x.out + ox, (iy - y.start(oy)) * x.kernel + ix - x.start(ox));
  }
  HD double share(int64_t r, bool count_pad) const {  // of each pixel in the average of its window
    const int64_t ox = r % x.out, oy = r / x.out % y.out;
    if (count_pad) return 1.0 / double(y.padded(oy) * x.padded(ox));
    const Range wy = y.window(oy), wx = x.window(ox);
    return 1.0 / double((wy.end - wy.begin) * (wx.end - wx.begin));
  }
};

// The pixels of a window and their places in it, nine at a time, so that the best so far stays in a register. Fewer are
// filled up in front with the first one, which changes nothing.
template <class T> struct Nine {
  const T* from[9];
  int32_t at[9];
};
// where [N,OH,OW,C]: the winner's place in its window. NaN wins, the last one of several.
template <class T, class I> struct MaxForward {
  using C = compute_t<T>;
  static constexpr int kWidth = kLaneWidth<T>;
  const T* x;
  T* y;
  I* where;
  Grid grid;
  static constexpr bool rare = sizeof(I) > 1;  // large windows
  bool aligned() const { return all_aligned(x, y, where); }
  HD static bool beats(C v, C top) { return (v > top) | (v != v); }
  template <class Columns> HD void operator()(const Columns& at, int64_t, int64_t row, int64_t n) const {
    for (int64_t r = row; r < row + n; ++r) pixel(at, r);
  }
  template <int kFew> HD void pixel(const Few<kFew>& few, int64_t r) const {
    Pack<C, kFew> top{};
    Pack<I, kFew> place{};
    bool begun = false;
    grid.each_in_window(r, [&](int64_t p, int64_t at) {
      const auto v = few.load(x + p * grid.channels);
      few.each([&](int64_t c) {
        const bool take = !begun | beats(C(v[c]), top[c]);
        top[c] = take ? C(v[c]) : top[c], place[c] = take ? I(at) : place[c];
      });
      begun = true;
    });
    auto out = few.fresh(y);
    few.each([&](int64_t c) { out[c] = T(top[c]); });
    few.store(y + r * grid.channels, out), few.store(where + r * grid.channels, place);
  }
  HD void pixel(const Many&, int64_t r) const {
    Nine<T> taps{};
    int count = 0;
    bool begun = false;
    grid.each_in_window(r, [&](int64_t p, int64_t at) {
      if (count == 9) best<9>(r, taps, begun), begun = true, count = 0;
      taps.from[count] = x + p * grid.channels, taps.at[count++] = int32_t(at);
    });
    if (count <= 4) best<4>(r, filled(taps, count, 4), begun);
    else best<9>(r, filled(taps, count, 9), begun);
  }
  HD static Nine<T> filled(const Nine<T>& t, int count, int size) {
    Nine<T> all = t;
    for (int i = 0; i < size; ++i) {
      const int k = i < size - count ? 0 : i - (size - count);
      all.from[i] = t.from[k], all.at[i] = t.at[k];
    }
    return all;
  }
  // Channels in blocks whose places are kept as int32: a loop over T and bytes would take 64 at a time, or one.
  template <int kCount> HD void best(int64_t r, const Nine<T>& taps, bool begun) const {
    constexpr int64_t kVector = 16;
    const int64_t cols = grid.channels;
    each_block(Many{0, cols}, [=, this](const Many& block) {
      const int64_t c0 = block.first, n = block.count;
      T* to = y + r * cols + c0;
      I* winner = where + r * cols + c0;
      int32_t place[kBlock];
      const auto span = [&](int64_t begin, int64_t end) {
        FOVEA_INDEPENDENT for (int64_t k = begin; k < end; ++k) {
          auto top = C(taps.from[0][c0 + k]);
          int32_t at = taps.at[0];
#ifndef __CUDACC__
#pragma GCC unroll 9
#endif
          for (int i = 0; i < kCount; ++i) {  // unrolled, or the loop around it would not vectorise
            const auto v = C(taps.from[i][c0 + k]);
            const bool take = beats(v, top);
            top = take ? v : top, at = take ? taps.at[i] : at;
          }
          to[k] = T(top), place[k] = at;
        }
      };
      T before[kBlock] = {};
      for (int64_t k = 0; begun && k < n; ++k) before[k] = to[k];
      const int64_t whole = n < kVector ? n : n / kVector * kVector;
      span(0, whole);
      if (whole < n) span(n - kVector, n);  // a full vector that overlaps, instead of the rest one by one
      if (!begun) {
        FOVEA_INDEPENDENT for (int64_t k = 0; k < n; ++k) winner[k] = I(place[k]);
        return;
      }
      for (int64_t k = 0; k < n; ++k) {
        if (to[k] > before[k] || to[k] != to[k]) winner[k] = I(place[k]);
        else to[k] = before[k];
      }
    });
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
    for (int64_t p = row; p < row + n; ++p)
      each_block(all, [=, this](const Columns& at) {
        SumOfRows<Columns, T> sum(at, dx + p * cols);
        grid.each_window_with(p, [&](int64_t r, int64_t place) {
          const auto d = at.load(dy + r * cols);
          const auto winner = at.load(where + r * cols);
          const int32_t here = int32_t(place);
          sum.add([=](int64_t k) {
            const auto v = compute_t<T>(d[k]);  // loaded in any case, so that the choice vectorises
            return int32_t(winner[k]) == here ? v : 0;
          });
        });
        sum.finish();
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
    const int64_t cols = grid.channels;
    T* __restrict sum = to + i * cols;
    team.each(cols, [=](int64_t c) { sum[c] = 0; });
    const T own = kGradient ? T(0) : T(grid.share(i, count_pad));
    const auto add = [&](int64_t other, int64_t) {
      const T *d = from + other * cols, part = kGradient ? T(grid.share(other, count_pad)) : own;
      team.each(cols, [=](int64_t c) { sum[c] += part * d[c]; });
    };
    if constexpr (kGradient) grid.each_window_with(i, add);
    else grid.each_in_window(i, add);
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
