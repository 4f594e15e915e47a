// conv2d and conv_transpose2d: checks, shapes, gradients. The sums themselves are in ops/conv_reference.cpp,
// ops/cpu and ops/cuda.
#include "ops/conv.h"

#include <cstdlib>
#include <string>

#include "core/autograd.h"
#include "ops/columns.h"
#include "ops/conv_reference.h"
#include "ops/cpu/conv.h"
#include "ops/cuda/conv.h"

namespace fovea {
namespace {

template <class T> struct Epilogue {
  T* y;  // [pixels, o]
  const T* residual;
  ConvEnd<T> end;
  int64_t o;
  template <class Columns> HD void operator()(const Columns& at, int64_t, int64_t row, int64_t n) const {
    const ConvEnd<T> finish = end;
    for (int64_t r = row * o; r < (row + n) * o; r += o) {
      const auto sum = at.load(y + r);
      const auto rest = at.load((residual ? residual : y) + r);
      auto out = at.fresh(y + r);
      at.each([&](int64_t c) { out[c] = finish(sum[c], at.first + c, residual ? rest[c] : T(0)); });
      at.store(y + r, out);
    }
  }
};
template <class T> struct Masked {  // dz = dy where y > 0, else 0: the gradient of relu, from its saved result
  const T *y, *dy;
  T* dz;
  static constexpr int kWidth = kLaneWidth<T>;
  bool aligned() const { return all_aligned(y, dy, dz); }
  const void* result() const { return dz; }
  template <class At> HD void operator()(const At& at) const {
    const auto value = at.load(y), upper = at.load(dy);
    auto out = at.fresh(dz);
    at.each([&](int64_t i) {  // numbers, not bits of bf16: those would not vectorise
      const compute_t<T> v = value[i], d = upper[i];
      out[i] = T(v > 0 ? d : compute_t<T>(0));
    });
    at.store(dz, out);
  }
};
template <class T> struct Scaled {  // out = scale dy, or, given y, scale dz as above
  using C = compute_t<T>;
  static constexpr int kWidth = kLaneWidth<T>;
  const T *y, *dy;
  const C* scale;
  T* out;
  int64_t o;
  bool aligned() const { return all_aligned(y, dy, scale, out); }
  const void* result() const { return out; }
  template <class Columns> HD void operator()(const Columns& at, int64_t, int64_t row, int64_t n) const {
    const auto s = at.load(scale);
    for (int64_t r = row * o; r < (row + n) * o; r += o) {
      const auto upper = at.load(dy + r);
      auto to = at.fresh(out + r);
      if (y) {
        const auto value = at.load(y + r);
        at.each([&](int64_t c) {
          const C v = value[c], d = upper[c] * s[c];
          to[c] = T(v > 0 ? d : C(0));
        });
      } else {
        at.each([&](int64_t c) { to[c] = T(upper[c] * s[c]); });
      }
      at.store(out + r, to);
    }
  }
};
template <class Body> void for_pixels(Device d, int64_t pixels, const Body& body) {
  for_strips(d, Strips::of_map(d, 1, pixels, body.o), body);
}

// The three sums of a convolution, over maps that share the weights. A transposed convolution is made of the same, in
// other roles.
template <class T> constexpr bool has_kernels = !std::is_same_v<T, double>;
template <class T> constexpr bool has_reference = !std::is_same_v<T, bf16>;
#ifdef __CUDACC__
template <class T> constexpr bool has_tiles = true;
#else
template <class T> constexpr bool has_tiles = std::is_same_v<T, double>;  // what can be played
#endif
template <class T> bool tiled(Device d) {  // by the kernels for a GPU, which a rehearsal plays
  const bool plain = has_reference<T> && conv_algo() == ConvAlgo::reference;
  return !plain && (d == Device::cuda || (rehearsal() && !has_kernels<T>));
}
template <class T> bool fast(Device d) {
  check(has_tiles<T> || d == Device::cpu, "a device without nvcc plays convolutions of f64 only");
  return !has_reference<T> || (d == Device::cpu && conv_algo() != ConvAlgo::reference && !rehearsal());
}
template <class T>
void value(Device d, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w, const ConvEnd<compute_t<T>>& end) {
  if constexpr (has_tiles<T>)
    if (tiled<T>(d)) return cuda::conv_value(d, maps, w, end);
  if constexpr (has_kernels<T>)
    if (fast<T>(d)) return cpu::conv_value(maps, w, end, conv_algo(), cpu::kernels());
  if constexpr (has_reference<T>)
    for (auto& [s, x, y, dx, dy, residual] : maps) {
      reference::conv_value(d, s, x, w, y);
      if (end.scale || end.b || residual || end.relu)
        for_pixels(d, s.n * s.oh * s.ow, Epilogue<T>{y, residual, end, s.o});
    }
}
template <class T> void input_gradient(Device d, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w) {
  if constexpr (has_tiles<T>)
    if (tiled<T>(d)) return cuda::conv_input_gradient(d, maps, w);
  if constexpr (has_kernels<T>)
    if (fast<T>(d)) return cpu::conv_input_gradient(maps, w, conv_algo(), cpu::kernels());
  if constexpr (has_reference<T>)
    for (auto& [s, x, y, dx, dy, residual] : maps) reference::conv_input_gradient(d, s, dy, w, dx);
}
template <class T> void weight_gradient(Device d, const std::vector<ConvMap<T>>& maps, compute_t<T>* dw) {
  if constexpr (has_tiles<T>)
    if (tiled<T>(d)) return cuda::conv_weight_gradient(d, maps, dw);
  if constexpr (has_kernels<T>)
    if (fast<T>(d)) return cpu::conv_weight_gradient(maps, dw, conv_algo(), cpu::kernels());
  if constexpr (has_reference<T>)
    for (size_t i = 0; i < maps.size(); ++i)
      reference::conv_weight_gradient(d, maps[i].s, maps[i].x, maps[i].dy, dw, i > 0);
}

// Whether the result of a convolution may take the place of its residual: nobody else holds that, and the kernels read
// each of its elements just before they write there (the reference writes sums first).
bool replaceable(const Tensor& residual) {
  return residual && residual.device() == Device::cpu && residual.sole_owner() && !residual.storage()->owner &&
         (residual.dtype() == DType::bf16 || (residual.dtype() == DType::f32 && fast<float>(Device::cpu)));
}

// db [o] = column sums of all dy [rows, o]
Tensor bias_gradient(const std::vector<Tensor>& dys) {
  Tensor db;
  for (const Tensor& dy : dys) {
    if (!dy) continue;
    Tensor sum({dy.dim(-1)}, compute_type(dy.dtype()), dy.device());
    dispatch_storage(dy.dtype(), [&]<class T>() {
      sum_columns(dy.device(), dy.shape().rows(), dy.dim(-1), Element<T>{dy.data<T>(), dy.dim(-1)},
                  sum.data<compute_t<T>>());
    });
    if (db) add_into(db, sum);
    else db = sum;
  }
  return db;
}

struct Conv2d {
  static constexpr auto name = "conv2d";
  std::vector<ConvShape> shapes;
  bool relu;
  bool in_place = false;              // the result takes the place of the residual
  Saved scale = {};                   // [O], or none
  std::vector<Saved> x = {}, y = {};  // y only where relu needs it
  Saved w = {};

  // residual: as the one result, or undefined
  std::vector<Tensor> forward(const std::vector<Tensor>& maps, const Tensor& weight, const Tensor& b,
                              const Tensor& residual) {
    w = weight;
    std::vector<Tensor> out;
    for (size_t i = 0; i < maps.size(); ++i) {
      const ConvShape& s = shapes[i];
      x.emplace_back() = maps[i];
      if (in_place) out.push_back(residual);
      else out.emplace_back(Shape{s.n, s.oh, s.ow, s.o}, maps[i].dtype(), weight.device());
      if (relu) y.emplace_back() = out[i];
    }
    dispatch_storage(maps[0].dtype(), [&]<class T>() {
      using C = compute_t<T>;
      std::vector<ConvMap<T>> list;
      for (size_t i = 0; i < maps.size(); ++i)
        list.push_back({shapes[i], maps[i].data<T>(), out[i].data<T>(), nullptr, nullptr,
                        residual ? residual.data<T>() : nullptr});
      const ConvEnd<C> end{scale ? scale->data<C>() : nullptr, b ? b.data<C>() : nullptr, relu};
      if constexpr (!has_reference<T>)
        if (weight.dtype() == DType::bf16 && weight.device() == Device::cpu)
          return cpu::conv_value(list, weight.data<bf16>(), end, conv_algo(), cpu::kernels());
      const Tensor wide = weight.dtype() == DType::bf16 ? weight.to(DType::f32) : weight;
      value<T>(weight.device(), list, wide.data<C>(), end);
    });
    return out;
  }
  // With dz = dy where relu let y through: dresidual = dz, db = sum over pixels of dz; then, dy for scale dz:
  // dx = dy * w flipped, dw = sum over pixels of x dy.
  void backward(const std::vector<Tensor>& arrived, Grads& g) const {
    const size_t wi = x.size(), bi = wi + 1;
    const bool whole = relu && (!scale || g.wants(bi) || g.wants(bi + 1));  // somebody reads dz itself
    std::vector<Tensor> dys = whole ? masked(arrived) : arrived;
    if (g.wants(bi)) g[bi] = bias_gradient(dys);
    if (g.wants(bi + 1)) g[bi + 1] = dys[0];
    if (scale) dys = scaled(dys, relu && !whole);
    if (g.wants(wi)) g[wi] = empty_like(*w);
    dispatch_storage(x[0]->dtype(), [&]<class T>() {
      using C = compute_t<T>;
      std::vector<ConvMap<T>> down, all;
      for (size_t i = 0; i < x.size(); ++i) {
        if (g.wants(i)) g[i] = dys[i] ? empty_like(*x[i]) : zeros_like(*x[i]);
        if (!dys[i]) continue;  // nothing depends on this map
        all.push_back({shapes[i], x[i]->data<T>(), nullptr, g.wants(i) ? g[i].data<T>() : nullptr, dys[i].data<T>()});
        if (g.wants(i)) down.push_back(all.back());
      }
      if (!down.empty()) input_gradient<T>(w->device(), down, w->data<C>());
      if (g.wants(wi)) weight_gradient<T>(w->device(), all, g[wi].data<C>());
    });
  }

 private:
  // fill(i, x, y): fills y from x = xs[i]; undefined ones stay so
  template <class Fill> static std::vector<Tensor> mapped(const std::vector<Tensor>& xs, Fill fill) {
    std::vector<Tensor> ys(xs.size());
    for (size_t i = 0; i < xs.size(); ++i) {
      if (!xs[i]) continue;
      ys[i] = empty_like(xs[i]);
      dispatch_storage(ys[i].dtype(), [&]<class T>() { fill(i, xs[i].data<T>(), ys[i].data<T>()); });
    }
    return ys;
  }
  std::vector<Tensor> masked(const std::vector<Tensor>& dys) const {
    return mapped(dys, [&]<class T>(size_t i, const T* dy, T* dz) {
      for_each(dys[i].device(), dys[i].size(), Masked<T>{y[i]->data<T>(), dy, dz});
    });
  }
  std::vector<Tensor> scaled(const std::vector<Tensor>& dys, bool mask) const {
    return mapped(dys, [&]<class T>(size_t i, const T* dy, T* out) {
      for_pixels(dys[i].device(), dys[i].shape().rows(),
                 Scaled<T>{mask ? y[i]->data<T>() : nullptr, dy, scale->data<compute_t<T>>(), out, scale->dim(0)});
    });
  }
};

// conv2d with the roles of x and y exchanged: `shape.n,h,w,c` describe the output, `shape.oh,ow,o` the input.
struct ConvTranspose2d {
  static constexpr auto name = "conv_transpose2d";
  ConvShape s;
  Saved x = {}, w = {};

  Tensor forward(const Tensor& in, const Tensor& weight, const Tensor& b) {
    x = in, w = weight;
    Tensor y({s.n, s.h, s.w, s.c}, in.dtype(), in.device());
    dispatch_float(in.dtype(), [&]<class T>() {
      input_gradient<T>(in.device(), {{s, nullptr, nullptr, y.data<T>(), in.data<T>()}}, weight.data<T>());
      if (b) for_pixels(in.device(), y.shape().rows(), Epilogue<T>{y.data<T>(), nullptr, {nullptr, b.data<T>()}, s.c});
    });
    return y;
  }
  // dx = conv2d(dy, w); dw as conv2d's with x and dy exchanged; db = sum over pixels of dy
  void backward(const Tensor& dy, Grads& g) const {
    if (g.wants(0)) g[0] = empty_like(*x);
    if (g.wants(1)) g[1] = empty_like(*w);
    if (g.wants(2)) g[2] = bias_gradient({dy});
    dispatch_float(dy.dtype(), [&]<class T>() {
      if (g.wants(0))
        value<T>(dy.device(), {{s, dy.data<T>(), g[0].data<T>(), nullptr, nullptr}}, w->data<T>(), ConvEnd<T>{});
      if (g.wants(1))
        weight_gradient<T>(dy.device(), {{s, dy.data<T>(), nullptr, nullptr, x->data<T>()}}, g[1].data<T>());
    });
  }
};

// --- checks ---

struct Described {
  const Tensor &x, &w;
  const char* layout;
};
std::ostream& operator<<(std::ostream& s, const Described& d) {
  return s << "\n  input  " << d.x.shape() << "   (N,H,W,C)\n  weight " << d.w.shape() << "   (" << d.layout << ")";
}

void check_tensors(const char* op, const Tensor& x, const Tensor& w, const Tensor& b, const char* layout) {
  check(x && w, op, ": input and weight must be defined");
  check(x.rank() == 4, op, ": input has rank ", x.rank(), ", expected 4", Described{x, w, layout});
  check(w.rank() == 4, op, ": weight has rank ", w.rank(), ", expected 4", Described{x, w, layout});
  const DType type = compute_type(x.dtype());
  const bool rounded = x.dtype() == DType::bf16 && w.dtype() == DType::bf16;  // see conv2d
  check((w.dtype() == type || rounded) && (!b || b.dtype() == type), op, ": input is ", name_of(x.dtype()), ", weight ",
        name_of(w.dtype()), b ? ", bias " : "", b ? name_of(b.dtype()) : "",
        is_float(x.dtype()) && is_float(w.dtype()) ? type_hint(DType::f32, DType::f64) : type_hint(x, w));
  check(is_float(x.dtype()), op, ": expected f32, f64 or bf16, got ", name_of(x.dtype()), type_hint(x, x));
}
void check_window(const char* op, const Tensor& w, Int2 stride, Int2 pad, Int2 dilation, int groups) {
  check(w.size() > 0, op, ": weight ", w.shape(), " is empty");
  check(stride.h > 0 && stride.w > 0, op, ": stride ", stride.h, "x", stride.w, " must be positive");
  check(pad.h >= 0 && pad.w >= 0, op, ": padding ", pad.h, "x", pad.w, " must not be negative");
  check(dilation.h > 0 && dilation.w > 0, op, ": dilation ", dilation.h, "x", dilation.w, " must be positive");
  check(groups > 0, op, ": groups ", groups, " must be positive");
}
void check_bias(const char* op, const Tensor& b, int64_t channels) {
  check(!b || b.shape() == Shape{channels}, op, ": bias has shape ", b.shape(), ", expected [", channels,
        "], one an output channel");
}

ConvShape conv_shape(const Tensor& x, const Tensor& w, const Tensor& b, const Conv2dOptions& o) {
  constexpr auto op = "conv2d", layout = "kh,kw,in,out";
  check_tensors(op, x, w, b, layout);
  if (x.dtype() == DType::bf16 && x.device() == Device::cpu) check_bf16_convolutions();
  check(w.dtype() != DType::bf16 || NoGrad::active() || !(x.requires_grad() || w.requires_grad()), op,
        ": there are no gradients with a weight of bf16", Described{x, w, layout},
        "\n  hint: for values alone use NoGrad; to train, a weight of f32");
  check_window(op, w, o.stride, o.pad, o.dilation, o.groups);
  check(x.dim(3) == w.dim(2) * o.groups, op, ": input has ", x.dim(3), " channels, weight expects ",
        w.dim(2) * o.groups, o.groups > 1 ? text(" in ", o.groups, " groups") : "", Described{x, w, layout},
        x.dim(1) == w.dim(2) ? "\n  hint: images are channels-last here: permute(x, {0, 2, 3, 1})"
        : x.dim(3) == 3      ? "\n  hint: was the stem left out?"
                             : "");
  check(w.dim(3) % o.groups == 0, op, ": ", w.dim(3), " output channels do not divide into ", o.groups, " groups",
        Described{x, w, layout});
  check_bias(op, b, w.dim(3));
  const Int2 kernel(int(w.dim(0)), int(w.dim(1)));
  const int64_t h = x.dim(1) + int64_t{2} * o.pad.h - int64_t{o.dilation.h} * (kernel.h - 1);
  const int64_t ww = x.dim(2) + int64_t{2} * o.pad.w - int64_t{o.dilation.w} * (kernel.w - 1);
  check(h > 0 && ww > 0, op, ": the kernel is larger than the padded input", Described{x, w, layout}, "\n  padding ",
        o.pad.h, "x", o.pad.w, ", dilation ", o.dilation.h, "x", o.dilation.w,
        "\n  hint: pad the input or use a larger image");
  return {
      x.dim(0), x.dim(1), x.dim(2),   x.dim(3), (h - 1) / o.stride.h + 1, (ww - 1) / o.stride.w + 1, w.dim(3), kernel,
      o.stride, o.pad,    o.dilation, o.groups};
}

ConvShape transposed_shape(const Tensor& x, const Tensor& w, const Tensor& b, const ConvTranspose2dOptions& o) {
  constexpr auto op = "conv_transpose2d", layout = "kh,kw,out,in";
  check_tensors(op, x, w, b, layout);
  check(x.dtype() != DType::bf16, op, ": there is none of bf16");
  check_window(op, w, o.stride, o.pad, o.dilation, o.groups);
  check(x.dim(3) == w.dim(3), op, ": input has ", x.dim(3), " channels, weight expects ", w.dim(3),
        Described{x, w, layout});
  check(x.dim(3) % o.groups == 0, op, ": ", x.dim(3), " input channels do not divide into ", o.groups, " groups",
        Described{x, w, layout});
  check_bias(op, b, w.dim(2) * o.groups);
  for (const auto& [extra, stride, dilation] :
       {std::tuple(o.output_pad.h, o.stride.h, o.dilation.h), {o.output_pad.w, o.stride.w, o.dilation.w}})
    check(extra >= 0 && (extra < stride || extra < dilation), op, ": output padding ", extra, " must be below stride ",
          stride, " or dilation ", dilation);
  const Int2 kernel(int(w.dim(0)), int(w.dim(1)));
  const int64_t h =
      (x.dim(1) - 1) * o.stride.h - int64_t{2} * o.pad.h + int64_t{o.dilation.h} * (kernel.h - 1) + o.output_pad.h + 1;
  const int64_t ww =
      (x.dim(2) - 1) * o.stride.w - int64_t{2} * o.pad.w + int64_t{o.dilation.w} * (kernel.w - 1) + o.output_pad.w + 1;
  check(h > 0 && ww > 0, op, ": the padding leaves nothing of the output", Described{x, w, layout}, "\n  padding ",
        o.pad.h, "x", o.pad.w);
  return {x.dim(0), h,        ww,    w.dim(2) * o.groups, x.dim(1), x.dim(2), x.dim(3),
          kernel,   o.stride, o.pad, o.dilation,          o.groups};
}

ConvAlgo& chosen_algo() {
  static ConvAlgo algo = [] {
    const char* s = std::getenv("FOVEA_CONV_ALGO");
    return conv_algo_named(s && *s ? s : "auto");
  }();
  return algo;
}

}  // namespace

std::string name_of(ConvAlgo algo) {
  const char* names[] = {"auto", "direct", "winograd", "reference"};
  return names[static_cast<int>(algo)];
}
ConvAlgo conv_algo_named(const std::string& name) {
  for (const ConvAlgo algo : {ConvAlgo::automatic, ConvAlgo::direct, ConvAlgo::winograd, ConvAlgo::reference})
    if (name == name_of(algo)) return algo;
  fail(Code::usage,
       "conv.algo (FOVEA_CONV_ALGO): '" + name + "' is no algorithm\n  hint: one of auto, direct, winograd, reference");
}
void set_conv_algo(ConvAlgo algo) { chosen_algo() = algo; }
ConvAlgo conv_algo() { return chosen_algo(); }

void check_bf16_convolutions(Device device) {
  if (device == Device::cuda)
    check(Code::impossible, runtime().info().major >= 8, "bf16 needs a GPU of compute capability 8.0 or newer",
          "\n  hint: --precision f32");
  else
    check(Code::impossible, cpu::kernels().half, "bf16 needs avx512_bf16; this processor ", "(or FOVEA_ISA) has ",
          name_of(isa()), "\n  hint: --precision f32");
  check(Code::impossible, conv_algo() != ConvAlgo::reference, "conv.algo=reference has no bf16",
        "\n  hint: --precision f32, or another conv.algo");
}

std::vector<Tensor> conv2d(const std::vector<Tensor>& maps, const Tensor& w, const Tensor& b, Conv2dOptions options) {
  check(!maps.empty(), "conv2d: no input");
  std::vector<ConvShape> shapes;
  for (auto& x : maps) shapes.push_back(conv_shape(x, w, b, options));
  return apply(Conv2d{std::move(shapes), options.relu}, maps, w, b, Tensor());
}

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& b, Conv2dOptions options) {
  return conv2d(std::vector<Tensor>{x}, w, b, options)[0];
}

Tensor conv2d_norm(const Tensor& x, const Tensor& w, const Tensor& scale, const Tensor& shift, Tensor residual,
                   Conv2dOptions options) {
  const ConvShape s = conv_shape(x, w, shift, options);
  const DType type = compute_type(x.dtype());
  check(!scale || (scale.shape() == Shape{s.o} && scale.dtype() == type), "conv2d_norm: scale ", scale.shape(),
        ", expected ", name_of(type), " [", s.o, "], one an output channel");
  check(!scale || scale.device() == w.device(), "conv2d_norm: scale is on ", name_of(scale.device()), ", weight on ",
        name_of(w.device()), kMoveHint);
  const Shape out{s.n, s.oh, s.ow, s.o};
  check(!residual || (residual.shape() == out && residual.dtype() == x.dtype()), "conv2d_norm: residual ",
        residual.shape(), ", expected ", out, " as the result");
  Conv2d op{{s}, options.relu};
  op.in_place = replaceable(residual), op.scale = scale;
  return apply(std::move(op), std::vector<Tensor>{x}, w, shift, residual)[0];
}

Tensor conv_transpose2d(const Tensor& x, const Tensor& w, const Tensor& b, ConvTranspose2dOptions options) {
  return apply(ConvTranspose2d{transposed_shape(x, w, b, options)}, x, w, b);
}

}  // namespace fovea
