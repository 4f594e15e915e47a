// The table of leaf kernels: compiled once per instruction set from the same source (kernel_*.cpp), chosen at start.
// Plain structs and pointers only: nothing here may pull library code into a file that is compiled for AVX-512.
#pragma once
#include <cstdint>

#include "core/bf16.h"
#include "core/isa.h"

namespace fovea::cpu {

// T is what images are stored in: float or bf16. Sums are float always, and so are weights, but for those of inference.

// What becomes of a sum before it is stored: y = scale sum + bias + residual, then relu. Null: left out.
template <class T> struct Epilogue {
  const float *scale, *bias;  // by column
  const T *residual, *y;      // the residual of y[i] is residual[i]; y is where the whole result begins
  bool relu;
  Epilogue from(int64_t column) const {
    return {scale ? scale + column : nullptr, bias ? bias + column : nullptr, residual, y, relu};
  }
};

// A sum over the depth in parts: the `length` numbers of a row of A from `a` on meet the depths [b, b + length) of B.
struct Run {
  int64_t a, b, length;
};

// C [m,n] = A B (+ C); row i of A begins at a + i * lda. Where `transposed`, A is [depth,m] instead, and has one run. B
// is packed: panels of `panel` columns, each [depth, its columns rounded up to the vector]. Two depths of bf16 lie side
// by side and count as one number of 32 bits, in A too: `depth`, `lda` and where runs begin are even, what an odd
// length lacks is 0.
template <class T> struct Product {
  int64_t m, n;
  const Run* runs;
  int64_t count = 1;
  const T* a;
  int64_t lda;
  bool transposed = false;
  const T* b;
  int64_t depth;
  float* c = nullptr;
  int64_t ldc = 0;
  bool add = false;
  T* const* rows = nullptr;  // where the rows of the result go, by way of the epilogue; null: to C as they are
  Epilogue<T> end = {};
};

// C [m,n] = A B (+ C) by tiles of 16 rows of kTileDepth numbers; B is packed as for Product, lengths of runs are
// multiples of kTileDepth. Where `rows` is not null, row i does not go to C but, stored as R, to rows[i] by way of the
// epilogue, or nowhere if that is null.
constexpr int64_t kTileDepth = 32;
template <class R> struct TileProduct {
  int64_t m, n;
  const Run* runs;
  int64_t count;
  const bf16* a;
  int64_t lda;
  const bf16* b;
  int64_t depth;
  float* c;
  int64_t ldc;
  bool add;
  R* const* rows;
  Epilogue<R> end;
};
struct TileKernels {
  void (*to_bf16)(const TileProduct<bf16>& p);
  void (*to_f32)(const TileProduct<float>& p);
  void multiply(const TileProduct<bf16>& p) const { to_bf16(p); }
  void multiply(const TileProduct<float>& p) const { to_f32(p); }
};

// What row `pixel` of an implicit im2col matrix holds: the pixels i = (n,i,j) of a grid [n, rows, cols] read kh*kw
// places of an image [n,h,w,ldx], `c` channels each; place (u,v) is row i*step_h + base_h + u*delta_h (columns alike),
// zero outside.
template <class T> struct Patches {
  const T* x;
  int64_t h, w, ldx, c;
  int64_t kh, kw, base_h, base_w, delta_h, delta_w, step_h, step_w;
  int64_t rows, cols;
  // What lies together in the image: one place, or, where neighbouring places touch, a row of kw of them.
  bool touch() const { return ldx == c && delta_w == 1; }
  int64_t runs() const { return touch() ? kh : kh * kw; }
  int64_t run() const { return touch() ? kw * c : c; }
  int64_t row_of(int64_t run) const { return touch() ? run : run / kw; }  // u and v of a run's first place
  int64_t col_of(int64_t run) const { return touch() ? 0 : run % kw; }
};

// Which of the 36 planes of a Winograd transform are made, one after the other: all, 0..17 or 18..35. A half takes half
// of the arithmetic.
enum class Points { all, first, second };

// One 4x4 tile of a Winograd convolution: `x` is its first pixel (maybe outside the image), of which rows [r0,r1) x
// [c0,c1) exist.
template <class T> struct Tile {
  const T* x;
  int64_t row, pixel;  // strides
  int r0, r1, c0, c1;
};

// What a vector of output channels reads of groups side by side, for each input of a group:
//   number: one number, as it lies in the image; the vector is of one group
//   own:    every lane its own channel, as it lies; groups have as many inputs as outputs, and whole groups fill a
//           vector. The lane multiplies it for one output of its group after the other, and sums turn to theirs at last
//   spread: what was spread for it
enum class Below { number, own, spread };

// Pixels of groups side by side as f32, [count, pixel]: as they lie, or, for Below::spread, [count, c, ld], where lane
// l of number i is what output channel l reads as its input i, x[l / o * c + i].
template <class T> struct Spread {
  const T* x;  // of the first group, `ldx` numbers a pixel
  int64_t ldx, count;
  int64_t c, o, lanes, ld;  // inputs and outputs of a group; outputs of all, of which ld (whole vectors) are stored
  Below below;
  float* e;
  int64_t pixel;  // numbers of e from one to the next, whole vectors
};
// Sums over those, for the results p < m of each row r < rows and n lanes. Lane l reads e at l, or at l / o * c for
// Below::number:
//   y[r, p, l] = sum over d < depth of e[r line + p step + at[d] + ..] w[d, l], then the epilogue
//   dw[d, l] += sum over r and p of e[r line + p step + at[d] + ..] dy[r, p, l]
// For Below::own the depths are places, and c turns for each: what lane l, input i of its group, reads meets in turn r
// output (i + r) % c of its group, and w[d, l] and dw[d, l] are of these two. y and dy have `pixel` numbers a result
// and `row` a row, w and dw `ld` a depth. A sum reads and writes only what it names.
template <class T> struct Lanes {
  int64_t rows, m, n;
  int64_t c, o;
  Below below;
  const float* e;
  int64_t line, step;
  const int64_t* at;
  int64_t depth, ld;
  const float* w;
  float* dw;
  T* y;
  const T* dy;
  int64_t row, pixel;
  Epilogue<T> end;
};

// The kernels that touch images; weights stored as T, too.
template <class T> struct Typed {
  void (*product)(const Product<T>& p);
  // a[r, 0..k) = columns [first, first + k) of the patches of pixels begin + r, for r < count
  void (*gather)(const Patches<T>& p, int64_t begin, int64_t count, int64_t first, int64_t k, T* a, int64_t lda);
  // Packs rows [0,k) of src [k,n] as depths [first, first + k): B[r, j] = src[r * ld + j]
  void (*pack)(const T* src, int64_t ld, int64_t k, int64_t n, T* b, int64_t depth, int64_t first);
  void (*pack_weights)(const float* src, int64_t ld, int64_t k, int64_t n, T* b, int64_t depth, int64_t first);
  // The same of a transposed matrix: B[r, j] = src[j * ld + r]
  void (*pack_turned)(const float* src, int64_t ld, int64_t k, int64_t n, T* b, int64_t depth, int64_t first);

  // Winograd F(4x4,3x3); planes p = 0..35 lie `plane` floats apart. See kernel_winograd.cpp for the matrices.
  void (*tile_input)(const Tile<T>& t, int64_t channels, float* v, int64_t plane, Points p);  // v[p, c] = (B' x B)
  // y = A' m A, then the epilogue; only the rows and columns that exist
  void (*tile_output)(const float* m, int64_t plane, int64_t channels, T* y, int64_t row, int64_t pixel, int rows,
                      int cols, const Epilogue<T>& end);
  // d[p] = A dy A', packed as row `index` of a matrix of `depth` rows, ready to be the B of a product
  void (*tile_gradient)(const Tile<T>& t, int64_t channels, float* d, int64_t plane, int64_t depth, int64_t index,
                        Points p);
  // u[p] = G w G', packed as depth `index` of `depth`; w: nine rows `tap` numbers apart, in order or flipped
  void (*filter)(const T* w, int64_t tap, bool flipped, int64_t n, float* u, int64_t plane, int64_t depth,
                 int64_t index);

  void (*spread)(const Spread<T>& s);
  void (*lanes)(const Lanes<T>& s);
  void (*lanes_gradient)(const Lanes<T>& s);
};

struct Kernels {
  int vector, panel;  // floats; columns of a panel
  void (*transpose)(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y, int64_t ldy);  // y[c,r] = x[r,c]
  void (*add)(const float* x, int64_t n, float* sum);                                                 // sum[i] += x[i]
  // dw = G' du G for one row of n channels
  void (*filter_gradient)(const float* du, int64_t plane, int64_t n, float* dw, int64_t tap);
  Typed<float> f32;
  const Typed<bf16>* half;                        // null where the instruction set has no products of bf16
  const TileKernels* tiles;                       // null where it has none of tiles
  template <class T> const Typed<T>& of() const;  // of images stored as T
};
template <> inline const Typed<float>& Kernels::of() const { return f32; }
template <> inline const Typed<bf16>& Kernels::of() const { return *half; }

// The kernels of a level; of isa() by default. Throws Code::impossible where this build or processor has none.
const Kernels& kernels(Isa level);
const Kernels& kernels();

}  // namespace fovea::cpu
