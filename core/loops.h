// Loops that run on either device. A body is a named functor with an HD operator(): nvcc calls host/device lambdas
// through a pointer. A body owns what it writes: no two indices write the same element.
#pragma once
#include "core/isa.h"
#include "core/platform.h"
#include "core/team.h"
#include "core/tensor.h"
#include "core/threads.h"

namespace fovea {

constexpr int64_t kGrain = 1 << 14;  // elements of a chunk: below it a loop is not worth threads

// While on, CPU loops run as CUDA would: blocks of lanes, in reverse order (finds bodies that lean on an order).
bool& rehearsal();

namespace detail {

template <class Body> void chunk_plain(const Body& body, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) body(i);
}
template <class Body> void rows_plain(const Body& body, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) body(Solo{}, r);
}
#if FOVEA_X86_CLONES
#define FOVEA_CLONE(name, plain, arch)                                                                                 \
  template <class Body>                                                                                                \
  __attribute__((target("arch=" arch), flatten, noinline)) void name(const Body& shared, int64_t begin, int64_t end) { \
    const Body body = shared;                                                                                          \
    plain                                                                                                              \
  }
FOVEA_CLONE(chunk_v3, for (int64_t i = begin; i < end; ++i) body(i);, "x86-64-v3")
FOVEA_CLONE(chunk_v4, for (int64_t i = begin; i < end; ++i) body(i);, "x86-64-v4")
FOVEA_CLONE(rows_v3, for (int64_t r = begin; r < end; ++r) body(Solo{}, r);, "x86-64-v3")
FOVEA_CLONE(rows_v4, for (int64_t r = begin; r < end; ++r) body(Solo{}, r);, "x86-64-v4")
#undef FOVEA_CLONE
#endif

template <class Body> void run_each(const Body& body, int64_t begin, int64_t end) {
#if FOVEA_X86_CLONES
  if (isa() == Isa::v4) return chunk_v4(body, begin, end);
  if (isa() == Isa::v3) return chunk_v3(body, begin, end);
#endif
  chunk_plain(body, begin, end);
}
template <class Body> void run_rows(const Body& body, int64_t begin, int64_t end) {
#if FOVEA_X86_CLONES
  if (isa() == Isa::v4) return rows_v4(body, begin, end);
  if (isa() == Isa::v3) return rows_v3(body, begin, end);
#endif
  rows_plain(body, begin, end);
}

}  // namespace detail

// body(i) for i in [0, n).
template <class Body> void for_each(Device device, int64_t n, const Body& body) {
  if (n <= 0) return;
#ifdef __CUDACC__
  if (device == Device::cuda) return detail::launch_each(n, body);
#endif
  check(device == Device::cpu, "this build has no CUDA device");
  if (rehearsal()) {
    for (int64_t i = n; i-- > 0;) body(i);
    return;
  }
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) { detail::run_each(body, begin, end); });
}

// body(team, row) for each row in [0, rows); `cols` is the work of a row, which decides how many rows make a chunk.
template <class Body> void for_rows(Device device, int64_t rows, int64_t cols, const Body& body) {
  if (rows <= 0) return;
#ifdef __CUDACC__
  if (device == Device::cuda) return detail::launch_rows(rows, body);
#endif
  check(device == Device::cpu, "this build has no CUDA device");
  if (rehearsal()) {
    for (int64_t r = rows; r-- > 0;) body(Rehearsal{}, r);
    return;
  }
  const int64_t grain = cols >= kGrain ? 1 : kGrain / (cols > 0 ? cols : 1);
  parallel_for(rows, grain, [&](int64_t begin, int64_t end) { detail::run_rows(body, begin, end); });
}

// Column sums: out[c] = sum over r of body(r, c), for [rows, cols] in row-major order (bias gradients, NHWC norms).
// Acc is a number or a struct with operator+= and a default value of zero. Rows are summed in fixed chunks, the chunks
// in order, so the result does not depend on the threads.
template <class Acc, class Body> struct ColumnChunk {
  Body body;
  Acc* partial;  // [chunks, cols]
  int64_t rows, cols, chunk;
  HD void operator()(int64_t i) const {  // one chunk on the CPU: rows outside, so that columns vectorise
    const int64_t begin = i * chunk, end = begin + chunk < rows ? begin + chunk : rows;
    Acc* sum = partial + i * cols;
    for (int64_t c = 0; c < cols; ++c) sum[c] = Acc{};
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < cols; ++c) sum[c] += body(r, c);
  }
};
template <class Acc, class Body> struct ColumnLane {  // one column of one chunk: a CUDA thread
  ColumnChunk<Acc, Body> chunks;
  HD void operator()(int64_t i) const {
    const int64_t k = i / chunks.cols, c = i % chunks.cols, begin = k * chunks.chunk;
    const int64_t end = begin + chunks.chunk < chunks.rows ? begin + chunks.chunk : chunks.rows;
    Acc sum{};
    for (int64_t r = begin; r < end; ++r) sum += chunks.body(r, c);
    chunks.partial[i] = sum;
  }
};
template <class Acc> struct ColumnTotal {
  const Acc* partial;
  Acc* out;
  int64_t chunks, cols;
  HD void operator()(int64_t c) const {
    Acc sum{};
    for (int64_t k = 0; k < chunks; ++k) sum += partial[k * cols + c];
    out[c] = sum;
  }
};
template <class Acc, class Body>
void sum_columns(Device device, int64_t rows, int64_t cols, const Body& body, Acc* out) {
  if (cols <= 0) return;
  int64_t chunk = kGrain / cols > 8 ? kGrain / cols : 8;
  if (rows / chunk > 256) chunk = (rows + 255) / 256;
  const int64_t chunks = rows > 0 ? (rows + chunk - 1) / chunk : 0;
  Workspace partial(static_cast<size_t>(chunks * cols) * sizeof(Acc), device);
  const ColumnChunk<Acc, Body> loop{body, partial.as<Acc>(), rows, cols, chunk};
#ifdef __CUDACC__
  if (device == Device::cuda) {
    for_each(device, chunks * cols, ColumnLane<Acc, Body>{loop});
    for_each(device, cols, ColumnTotal<Acc>{partial.as<Acc>(), out, chunks, cols});
    return;
  }
#endif
  if (rehearsal()) for_each(device, chunks * cols, ColumnLane<Acc, Body>{loop});
  else parallel_for(chunks, 1, [&](int64_t b, int64_t e) { detail::run_each(loop, b, e); });
  for_each(device, cols, ColumnTotal<Acc>{partial.as<Acc>(), out, chunks, cols});
}

}  // namespace fovea
