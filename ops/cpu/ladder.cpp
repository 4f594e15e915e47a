// The rungs below the library's own kernels are as short as they can be: each has one idea more than the one before.
#include "ops/cpu/ladder.h"

#include <algorithm>

#include "core/isa.h"
#include "core/loops.h"
#include "ops/conv.h"

namespace fovea::cpu {
namespace {

// x with a border of zeros, so that no loop asks where the image ends.
struct Problem {
  int64_t h, width, c, o;
  const float *x, *w;  // x [N,h+2,width+2,c]
  float* y;
  HD const float* patch(int64_t image, int64_t row, int64_t col) const {  // its upper left corner
    return x + ((image * (h + 2) + row) * (width + 2) + col) * c;
  }
};

// y[i] for one i of [N,h,width,o]: the definition. Each sum waits for its last addition, and w is read across its rows.
struct Naive {
  Problem p;
  HD void operator()(int64_t i) const {
    const int64_t out = i % p.o, col = i / p.o % p.width, row = i / p.o / p.width % p.h;
    const float* patch = p.patch(i / p.o / p.width / p.h, row, col);
    float sum = 0;
    for (int64_t u = 0; u < 3; ++u)
      for (int64_t k = 0; k < 3 * p.c; ++k)
        sum += patch[u * (p.width + 2) * p.c + k] * p.w[(u * 3 * p.c + k) * p.o + out];
    p.y[i] = sum;
  }
};

// kPixels neighbours of a row by kLadderWidth channels: the sums stay in registers, and each weight that is read serves
// kPixels of them.
struct Blocked {
  static constexpr int64_t kPixels = 4;
  Problem p;
  HD void operator()(int64_t i) const {
    const int64_t wide = p.o / kLadderWidth, blocks = (p.width + kPixels - 1) / kPixels;
    const int64_t out = i % wide * kLadderWidth, first = i / wide % blocks * kPixels, row = i / wide / blocks % p.h;
    const int64_t image = i / wide / blocks / p.h;
    const float* pixel[kPixels];  // past the end of a row: its last pixel once more
    for (int64_t j = 0; j < kPixels; ++j) pixel[j] = p.patch(image, row, first + j < p.width ? first + j : p.width - 1);
    float sum[kPixels][kLadderWidth] = {};
    for (int64_t u = 0; u < 3; ++u)
      for (int64_t k = 0; k < 3 * p.c; ++k) {
        const float* w = p.w + (u * 3 * p.c + k) * p.o + out;
        for (int64_t j = 0; j < kPixels; ++j)
          for (int64_t l = 0; l < kLadderWidth; ++l) sum[j][l] += pixel[j][u * (p.width + 2) * p.c + k] * w[l];
      }
    for (int64_t j = 0; j < kPixels && first + j < p.width; ++j)
      std::copy_n(sum[j], kLadderWidth, p.y + ((image * p.h + row) * p.width + first + j) * p.o + out);
  }
};

template <class Run> Tensor padded(const Tensor& x, const Tensor& w, Run run) {
  const int64_t n = x.dim(0), h = x.dim(1), width = x.dim(2), c = x.dim(3), o = w.dim(3);
  check(o % kLadderWidth == 0, "ladder: ", o, " output channels are no multiple of ", kLadderWidth);
  const Tensor border = Tensor::zeros({n, h + 2, width + 2, c});
  Tensor y({n, h, width, o});
  for (int64_t i = 0; i < n * h; ++i)
    std::copy_n(x.data<float>() + i * width * c, width * c,
                border.data<float>() + ((i / h * (h + 2) + i % h + 1) * (width + 2) + 1) * c);
  run(Problem{h, width, c, o, border.data<float>(), w.data<float>(), y.data<float>()}, n);
  return y;
}
Tensor naive(const Tensor& x, const Tensor& w) {
  return padded(x, w, [](const Problem& p, int64_t n) {
    const Naive body{p};
    for (int64_t i = 0; i < n * p.h * p.width * p.o; ++i) body(i);
  });
}
int64_t blocks(const Problem& p, int64_t n) {
  return n * p.h * ((p.width + Blocked::kPixels - 1) / Blocked::kPixels) * (p.o / kLadderWidth);
}
Tensor blocked(const Tensor& x, const Tensor& w) {
  return padded(x, w, [](const Problem& p, int64_t n) {
    const Blocked body{p};
    for (int64_t i = 0; i < blocks(p, n); ++i) body(i);
  });
}
Tensor vectorised(const Tensor& x, const Tensor& w) {
  return padded(x, w, [](const Problem& p, int64_t n) { for_each(Device::cpu, blocks(p, n), Blocked{p}); });
}

Tensor library(const Tensor& x, const Tensor& w, ConvAlgo algo) {
  struct Restore {
    ConvAlgo before = conv_algo();
    ~Restore() { set_conv_algo(before); }
  } restore;
  set_conv_algo(algo);
  return conv2d(x, w, {}, {.pad = 1});
}
Tensor packed(const Tensor& x, const Tensor& w) { return library(x, w, ConvAlgo::direct); }
Tensor winograd(const Tensor& x, const Tensor& w) { return library(x, w, ConvAlgo::winograd); }

}  // namespace

std::vector<Rung> ladder() {
  std::vector<Rung> rungs = {
      {"naive", "the definition: one sum at a time", DType::f32, 1e-4, naive},
      {"blocked", "4 x 32 sums at a time: what is read serves several of them", DType::f32, 1e-4, blocked},
      {"vectorised", "the same source for this processor's vectors", DType::f32, 1e-4, vectorised},
      {"packed", "register tiles by hand, what they read lies in their order", DType::f32, 1e-4, packed},
      {"winograd", "36 products instead of 144 for a tile of 4x4", DType::f32, 1e-4, winograd}};
  if (isa() == Isa::v4_bf16)
    rungs.push_back({"bf16", "packed again: two products an instruction and lane", DType::bf16, 2e-2, packed});
  if (isa() == Isa::amx)
    rungs.push_back({"tiles", "8,192 products of bf16 an instruction; pixels as they lie", DType::bf16, 2e-2, packed});
  return rungs;
}

}  // namespace fovea::cpu
