// Matrix products over leading axes, and their gradients, which are matrix products too.
#include "ops/matmul.h"

#include "core/gemm.h"
#include "ops/broadcast.h"

namespace fovea {

namespace {

Shape leading(const Shape& s) { return s.without(-1).without(-1); }
Shape with_leading(const Shape& lead, int64_t m, int64_t n) { return lead.plus(m).plus(n); }

// C [.., m, n] = op(A) op(B) + bias [n], one gemm per leading index; a and b have the full leading shape, or rank 2.
Tensor multiply(const Tensor& a, bool ta, const Tensor& b, bool tb, const Tensor& bias = {}) {
  const Shape &sa = a.shape(), &sb = b.shape();
  const int64_t m = ta ? sa[-1] : sa[-2], k = ta ? sa[-2] : sa[-1], n = tb ? sb[-2] : sb[-1];
  const Shape lead = leading(sa.rank() >= sb.rank() ? sa : sb);
  Tensor c(with_leading(lead, m, n), a.dtype(), a.device());
  const bool fold = sb.rank() == 2 && !ta;  // the leading axes of a are more rows
  const int64_t batch = fold ? 1 : lead.numel(), rows = fold ? lead.numel() * m : m;
  const int64_t step_a = sa.rank() == 2 ? 0 : m * k, step_b = sb.rank() == 2 ? 0 : k * n;
  dispatch_float(a.dtype(), [&]<class T>() {
    const GemmEnd<T> end{.bias = bias ? bias.data<T>() : nullptr};
    auto one = [&](int64_t i) {
      const GemmFactor<T> x{a.data<T>() + i * step_a, sa[-1], Trans{ta}};
      const GemmFactor<T> y{b.data<T>() + i * step_b, sb[-1], Trans{tb}};
      T* z = c.data<T>() + i * m * n;
      gemm(a.device(), Gemm<T>{.m = rows, .n = n, .k = k, .a = x, .b = y, .c = z, .ldc = n, .end = end});
    };
    if (a.device() != Device::cpu || m * n * k > kGrain * 64) {  // big: threads inside one product
      for (int64_t i = 0; i < batch; ++i) one(i);
    } else {
      parallel_for(batch, 1 + kGrain / (1 + m * n * k), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) one(i);
      });
    }
  });
  return c;
}

struct Matmul {  // C = A B: dA = dC B^T, dB = A^T dC; a transposed operand gets the transposed product
  static constexpr auto name = "matmul";
  bool ta = false, tb = false;
  Saved a, b;

  Tensor forward(const Tensor& a_, const Tensor& b_) {
    a = a_, b = b_;
    const Shape lead = common();
    const bool fold = b_.rank() == 2 && !ta;
    return multiply(fold ? a_ : full(a_, lead), ta, b_.rank() == 2 ? b_ : full(b_, lead), tb);
  }
  void backward(const Tensor& dc, Grads& g) const {
    const Shape lead = common();
    if (g.wants(0)) {
      const Tensor v = b->rank() == 2 ? *b : full(*b, lead);
      g[0] = sum_to(ta ? multiply(full(v, lead), tb, dc, true) : multiply(dc, false, v, !tb), a->shape());
    }
    if (g.wants(1)) {
      const bool fold = b->rank() == 2 && !ta;  // one product over all rows
      const Tensor u = fold ? rows(*a) : full(*a, lead), d = fold ? rows(dc) : dc;
      g[1] = sum_to(tb ? multiply(d, true, u, ta) : multiply(u, !ta, d, false), b->shape());
    }
  }

 private:
  Shape common() const { return broadcast(name, leading(a->shape()), leading(b->shape())); }
  static Tensor full(const Tensor& x, const Shape& lead) {
    return expand_to(x, with_leading(lead, x.shape()[-2], x.shape()[-1]));
  }
  static Tensor rows(const Tensor& x) { return x.view({x.shape().rows(), x.shape()[-1]}); }
};

struct Linear {  // y = x w + b: dx = dy w^T, dw = x^T dy, db = the column sums of dy
  static constexpr auto name = "linear";
  Saved x, w;

  Tensor forward(const Tensor& x_, const Tensor& w_, const Tensor& b) {
    x = x_, w = w_;
    const int64_t out = w_.dim(1), rows = x_.shape().rows();
    return multiply(x_.view({rows, x_.dim(-1)}), false, w_, false, b).view(x_.shape().with(-1, out));
  }
  void backward(const Tensor& dy, Grads& g) const {
    const int64_t rows = dy.shape().rows();
    const Tensor d = dy.view({rows, dy.dim(-1)});
    if (g.wants(0)) g[0] = multiply(d, false, *w, true).view(x->shape());
    if (g.wants(1)) g[1] = multiply(x->view({rows, x->dim(-1)}), true, d, false);
    if (g.wants(2)) g[2] = sum_to(d, {dy.dim(-1)});
  }
};

void check_pair(const char* op, const Tensor& a, const Tensor& b) {
  check(a && b && a.dtype() == b.dtype() && (a.dtype() == DType::f32 || a.dtype() == DType::f64), op,
        ": expected two tensors of f32 or of f64, got ", a ? name_of(a.dtype()) : "none", " and ",
        b ? name_of(b.dtype()) : "none", type_hint(a, b));
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, MatmulOptions o) {
  check_pair("matmul", a, b);
  check(a.rank() >= 2 && b.rank() >= 2, "matmul: both operands need at least 2 axes\n  a ", a.shape(), "\n  b ",
        b.shape(), "\n  hint: reshape a vector to [1, n] or [n, 1]");
  const int64_t ka = a.dim(o.transpose_a ? -2 : -1), kb = b.dim(o.transpose_b ? -1 : -2);
  check(ka == kb, "matmul: a has ", ka, " columns, b has ", kb, " rows\n  a ", a.shape(),
        o.transpose_a ? " transposed" : "", "\n  b ", b.shape(), o.transpose_b ? " transposed" : "");
  return apply(Matmul{o.transpose_a, o.transpose_b, {}, {}}, a, b);
}

Tensor linear(const Tensor& x, const Tensor& w, const Tensor& b) {
  check_pair("linear", x, w);
  check(x.rank() >= 1 && w.rank() == 2 && x.dim(-1) == w.dim(0), "linear: the input has ", x.rank() ? x.dim(-1) : 0,
        " features, the weight expects ", w.rank() == 2 ? w.dim(0) : 0, "\n  input  ", x.shape(),
        "   (..,in)\n  weight ", w.shape(), "   (in,out)");
  check(!b || (b.shape() == Shape{w.dim(1)} && b.dtype() == w.dtype()), "linear: the bias has shape ", b.shape(),
        ", expected ", Shape{w.dim(1)}, " of the weight's type");
  return apply(Linear{}, x, w, b);
}

}  // namespace fovea
