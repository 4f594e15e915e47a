// What the compiler at hand can do: HD marks code that runs on the host and on the device.
#pragma once

// HD: of a function for loops on either device; FOVEA_FLAT: of a long lambda in one, and of a function for those on the
// CPU.
#ifdef __CUDACC__
#define HD __host__ __device__
#define FOVEA_FLAT
#elif defined(__clang__)
#define FOVEA_FLAT __attribute__((always_inline))  // its `flatten` (core/loops.h) reaches one call deep
#define HD FOVEA_FLAT
#else
#define HD
#define FOVEA_FLAT
#endif

// g++ on x86-64 compiles the loops of core/loops.h once per instruction set; nvcc and other machines once.
#ifndef FOVEA_X86_CLONES
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define FOVEA_X86_CLONES 1
#else
#define FOVEA_X86_CLONES 0
#endif
#endif

// Whether the bytes between the members of a loop's body can be cleared: a device that is played (core/loops.h) takes
// each of them for part of what it is to do.
#if !defined(__CUDACC__) && defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define FOVEA_CLEARS_PADDING 1
#endif
#endif
#ifndef FOVEA_CLEARS_PADDING
#define FOVEA_CLEARS_PADDING 0
#endif
