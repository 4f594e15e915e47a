// The table of leaf kernels: compiled once per instruction set from the same source (kernel_*.cpp), chosen at start.
// Plain structs and pointers only: nothing here may pull library code into a file that is compiled for AVX-512.
#pragma once
#include <cstdint>

#include "core/isa.h"

namespace fovea::cpu {

// What becomes of a sum before it is stored: y = scale sum + bias + residual, then relu. Null: left out.
struct Epilogue {
  const float *scale, *bias;  // by column
  const float *residual, *y;  // the residual of y[i] is residual[i]; y is where the whole result begins
  bool relu;
  Epilogue from(int64_t column) const {
    return {scale ? scale + column : nullptr, bias ? bias + column : nullptr, residual, y, relu};
  }
};

// C [m,n] = A B (+ C), then the epilogue; A is [m,k], or [k,m] where `transposed`. B is packed: panels of `panel`
// columns, each [depth, its columns rounded up to the vector]; the product takes the depths [first, first + k) of it.
struct Product {
  int64_t m, n, k;
  const float* a;
  int64_t lda;
  bool transposed;
  const float* b;
  int64_t depth, first;
  float* c;
  int64_t ldc;
  float* const* rows;  // where each row of C begins; null: c + i * ldc
  bool add;
  Epilogue end;
};

// What row `pixel` of an implicit im2col matrix holds: the pixels i = (n,i,j) of a grid [n, rows, cols] read kh*kw
// places of an image [n,h,w,ldx], `c` channels each; place (u,v) is row i*step_h + base_h + u*delta_h (columns alike),
// zero outside.
struct Patches {
  const float* x;
  int64_t h, w, ldx, c;
  int64_t kh, kw, base_h, base_w, delta_h, delta_w, step_h, step_w;
  int64_t rows, cols;
};

// One 4x4 tile of a Winograd convolution: `x` is its first pixel (maybe outside the image), of which rows [r0,r1) x
// [c0,c1) exist.
struct Tile {
  const float* x;
  int64_t row, pixel;  // strides
  int r0, r1, c0, c1;
};

struct Kernels {
  Isa isa;
  int vector, panel;  // floats of a vector; columns of a packed panel
  void (*product)(const Product& p);
  // a[r, 0..k) = columns [first, first + k) of the patches of pixels begin + r, for r < count
  void (*gather)(const Patches& p, int64_t begin, int64_t count, int64_t first, int64_t k, float* a, int64_t lda);
  // Packs rows [0,k) of src as depths [first, first + k): B[r, j] = src[r * ld + j], or src[j * ld + r] where
  // `transposed`
  void (*pack)(const float* src, int64_t ld, bool transposed, int64_t k, int64_t n, float* b, int64_t depth,
               int64_t first);
  void (*transpose)(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y, int64_t ldy);  // y[c,r] = x[r,c]
  void (*add)(const float* x, int64_t n, float* sum);                                                 // sum[i] += x[i]

  // Winograd F(4x4,3x3); planes p = 0..35 lie `plane` floats apart. See kernel_winograd.cpp for the matrices.
  void (*tile_input)(const Tile& t, int64_t channels, float* v, int64_t plane);  // v[p, c] = (B' x B)
  // y = A' m A, then the epilogue; only the rows and columns that exist
  void (*tile_output)(const float* m, int64_t plane, int64_t channels, float* y, int64_t row, int64_t pixel, int rows,
                      int cols, const Epilogue& end);
  // d[p] = A dy A', packed as row `index` of a matrix of `depth` rows, ready to be the B of a product
  void (*tile_gradient)(const Tile& t, int64_t channels, float* d, int64_t plane, int64_t depth, int64_t index);
  // u[p] = G w G', packed as depth `index` of `depth`; w: nine rows `tap` floats apart, in order or flipped
  void (*filter)(const float* w, int64_t tap, bool flipped, int64_t n, float* u, int64_t plane, int64_t depth,
                 int64_t index);
  // dw = G' du G for one row of n channels
  void (*filter_gradient)(const float* du, int64_t plane, int64_t n, float* dw, int64_t tap);
};

// The kernels of a level; of isa() by default. Throws Code::impossible where this build or processor has none.
const Kernels& kernels(Isa level);
const Kernels& kernels();

}  // namespace fovea::cpu
