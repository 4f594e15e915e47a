// Overlaps of all pairs of boxes, the box coder, and clipping.
#include "ops/box_ops.h"

#include <cmath>

#include "core/autograd.h"
#include "core/box.h"
#include "core/math.h"
#include "ops/broadcast.h"

namespace fovea {
namespace {

constexpr double kMaxLogSize = 4.135166556742356;  // log(1000 / 16), Detectron's clamp

template <class T, bool kOfA> struct Overlap {  // a row of [N,M]
  const Box<T>*a, *b;
  T* y;
  int64_t cols;
  template <class Team> HD void operator()(const Team& team, int64_t r) const {
    const Box<T> box = a[r], *others = b;
    T* __restrict out = y + r * cols;
    team.each(cols, [=](int64_t c) {
      if constexpr (kOfA) out[c] = ioa(box, others[c]);
      else out[c] = iou(box, others[c]);
    });
  }
};
template <bool kOfA> struct OverlapOp {
  static constexpr auto name = kOfA ? "box_ioa" : "box_iou";
  Tensor forward(const Tensor& a, const Tensor& b) const {
    Tensor y({a.dim(0), b.dim(0)}, a.dtype(), a.device());
    dispatch_float(a.dtype(), [&]<class T>() {
      for_rows(a.device(), y.dim(0), y.dim(1),
               Overlap<T, kOfA>{reinterpret_cast<const Box<T>*>(a.data<T>()),
                                reinterpret_cast<const Box<T>*>(b.data<T>()), y.data<T>(), y.dim(1)});
    });
    return y;
  }
};

template <bool kCorners, class T> struct EncodeBody {
  const Box<T>*boxes, *anchors;
  T* out;
  BoxCoder w;
  HD void operator()(int64_t i) const {
    const Box<T> b = boxes[i], a = anchors[i];
    const T aw = a.width(), ah = a.height(), least = T(w.least);
    T* y = out + 4 * i;
    if constexpr (kCorners) {
      y[0] = T(w.wx) * (b.x1 - a.x1) / aw, y[1] = T(w.wy) * (b.y1 - a.y1) / ah;
      y[2] = T(w.ww) * (b.x2 - a.x2) / aw, y[3] = T(w.wh) * (b.y2 - a.y2) / ah;
    } else {
      y[0] = T(w.wx) * ((b.x1 + b.x2) - (a.x1 + a.x2)) / (2 * aw);
      y[1] = T(w.wy) * ((b.y1 + b.y2) - (a.y1 + a.y2)) / (2 * ah);
      y[2] = T(w.ww) * math::log((b.width() > least ? b.width() : least) / aw);
      y[3] = T(w.wh) * math::log((b.height() > least ? b.height() : least) / ah);
    }
  }
};
struct Encode {
  static constexpr auto name = "encode_boxes";
  BoxCoder coder;
  Tensor forward(const Tensor& boxes, const Tensor& anchors) const {
    Tensor y = empty_like(boxes);
    dispatch_float(y.dtype(), [&]<class T>() {
      const auto *b = reinterpret_cast<const Box<T>*>(boxes.data<T>()),
                 *a = reinterpret_cast<const Box<T>*>(anchors.data<T>());
      if (coder.style == BoxCoder::Style::corners)
        for_each(y.device(), y.dim(0), EncodeBody<true, T>{b, a, y.data<T>(), coder});
      else for_each(y.device(), y.dim(0), EncodeBody<false, T>{b, a, y.data<T>(), coder});
    });
    return y;
  }
};

// Size of a decoded side, e^min(d / w, limit) times the anchor's; NaN stays.
template <class T> HD T grown(T side, T delta) {
  return side * math::exp(delta > T(kMaxLogSize) ? T(kMaxLogSize) : delta);
}

// A box of one image and its anchor at a time, in pieces of consecutive anchors.
template <class T, class Box4> struct EachDecoded {
  Stretch at;
  Box4 one;
  template <class Team> HD void operator()(Team team, int64_t piece) const {
    const auto p = at[piece];
    const Box4 f = one;
    const Box<T>* anchor = f.anchors + p.at[1];
    if (at.step[1]) return team.each(p.count, [=](int64_t i) { f(p.out + i, anchor[i]); });
    const Box<T> only = *anchor;
    team.each(p.count, [=](int64_t i) { f(p.out + i, only); });
  }
};
template <bool kCorners, class T> struct DecodeBody {
  const T* deltas;
  const Box<T>* anchors;
  T* out;
  BoxCoder w;
  HD void operator()(int64_t i, const Box<T>& a) const {
    const T* d = deltas + 4 * i;
    T* o = out + 4 * i;
    if constexpr (kCorners) {
      o[0] = a.x1 + d[0] / T(w.wx) * a.width(), o[1] = a.y1 + d[1] / T(w.wy) * a.height();
      o[2] = a.x2 + d[2] / T(w.ww) * a.width(), o[3] = a.y2 + d[3] / T(w.wh) * a.height();
    } else {
      const T x = (a.x1 + a.x2) / 2 + d[0] / T(w.wx) * a.width(), y = (a.y1 + a.y2) / 2 + d[1] / T(w.wy) * a.height();
      const T half_w = grown(a.width(), d[2] / T(w.ww)) / 2, half_h = grown(a.height(), d[3] / T(w.wh)) / 2;
      o[0] = x - half_w, o[1] = y - half_h, o[2] = x + half_w, o[3] = y + half_h;
    }
  }
};
// d(x +- half_w) = a_w/w_x dx +- half_w/w_w dw; nothing to dw where it is clamped. corners: linear
template <bool kCorners, class T> struct DecodeSlope {
  const T *deltas, *dy;
  const Box<T>* anchors;
  T* out;
  BoxCoder w;
  HD void operator()(int64_t i, const Box<T>& a) const {
    const T *d = deltas + 4 * i, *g = dy + 4 * i;
    T* o = out + 4 * i;
    if constexpr (kCorners) {
      o[0] = g[0] * a.width() / T(w.wx), o[1] = g[1] * a.height() / T(w.wy);
      o[2] = g[2] * a.width() / T(w.ww), o[3] = g[3] * a.height() / T(w.wh);
    } else {
      const T dw = d[2] / T(w.ww), dh = d[3] / T(w.wh), to_w = (g[2] - g[0]) * grown(a.width(), dw) / (2 * T(w.ww)),
              to_h = (g[3] - g[1]) * grown(a.height(), dh) / (2 * T(w.wh));
      o[0] = (g[0] + g[2]) * a.width() / T(w.wx), o[1] = (g[1] + g[3]) * a.height() / T(w.wy);
      o[2] = dw > T(kMaxLogSize) ? T(0) : to_w, o[3] = dh > T(kMaxLogSize) ? T(0) : to_h;
    }
  }
};
struct Decode {
  static constexpr auto name = "decode_boxes";
  BoxCoder coder;
  Saved deltas, anchors;
  explicit Decode(BoxCoder c) : coder(c) {}
  Tensor forward(const Tensor& deltas_, const Tensor& anchors_) {
    deltas = deltas_, anchors = anchors_;
    Tensor y = empty_like(deltas_);
    if (coder.style == BoxCoder::Style::corners) decode<true>(y);
    else decode<false>(y);
    return y;
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = empty_like(deltas);
    if (coder.style == BoxCoder::Style::corners) slope<true>(dy, g[0]);
    else slope<false>(dy, g[0]);
  }

 private:
  template <bool kCorners> void decode(const Tensor& y) const {
    dispatch_float(y.dtype(), [&]<class T>() {
      each<T>(DecodeBody<kCorners, T>{deltas->data<T>(), boxes<T>(), y.data<T>(), coder});
    });
  }
  template <bool kCorners> void slope(const Tensor& dy, const Tensor& dx) const {
    dispatch_float(dy.dtype(), [&]<class T>() {
      each<T>(DecodeSlope<kCorners, T>{deltas->data<T>(), dy.data<T>(), boxes<T>(), dx.data<T>(), coder});
    });
  }
  template <class T> const Box<T>* boxes() const { return reinterpret_cast<const Box<T>*>(anchors->data<T>()); }
  template <class T, class Body> void each(const Body& body) const {
    const int64_t count = anchors->size() / 4;
    if (deltas->size() == 0) return;
    const Shape all{deltas->size() / 4 / count, count};
    const Stretch at = stretch(all, all, Shape{count});
    for_pieces(deltas->device(), at, EachDecoded<T, Body>{at, body});
  }
};

template <class T> struct ClipBody {
  const T* x;
  T* y;
  T w, h;
  HD static T within(T v, T top) { return v < 0 ? T(0) : v > top ? top : v; }
  HD void operator()(int64_t i) const {
    const T* from = x + 4 * i;
    T* to = y + 4 * i;
    to[0] = within(from[0], w), to[1] = within(from[1], h), to[2] = within(from[2], w), to[3] = within(from[3], h);
  }
};
struct Clip {
  static constexpr auto name = "clip_boxes";
  double h, w;
  Tensor forward(const Tensor& x) const {
    Tensor y = empty_like(x);
    dispatch_float(x.dtype(), [&]<class T>() {
      for_each(x.device(), x.size() / 4, ClipBody<T>{x.data<T>(), y.data<T>(), T(w), T(h)});
    });
    return y;
  }
};

void check_boxes(const char* op, const char* what, const Tensor& t) {
  check(t.rank() >= 1 && t.dim(-1) == 4 && (t.dtype() == DType::f32 || t.dtype() == DType::f64), op, ": ", what,
        " must be f32 or f64 [..,4], got ", name_of(t.dtype()), " ", t.shape());
}
void check_pair(const char* op, const char* a_name, const Tensor& a, const char* b_name, const Tensor& b) {
  check_boxes(op, a_name, a), check_boxes(op, b_name, b);
  check(a.dtype() == b.dtype(), op, ": ", a_name, " is ", name_of(a.dtype()), ", ", b_name, " is ", name_of(b.dtype()));
}
template <bool kOfA> Tensor overlaps(const Tensor& a, const Tensor& b) {
  check_pair(OverlapOp<kOfA>::name, "a", a, "b", b);
  check(a.rank() == 2 && b.rank() == 2, OverlapOp<kOfA>::name, ": needs [N,4] and [M,4], got ", a.shape(), " and ",
        b.shape());
  return apply(OverlapOp<kOfA>{}, a, b);
}

}  // namespace

Tensor box_iou(const Tensor& a, const Tensor& b) { return overlaps<false>(a, b); }
Tensor box_ioa(const Tensor& a, const Tensor& b) { return overlaps<true>(a, b); }

Tensor encode_boxes(const Tensor& boxes, const Tensor& anchors, BoxCoder coder) {
  check_pair("encode_boxes", "boxes", boxes, "anchors", anchors);
  check(boxes.rank() == 2 && boxes.shape() == anchors.shape(), "encode_boxes: needs boxes and anchors [R,4]\n  boxes ",
        boxes.shape(), "\n  anchors ", anchors.shape());
  return apply(Encode{coder}, boxes, anchors);
}

Tensor decode_boxes(const Tensor& deltas, const Tensor& anchors, BoxCoder coder) {
  check_pair("decode_boxes", "deltas", deltas, "anchors", anchors);
  bool fits = anchors.rank() <= deltas.rank();
  for (int i = 1; fits && i <= anchors.rank(); ++i) fits = anchors.dim(-i) == deltas.dim(-i);
  check(fits, "decode_boxes: anchors must have the trailing axes of deltas\n  deltas ", deltas.shape(), "\n  anchors ",
        anchors.shape());
  check(coder.wx != 0 && coder.wy != 0 && coder.ww != 0 && coder.wh != 0, "decode_boxes: a weight is 0");
  return apply(Decode(coder), deltas, anchors.detach());
}

Tensor clip_boxes(const Tensor& boxes, double h, double w) {
  check_boxes("clip_boxes", "boxes", boxes);
  return apply(Clip{h, w}, boxes);
}

}  // namespace fovea
