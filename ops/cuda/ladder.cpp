// The rungs of a GPU: each has one idea more than the one before.
#include "ops/cuda/ladder.h"

#include "core/gemm.h"
#include "ops/conv.h"
#include "ops/cuda/conv_products.h"

namespace fovea::cuda {
namespace {

// y[pixel, out]: the definition, one lane a result.
template <class T> struct Naive {
  const T *x, *w;
  T* y;
  View view;
  int64_t o;
  HD void operator()(int64_t i) const {
    T sum = 0;
    for (int q = 0; q < view.places(); ++q) {
      const int64_t at = view.source(int(i / o), q);
      if (at >= 0) sum += x[at] * w[q * o + i % o];
    }
    y[i] = sum;
  }
};

// run(shape, x, w, y) for the element type of x
template <class Run> Tensor filled(const Tensor& x, const Tensor& w, Run run) {
  const ConvShape s{x.dim(0), x.dim(1), x.dim(2), x.dim(3), x.dim(1), x.dim(2), w.dim(3), 3, 1, 1};
  Tensor y({s.n, s.oh, s.ow, s.o}, x.dtype(), x.device());
  dispatch_float(x.dtype(), [&]<class T>() { run(s, x.data<T>(), w.data<T>(), y.data<T>()); });
  return y;
}
Tensor naive(const Tensor& x, const Tensor& w) {
  return filled(x, w, [&]<class T>(const ConvShape& s, const T* from, const T* weights, T* y) {
    for_each(x.device(), s.n * s.oh * s.ow * s.o, Naive<T>{from, weights, y, view_of_input(s), s.o});
  });
}
Tensor gathered(const Tensor& x, const Tensor& w) {
  return filled(x, w, [&]<class T>(const ConvShape& s, const T* from, const T* weights, T* y) {
    reference::conv_value(x.device(), s, from, weights, y);
  });
}
Tensor library(const Tensor& x, const Tensor& w) { return conv2d(x, w, {}, {.pad = 1}); }
Tensor in_tf32(const Tensor& x, const Tensor& w) {
  const WithFactors now(Factors::tf32);
  return library(x, w);
}

}  // namespace

std::vector<cpu::Rung> ladder() {
  return {
      {"naive", "the definition: one lane a result, two loads a multiply-add", DType::f32, 1e-4, naive},
      {"gathered", "the implicit matrix written out (im2col), then cuBLAS' product", DType::f32, 1e-4, gathered},
      {"tiled", "nothing is written out; a number in shared memory serves 128 results", DType::f32, 1e-4, library},
      {"tf32", "tensor cores: 32 lanes multiply 16x8 by 8x8 at once; slices are copied beside the products (cp.async)",
       DType::f32, 1e-4, in_tf32},
      {"bf16", "twice the depth an instruction, half the bytes; fragments turned by ldmatrix", DType::bf16, 2e-2,
       library}};
}

}  // namespace fovea::cuda
