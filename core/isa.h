// Which instruction-set level the kernels use: chosen once, at the first question.
#pragma once

namespace fovea {

// fallback: whatever the compiler was told for the whole program (x86-64-v2, or any other architecture);
// v3: AVX2 + FMA (x86-64-v3); v4: AVX-512 F/BW/CD/DQ/VL (x86-64-v4); v4_bf16: the same with
// avx512_bf16, sums of products of bf16 pairs; amx: the same with AMX, products of bf16 tiles.
enum class Isa { fallback, v3, v4, v4_bf16, amx };

// The best level this processor has, or the one named by the environment variable FOVEA_ISA (fallback, v3, v4,
// v4_bf16, amx; auto and an empty value: the best). Throws Code::usage for an unknown name, Code::impossible for a
// level that the processor lacks.
Isa isa();

// What the processor has and the system lets us use, whatever FOVEA_ISA says.
Isa best_isa();

const char* name_of(Isa level);  // "fallback", "v3", "v4", "v4_bf16", "amx"

}  // namespace fovea
