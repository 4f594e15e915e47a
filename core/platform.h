// What the compiler at hand can do: HD marks code that runs on the host and on the device.
#pragma once

#ifdef __CUDACC__
#define HD __host__ __device__
#elif defined(__clang__)
#define HD __attribute__((always_inline))  // its `flatten` (core/loops.h) reaches one call deep
#else
#define HD
#endif

// g++ on x86-64 compiles the loops of core/loops.h once per instruction set; nvcc and other machines once.
#ifndef FOVEA_X86_CLONES
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define FOVEA_X86_CLONES 1
#else
#define FOVEA_X86_CLONES 0
#endif
#endif
