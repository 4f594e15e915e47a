// The instruction mma.sync of the tensor cores: D [16,8] += A [16,8] B [8,8], where 32 lanes hold the words of all
// three. A word is one number of tf32, or two of bf16 that follow each other in the depth: m16n8k8 and m16n8k16 then
// have the same picture (PTX ISA, "Matrix fragments for mma.m16n8k8" and "... mma.m16n8k16").
#pragma once
#include "core/bf16.h"

namespace fovea::cuda {

struct At {
  int row, col;
};
HD constexpr At word_of_a(int lane, int r) { return {lane / 4 + r % 2 * 8, lane % 4 + r / 2 * 4}; }     // r < 4
HD constexpr At word_of_b(int lane, int r) { return {lane % 4 + r * 4, lane / 4}; }                     // r < 2
HD constexpr At element_of_d(int lane, int r) { return {lane / 4 + r / 2 * 8, lane % 4 * 2 + r % 2}; }  // r < 4

struct Tf32 {  // an f32 with 10 bits after the point: the nearest, ties away from 0
  using Stored = float;
  static constexpr int kNumbers = 1;  // in a word
  HD static uint32_t word(const float* x, int) {
    uint32_t u;
#ifdef __CUDA_ARCH__
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(u) : "f"(*x));
    return u;
#endif
    memcpy(&u, x, sizeof u);
    return (u & 0x7fffffffu) > 0x7f800000u ? u : (u + 0x1000u) & ~0x1fffu;
  }
  HD static float number(uint32_t word, int) {
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
  }
  HD static uint32_t rounded(uint32_t bits) {  // of an f32
    const float x = number(bits, 0);
    return word(&x, 1);
  }
};
struct Bf16 {
  using Stored = bf16;
  static constexpr int kNumbers = 2;
  HD static uint32_t word(const bf16* x, int apart) { return x[0].bits | uint32_t{x[apart].bits} << 16; }
  HD static float number(uint32_t word, int i) {
    bf16 x;
    x.bits = uint16_t(i == 0 ? word : word >> 16);
    return x;
  }
  HD static uint32_t rounded(uint32_t word) { return word; }
};

struct Fragments {  // of a lane: a [4], b [2], d [4]
  const uint32_t *a, *b;
  float* d;
};
template <class P> struct Mma {
  HD void operator()([[maybe_unused]] Fragments f) const {
#ifdef __CUDA_ARCH__
    if constexpr (P::kNumbers == 1)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(f.d[0]), "+f"(f.d[1]), "+f"(f.d[2]), "+f"(f.d[3])
          : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(f.b[0]), "r"(f.b[1]));
    else
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(f.d[0]), "+f"(f.d[1]), "+f"(f.d[2]), "+f"(f.d[3])
          : "r"(f.a[0]), "r"(f.a[1]), "r"(f.a[2]), "r"(f.a[3]), "r"(f.b[0]), "r"(f.b[1]));
#endif
  }
  HD void model(const Fragments (&lanes)[32]) const {  // the same by the definition of a product
    uint32_t a[16][8], b[8][8];
    for (int l = 0; l < 32; ++l) {
      for (int r = 0; r < 4; ++r) a[word_of_a(l, r).row][word_of_a(l, r).col] = lanes[l].a[r];
      for (int r = 0; r < 2; ++r) b[word_of_b(l, r).row][word_of_b(l, r).col] = lanes[l].b[r];
    }
    for (int l = 0; l < 32; ++l)
      for (int r = 0; r < 4; ++r) {
        const At at = element_of_d(l, r);
        for (int k = 0; k < 8; ++k)
          for (int i = 0; i < P::kNumbers; ++i)
            lanes[l].d[r] += P::number(a[at.row][k], i) * P::number(b[k][at.col], i);
      }
  }
};

// ldmatrix: four matrices of 8 x 8 numbers of 16 bits from shared memory. Lane 8i + j names row j of matrix i; lane l
// gets word i with the numbers 2 (l % 4) and the next of row l / 4 of matrix i, or, turned, of column l / 4: what the
// operands of an mma want, whose matrix lies row by row or column by column. Rows of 4 words serve tf32 as well; only
// turning needs numbers of 16 bits.
struct MatrixRow {
  const bf16* row;
  uint32_t* to;  // 4 words
};
template <bool kTurned> struct LoadMatrices {
  HD void operator()([[maybe_unused]] MatrixRow r) const {
#ifdef __CUDA_ARCH__
    const unsigned from = unsigned(__cvta_generic_to_shared(r.row));
    if constexpr (kTurned)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(r.to[0]), "=r"(r.to[1]), "=r"(r.to[2]), "=r"(r.to[3])
                   : "r"(from));
    else
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(r.to[0]), "=r"(r.to[1]), "=r"(r.to[2]), "=r"(r.to[3])
                   : "r"(from));
#endif
  }
  HD void model(const MatrixRow (&lanes)[32]) const {
    for (int l = 0; l < 32; ++l)
      for (int i = 0; i < 4; ++i) {
        const MatrixRow* m = lanes + 8 * i;
        const int at = l / 4, k = l % 4 * 2;
        const bf16 low = kTurned ? m[k].row[at] : m[at].row[k], high = kTurned ? m[k + 1].row[at] : m[at].row[k + 1];
        lanes[l].to[i] = low.bits | uint32_t{high.bits} << 16;
      }
  }
};

}  // namespace fovea::cuda
