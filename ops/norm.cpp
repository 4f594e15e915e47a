// Batch, frozen and group norm: statistics of columns, then y = (x - mean) scale + beta. A batch norm is a group norm
// with one segment (the whole batch) and one channel a group. Forward reads x twice, backward reads x and dy twice.
#include "ops/norm.h"

#include <cmath>
#include <limits>

#include "core/autograd.h"
#include "ops/columns.h"

namespace fovea {
namespace {

// Mean and sum of squared deviations of the columns of a chunk.
template <class T> struct Moments {
  using C = compute_t<T>;
  static constexpr int kWidth = kLaneWidth<T>;
  const T* x;
  C *mean, *m2;  // [chunks, cols]
  int64_t cols;
  bool aligned() const { return all_aligned(x, mean, m2); }
  template <class Columns> HD void operator()(const Columns& at, int64_t k, int64_t row, int64_t n) const {
    auto m = at.fresh(mean + k * cols), s = at.fresh(m2 + k * cols);
    at.each([&](int64_t c) { m[c] = s[c] = 0; });
    if constexpr (Columns::all) two_passes(at, x + row * cols, n, m, s);
    else one_pass(at, x + row * cols, n, m, s);
    at.store(mean + k * cols, m), at.store(m2 + k * cols, s);
  }
  // The second one in cache, both four rows at a time.
  HD void two_passes(const Many& at, const T* p, int64_t n, C* m, C* s) const {
    const int64_t w = cols;
    const T *end = p + n * w, *rest = p + n / 4 * 4 * w;
    const C part = C(1) / C(n);
    for (const T* q = p; q < rest; q += 4 * w)
      at.each([=](int64_t c) { m[c] += (q[c] + q[w + c]) + (q[2 * w + c] + q[3 * w + c]); });
    for (const T* q = rest; q < end; q += w) at.each([=](int64_t c) { m[c] += q[c]; });
    at.each([=](int64_t c) { m[c] *= part; });
    for (const T* q = p; q < rest; q += 4 * w)
      at.each([=](int64_t c) {
        const C a = q[c] - m[c], b = q[w + c] - m[c], d = q[2 * w + c] - m[c], e = q[3 * w + c] - m[c];
        s[c] += (a * a + b * b) + (d * d + e * e);
      });
    for (const T* q = rest; q < end; q += w) at.each([=](int64_t c) { s[c] += (q[c] - m[c]) * (q[c] - m[c]); });
  }
  // The chunks of all lanes exceed a device's cache. With the first row as origin, sum (x - mean)^2 = sum d^2 - (sum
  // d)^2 / n loses no more than n roundings.
  template <class Columns, class Sum> HD void one_pass(const Columns& at, const T* p, int64_t n, Sum& m, Sum& s) const {
    const auto origin = at.load(p);
    FOVEA_UNROLL_BY(4) for (int64_t r = 0; r < n; ++r) {
      const auto v = at.load(p + r * cols);
      at.each([&](int64_t c) {
        const C d = C(v[c]) - C(origin[c]);
        m[c] += d, s[c] += d * d;
      });
    }
    at.each([&](int64_t c) {
      const C shift = m[c] / C(n), rest = s[c] - m[c] * shift;
      m[c] = C(origin[c]) + shift, s[c] = rest < 0 ? 0 : rest;
    });
  }
};

// Merges the chunks of a segment: mean = sum n_k mean_k / n, m2 = sum (m2_k + n_k (mean_k - mean)^2).
template <class T> struct MergeChunks {
  const T *chunk_mean, *chunk_m2;
  double *mean, *m2;  // [segments, cols]
  Strips strips;
  template <class Columns> HD void operator()(const Columns& at, int64_t segment, int64_t first, int64_t n) const {
    const int64_t w = strips.cols, begin = first * w + at.first, end = n - 1;
    auto m = at.fresh(mean + segment * w), s = at.fresh(m2 + segment * w);
    const double part = 1 / double(strips.rows), whole = double(strips.chunk), last = double(strips.length(end));
    const T *p = chunk_mean + begin, *q = chunk_m2 + begin;
    at.each([&](int64_t c) { m[c] = s[c] = 0; });
    at.add(m, n, [=](int64_t k, int64_t c) { return (k < end ? whole : last) * p[k * w + c]; });
    at.each([&](int64_t c) { m[c] *= part; });
    at.add(s, n, [=](int64_t k, int64_t c) {
      return q[k * w + c] + (k < end ? whole : last) * (p[k * w + c] - m[c]) * (p[k * w + c] - m[c]);
    });
    at.store(mean + segment * w, m), at.store(m2 + segment * w, s);
  }
};

// Group i of [segments, groups]: merges its channels by the same formula; updates the running ones of a batch norm.
template <class T> struct GroupStats {
  const double *column_mean, *column_m2;
  const T* gamma;
  T *mean, *inv, *scale, *running_mean, *running_var;  // [segments, cols], the running ones [cols] or null
  int64_t rows, cols, groups;
  double eps, momentum;
  HD void operator()(int64_t i) const {
    const int64_t width = cols / groups, at = i / groups * cols + i % groups * width, c0 = i % groups * width;
    const double count = double(rows) * double(width);
    double sum = 0, m2 = 0;
    for (int64_t c = 0; c < width; ++c) sum += column_mean[at + c];
    const double middle = sum / double(width);
    for (int64_t c = 0; c < width; ++c) {
      const double d = column_mean[at + c] - middle;
      m2 += column_m2[at + c] + double(rows) * d * d;
    }
    const double rate = 1 / sqrt(m2 / count + eps);
    for (int64_t c = 0; c < width; ++c)
      mean[at + c] = T(middle), inv[at + c] = T(rate), scale[at + c] = T(rate * gamma[c0 + c]);
    if (running_mean == nullptr) return;
    running_mean[c0] = T((1 - momentum) * running_mean[c0] + momentum * middle);
    if (count > 1) running_var[c0] = T((1 - momentum) * running_var[c0] + momentum * m2 / (count - 1));
  }
};

template <class T> struct FrozenStats {
  const T *var, *gamma;
  T *inv, *scale;
  double eps;
  HD void operator()(int64_t c) const {
    const double rate = 1 / sqrt(double(var[c]) + eps);
    inv[c] = T(rate), scale[c] = T(rate * gamma[c]);
  }
};

template <class T> struct FrozenAffine {
  const T *gamma, *beta, *mean, *var;
  T *scale, *shift;
  T eps;
  HD void operator()(int64_t c) const {
    const T s = gamma[c] / std::sqrt(var[c] + eps);
    const volatile T product = mean[c] * s;  // rounded on its own
    scale[c] = s, shift[c] = beta[c] - product;
  }
};

// y = (x - mean) scale + beta, and no less than `floor` (0 for a relu, otherwise -infinity; NaN stays).
template <class T> struct Normalise {
  using C = compute_t<T>;
  static constexpr int kWidth = kLaneWidth<T>;
  const T* x;
  const C *mean, *scale, *beta;
  T* y;
  int64_t cols, rows;  // rows of a segment
  C floor;
  bool aligned() const { return all_aligned(x, mean, scale, beta, y); }
  const void* result() const { return y; }
  template <class Columns> HD void operator()(const Columns& at, int64_t, int64_t row, int64_t n) const {
    const int64_t s = row / rows * cols;
    const auto m = at.load(mean + s), a = at.load(scale + s), b = at.load(beta);
    const C low = floor;
    for (int64_t r = row * cols; r < (row + n) * cols; r += cols) {
      const auto v = at.load(x + r);
      auto out = at.fresh(y + r);
      at.each([&](int64_t c) {
        const C u = (v[c] - m[c]) * a[c] + b[c];
        out[c] = T(u < low ? low : u);
      });
      at.store(y + r, out);
    }
  }
};

// Where a relu let y through: dy, elsewhere 0. The value is made again, so that y need not be kept.
template <class C> HD C through(C x, C dy, C mean, C scale, C beta) {
  return (x - mean) * scale + beta <= 0 ? C(0) : dy;
}
template <class T> struct Norm {  // what the gradients read
  const T *x, *dy;
  const compute_t<T>*mean, *scale, *beta;
  bool relu;
  bool aligned() const { return all_aligned(x, dy, mean, scale, beta); }
};

// Sums of a chunk's columns: of dy, and of dy (x - mean).
template <class T> struct GradientSums {
  using C = compute_t<T>;
  static constexpr int kWidth = kLaneWidth<T>;
  Norm<T> norm;
  C *a, *b;  // [chunks, cols]
  int64_t cols, rows;
  bool aligned() const { return norm.aligned() && all_aligned(a, b); }
  template <class Columns> HD void operator()(const Columns& at, int64_t k, int64_t row, int64_t n) const {
    const int64_t s = row / rows * cols, w = cols;
    const T *x = norm.x + row * w, *dy = norm.dy + row * w;
    const auto m = at.load(norm.mean + s), g = at.load(norm.scale + s), beta = at.load(norm.beta);
    auto sa = at.fresh(a + k * w), sb = at.fresh(b + k * w);
    at.each([&](int64_t c) { sa[c] = sb[c] = 0; });
    int64_t r = 0;
    if (norm.relu) {
      FOVEA_UNROLL_BY(4) for (; r < n; ++r) {
        const auto u = at.load(x + r * w), v = at.load(dy + r * w);
        at.each([&](int64_t c) {
          const C d = through<C>(u[c], v[c], m[c], g[c], beta[c]);
          sa[c] += d, sb[c] += d * (u[c] - m[c]);
        });
      }
    }
    FOVEA_UNROLL_BY(2) for (; r + 2 <= n; r += 2) {
      const auto u = at.load(x + r * w), v = at.load(dy + r * w);
      const auto u2 = at.load(x + (r + 1) * w), v2 = at.load(dy + (r + 1) * w);
      at.each([&](int64_t c) { sa[c] += v[c] + v2[c], sb[c] += v[c] * (u[c] - m[c]) + v2[c] * (u2[c] - m[c]); });
    }
    if (r < n) {
      const auto u = at.load(x + r * w), v = at.load(dy + r * w);
      at.each([&](int64_t c) { sa[c] += v[c], sb[c] += v[c] * (u[c] - m[c]); });
    }
    at.store(a + k * w, sa), at.store(b + k * w, sb);
  }
};

// dx = scale dy + q (x - mean) + t. With g = gamma dy, n elements a group: q = -inv^3 sum g (x - mean) / n, t = -inv
// sum g / n.
template <class T> struct GroupSlopes {
  const double *a, *b;  // sums of dy and dy (x - mean) [segments, cols]
  const T *gamma, *inv;
  T *q, *t;
  int64_t cols, groups, rows;
  HD void operator()(int64_t i) const {
    const int64_t width = cols / groups, c0 = i % groups * width, at = i / groups * cols + c0;
    double sa = 0, sb = 0;
    for (int64_t c = 0; c < width; ++c) sa += gamma[c0 + c] * a[at + c], sb += gamma[c0 + c] * b[at + c];
    const double n = double(rows) * double(width), rate = inv[at];
    for (int64_t c = 0; c < width; ++c) {
      q[at + c] = T(-rate * rate * rate * sb / n);
      t[at + c] = T(-rate * sa / n);
    }
  }
};
template <class T> struct InputGradient {
  using C = compute_t<T>;
  static constexpr int kWidth = kLaneWidth<T>;
  Norm<T> norm;
  const C *q, *t;  // null where statistics are constants: dx = scale dy
  T* dx;
  int64_t cols, rows;
  bool aligned() const { return norm.aligned() && all_aligned(q, t, dx); }
  const void* result() const { return dx; }
  template <class Columns> HD void operator()(const Columns& at, int64_t, int64_t row, int64_t n) const {
    if (q == nullptr) frozen(at, row, n);
    else learnt(at, row, n);
  }
  template <class Columns> HD void learnt(const Columns& at, int64_t row, int64_t n) const {
    const int64_t s = row / rows * cols;
    const auto m = at.load(norm.mean + s), g = at.load(norm.scale + s), beta = at.load(norm.beta);
    const auto u = at.load(q + s), v = at.load(t + s);
    for (int64_t r = row * cols; r < (row + n) * cols; r += cols) {
      const auto x = at.load(norm.x + r), dy = at.load(norm.dy + r);
      auto out = at.fresh(dx + r);
      if (norm.relu)
        at.each([&](int64_t c) {
          out[c] = T(g[c] * through<C>(x[c], dy[c], m[c], g[c], beta[c]) + u[c] * (x[c] - m[c]) + v[c]);
        });
      else at.each([&](int64_t c) { out[c] = T(g[c] * dy[c] + u[c] * (x[c] - m[c]) + v[c]); });
      at.store(dx + r, out);
    }
  }
  template <class Columns> HD void frozen(const Columns& at, int64_t row, int64_t n) const {
    const auto m = at.load(norm.mean), g = at.load(norm.scale), beta = at.load(norm.beta);
    for (int64_t r = row * cols; r < (row + n) * cols; r += cols) {
      const auto dy = at.load(norm.dy + r);
      auto out = at.fresh(dx + r);
      if (norm.relu) {
        const auto x = at.load(norm.x + r);
        at.each([&](int64_t c) { out[c] = T(g[c] * through<C>(x[c], dy[c], m[c], g[c], beta[c])); });
      } else {
        at.each([&](int64_t c) { out[c] = T(g[c] * dy[c]); });
      }
      at.store(dx + r, out);
    }
  }
};

// dbeta = sum dy, dgamma = sum dy (x - mean) inv, over the segments.
template <class T> struct ParameterGradient {
  const double *a, *b;
  const T* inv;
  T *dgamma, *dbeta;
  int64_t segments, cols;
  HD void operator()(int64_t c) const {
    double sa = 0, sb = 0;
    for (int64_t s = 0; s < segments; ++s) sa += a[s * cols + c], sb += b[s * cols + c] * inv[s * cols + c];
    dgamma[c] = T(sb), dbeta[c] = T(sa);
  }
};

// What the three norms share. Statistics are [segments, C]; `groups` is 0 where they are constants.
struct NormState {
  int64_t segments = 1, groups = 0;
  double eps, momentum = 0;
  bool relu = false;
  Tensor running_mean, running_var;
  Saved x, gamma, beta, mean, inv, scale;

  void backward(const Tensor& dy, Grads& g) const {
    dispatch_storage(x->dtype(), [&]<class T>() { gradients<T>(dy, g); });
  }

  int64_t rows() const { return x->shape().rows() / (segments > 0 ? segments : 1); }  // of a segment
  Strips sums() const { return {x->device(), segments, rows(), x->dim(-1)}; }
  Strips maps() const { return Strips::of_map(x->device(), segments, rows(), x->dim(-1)); }

  template <class T> void statistics() {
    using C = compute_t<T>;
    const Strips s = sums();
    const Device device = x->device();
    const int64_t part = s.chunks() * s.cols, stats = segments * s.cols;
    if (part > 0) {  // otherwise nothing reads the statistics
      Workspace partial(static_cast<size_t>(2 * part) * sizeof(C), device);
      Workspace columns(static_cast<size_t>(2 * stats) * sizeof(double), device);
      C* p = partial.as<C>();
      double* q = columns.as<double>();
      for_strips(device, s, Moments<T>{x->data<T>(), p, p + part, s.cols});
      for_partials(device, s, MergeChunks<C>{p, p + part, q, q + stats, s});
      for_each(device, segments * groups,
               GroupStats<C>{q, q + stats, gamma->data<C>(), mean->data<C>(), inv->data<C>(), scale->data<C>(),
                             running_mean ? running_mean.data<C>() : nullptr,
                             running_var ? running_var.data<C>() : nullptr, s.rows, s.cols, groups, eps, momentum});
      if (running_mean) running_mean.touch(), running_var.touch();
    }
    running_mean = running_var = Tensor();
  }
  template <class T> Tensor normalise() const {
    using C = compute_t<T>;
    Tensor y = empty_like(x);
    const C floor = relu ? C(0) : -std::numeric_limits<C>::infinity();
    for_strips(y.device(), maps(),
               Normalise<T>{x->data<T>(), mean->data<C>(), scale->data<C>(), beta->data<C>(), y.data<T>(), x->dim(-1),
                            rows(), floor});
    return y;
  }
  template <class T> void gradients(const Tensor& dy, Grads& g) const {
    using C = compute_t<T>;
    Strips s = sums();
    const Device device = x->device();
    const Norm<T> norm{x->data<T>(), dy.data<T>(), mean->data<C>(), scale->data<C>(), beta->data<C>(), relu};
    const int64_t stats = segments * s.cols;
    Workspace sums(static_cast<size_t>(2 * stats) * sizeof(double), device),
        slopes(static_cast<size_t>(2 * stats) * sizeof(C), device);
    double *a = sums.as<double>(), *b = a + stats;
    if (groups > 0 || g.wants(1) || g.wants(2)) {
      const size_t part = static_cast<size_t>(s.chunks() * s.cols);
      Workspace partial(2 * part * sizeof(C), device);
      C* p = partial.as<C>();
      for_strips(device, s, GradientSums<T>{norm, p, p + part, s.cols, s.rows});
      s.segments *= 2;  // both sums at once
      strip_total(device, s, p, a);
      g[1] = empty_like(gamma), g[2] = empty_like(beta);
      for_each(device, s.cols,
               ParameterGradient<C>{a, b, inv->data<C>(), g[1].data<C>(), g[2].data<C>(), segments, s.cols});
    }
    if (!g.wants(0)) return;
    g[0] = empty_like(x);
    C *q = groups > 0 ? slopes.as<C>() : nullptr, *t = groups > 0 ? q + stats : nullptr;
    if (groups > 0)
      for_each(device, segments * groups,
               GroupSlopes<C>{a, b, gamma->data<C>(), inv->data<C>(), q, t, s.cols, groups, s.rows});
    for_strips(device, maps(), InputGradient<T>{norm, q, t, g[0].data<T>(), s.cols, s.rows});
  }
};

struct BatchNorm : NormState {
  static constexpr auto name = "batch_norm";
  Tensor forward(const Tensor& x_, const Tensor& gamma_, const Tensor& beta_) {
    x = x_, gamma = gamma_, beta = beta_;
    const Shape shape{segments, x->dim(-1)};
    const auto fresh = [&] {
      const DType type = gamma->dtype();
      return x->size() > 0 ? Tensor(shape, type, x->device()) : Tensor::zeros(shape, type, x->device());
    };
    mean = fresh(), inv = fresh(), scale = fresh();
    return dispatch_storage(x->dtype(), [&]<class T>() { return statistics<T>(), normalise<T>(); });
  }
};
struct GroupNorm : BatchNorm {
  static constexpr auto name = "group_norm";
};
struct FrozenBatchNorm : NormState {
  static constexpr auto name = "frozen_batch_norm";
  Tensor forward(const Tensor& x_, const Tensor& gamma_, const Tensor& beta_, const Tensor& mean_, const Tensor& var) {
    x = x_, gamma = gamma_, beta = beta_, mean = mean_;
    inv = empty_like(mean_), scale = empty_like(mean_);
    return dispatch_storage(x->dtype(), [&]<class T>() {
      using C = compute_t<T>;
      for_each(x->device(), var.size(),
               FrozenStats<C>{var.data<C>(), gamma->data<C>(), inv->data<C>(), scale->data<C>(), eps});
      return normalise<T>();
    });
  }
};

void check_channels(const char* op, const Tensor& x, std::initializer_list<std::pair<const char*, Tensor>> parameters) {
  check(x.rank() >= 1, op, ": x needs at least one axis");
  for (auto& [what, p] : parameters) {
    check(p && p.rank() == 1 && p.dim(0) == x.dim(-1), op, ": ", what, " must have one element a channel\n  x ",
          x.shape(), "\n  ", what, " ", p.shape());
    check(p.dtype() == compute_type(x.dtype()), op, ": x is ", name_of(x.dtype()), ", ", what, " is ",
          name_of(p.dtype()));
    check(p.device() == x.device(), op, ": x is on ", name_of(x.device()), ", ", what, " on ", name_of(p.device()),
          kMoveHint);
  }
}

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                  const Tensor& running_var, BatchNormOptions o) {
  check(bool(running_mean) == bool(running_var), "batch_norm: give both running_mean and running_var, or neither");
  check(o.training || running_mean, "batch_norm: where it is not training it needs running_mean and running_var");
  check_channels("batch_norm", x, {{"gamma", gamma}, {"beta", beta}});
  if (running_mean) check_channels("batch_norm", x, {{"running_mean", running_mean}, {"running_var", running_var}});
  if (!o.training) return frozen_batch_norm(x, gamma, beta, running_mean, running_var, o.eps, o.relu);
  BatchNorm op;
  op.groups = x.dim(-1), op.eps = o.eps, op.momentum = o.momentum, op.relu = o.relu;
  op.running_mean = running_mean.detach(), op.running_var = running_var.detach();
  return apply(std::move(op), x, gamma, beta);
}

Tensor frozen_batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                         const Tensor& var, double eps, bool relu) {
  check_channels("frozen_batch_norm", x, {{"gamma", gamma}, {"beta", beta}, {"mean", mean}, {"var", var}});
  FrozenBatchNorm op;
  op.eps = eps, op.relu = relu;
  return apply(std::move(op), x, gamma, beta, mean.detach(), var.detach());
}

std::pair<Tensor, Tensor> frozen_affine(const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& var,
                                        double eps) {
  const Tensor scale = empty_like(gamma), shift = empty_like(beta);
  dispatch_float(gamma.dtype(), [&]<class T>() {
    for_each(gamma.device(), gamma.size(),
             FrozenAffine<T>{gamma.data<T>(), beta.data<T>(), mean.data<T>(), var.data<T>(), scale.data<T>(),
                             shift.data<T>(), T(eps)});
  });
  return {scale, shift};
}

Tensor group_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, int groups, double eps, bool relu) {
  check(x.rank() >= 2, "group_norm: x needs [N,..,C], got ", x.shape());
  check_channels("group_norm", x, {{"gamma", gamma}, {"beta", beta}});
  check(groups >= 1 && x.dim(-1) % groups == 0, "group_norm: ", x.dim(-1), " channels do not divide into ", groups,
        " groups");
  GroupNorm op;
  op.segments = x.dim(0), op.groups = groups, op.eps = eps, op.relu = relu;
  return apply(std::move(op), x, gamma, beta);
}

}  // namespace fovea
