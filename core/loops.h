// Loops that run on either device. A body is a named functor with an HD operator(): nvcc calls host/device lambdas
// through a pointer. A body owns what it writes: no two indices write the same element. Instead of an index a body may
// take a `Few` of them (core/few.h): one on the CPU, several on a device; or any such group, a `Streamed` among them
// (core/stream.h): many on the CPU, where the result is large.
#pragma once
#include <string_view>

#include "core/few.h"
#include "core/isa.h"
#include "core/platform.h"
#include "core/stream.h"
#include "core/team.h"
#include "core/tensor.h"
#include "core/threads.h"

namespace fovea {

constexpr int64_t kGrain = 1 << 14;  // elements of a chunk: below it a loop is not worth threads

// While on, CPU loops run as CUDA would: blocks of lanes, in reverse order (finds bodies that lean on an order). Bodies
// whose type names f32 or bf16 do not play: their twins of f64 do.
inline bool& rehearsal() {
  static bool on = false;
  return on;
}
inline bool plays_device(Device device) { return device == Device::cuda || rehearsal(); }

namespace detail {

// A copy of a body for each instruction set costs time to compile, so bodies get those that serve them: the name of a
// body says what its numbers are. f64 checks gradients: once will do, and small. A body may say so of itself, too:
// `static constexpr bool rare = true`.
template <class Body> constexpr bool mentions(std::string_view type) {
  return std::string_view(__PRETTY_FUNCTION__).find(type) != std::string_view::npos;
}
template <class Body> constexpr bool kNarrow = mentions<Body>("float") || mentions<Body>("bf16");
template <class Body> constexpr bool says_rare() {
  if constexpr (requires { Body::rare; }) return Body::rare;
  else return false;
}
template <class Body> constexpr bool kRare = says_rare<Body>() || (!kNarrow<Body> && mentions<Body>("double"));
template <class Body> __attribute__((cold)) void chunk_rare(const void* body, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) (*static_cast<const Body*>(body))(i);
}

#define FOVEA_CLONE(name, ...)                                                                      \
  template <class Body>                                                                             \
  __attribute__((__VA_ARGS__, flatten)) void name(const void* shared, int64_t begin, int64_t end) { \
    const Body body = *static_cast<const Body*>(shared);                                            \
    for (int64_t i = begin; i < end; ++i) body(i);                                                  \
    if constexpr (requires { Body::streamed; }) finish_streams();                                   \
  }
#if FOVEA_X86_CLONES
FOVEA_CLONE(chunk_fallback, cold)
FOVEA_CLONE(chunk_v3, hot, target("arch=x86-64-v3"))
FOVEA_CLONE(chunk_v4, hot, target("arch=x86-64-v4"))
#else
FOVEA_CLONE(chunk_fallback, hot)
#endif
#undef FOVEA_CLONE

template <class Body> Loop loop_of() {  // for this processor
  if constexpr (kRare<Body>) {
    return chunk_rare<Body>;
  } else {
#if FOVEA_X86_CLONES
    if (isa() >= Isa::v4) return chunk_v4<Body>;
    if constexpr (!mentions<Body>("bf16"))
      if (isa() == Isa::v3) return chunk_v3<Body>;
#endif
    return chunk_fallback<Body>;
  }
}
template <class Body> void run_each(const Body& body, int64_t begin, int64_t end) {
  loop_of<Body>()(&body, begin, end);
}
template <class Body> __attribute__((cold)) void backwards(const void* body, int64_t n) {
  while (n-- > 0) (*static_cast<const Body*>(body))(n);
}
template <class Body> constexpr int width_of() {
  if constexpr (requires { Body::kWidth; }) return Body::kWidth;
  else return 0;
}
template <int kWidth, class Body> struct ByFew {
  static constexpr bool rare = kWidth > 1 || says_rare<Body>();
  Body body;
  HD void operator()(int64_t i) const { body(Few<kWidth>{i * kWidth}); }
};
// run(n, body) for a body of indices, several at a time where `wide` and it can.
template <class Body, class Run> void by_index(bool wide, int64_t n, const Body& body, Run run) {
  constexpr int kWidth = width_of<Body>();
  if constexpr (kWidth == 0) return run(n, body);
  else if constexpr (kWidth > 1)
    if (wide && n % kWidth == 0 && body.aligned()) return run(n / kWidth, ByFew<kWidth, Body>{body});
  if constexpr (kWidth > 0) run(n, ByFew<1, Body>{body});
}
// Bodies of f32 and bf16 that take any group, and tell by result() where the one thing that they make begins. Where
// memory sets the pace one copy is enough: for AVX2, and for AVX-512 where the formula is long (of those a lane takes
// one number).
template <class Body> constexpr bool takes_streamed() {
  return kNarrow<Body> && !kRare<Body> && requires(const Body& body) { body.result(); };
}
template <class Body> constexpr int64_t bytes_of_one() { return width_of<Body>() > 1 ? 16 / width_of<Body>() : 4; }
template <class Body> constexpr bool streams_wide() { return width_of<Body>() <= 1 || mentions<Body>("bf16"); }
// Whether results of so many bytes, rows of so many, are streamed here.
template <class Body> bool streams(int64_t bytes, int64_t row, const void* to) {
  constexpr Isa least = streams_wide<Body>() ? Isa::v4 : Isa::v3;
  return FOVEA_X86_CLONES && bytes >= stream_least() && row % kLine == 0 && isa() >= least && !rehearsal() &&
         reinterpret_cast<uintptr_t>(to) % kLine == 0;
}
template <class Body, class Blocks> Loop stream_of() {
#if FOVEA_X86_CLONES
  if constexpr (streams_wide<Body>()) return chunk_v4<Blocks>;
  else return chunk_v3<Blocks>;
#else
  return nullptr;
#endif
}
template <class Body> struct InBlocks {
  static constexpr bool streamed = true;
  static constexpr int64_t size = kStreamBlock / bytes_of_one<Body>();
  Body body;
  int64_t n;
  void operator()(int64_t i) const {
    alignas(kLine) char block[kStreamBlock];
    body(Streamed{i * size, n - i * size < size ? n - i * size : size, block});
  }
};
template <class Body> bool stream_each(int64_t n, const Body& body) {
  if constexpr (takes_streamed<Body>()) {
    using Blocks = InBlocks<Body>;
    if (!streams<Body>(n * bytes_of_one<Body>(), kLine, body.result())) return false;
    const Blocks blocks{body, n};
    parallel_loop((n + Blocks::size - 1) / Blocks::size, kGrain / Blocks::size, stream_of<Body, Blocks>(), &blocks);
    return true;
  }
  return false;
}

template <class Body> struct SoloRow {  // a row on one thread
  static constexpr bool rare = says_rare<Body>();
  Body body;
  HD void operator()(int64_t r) const { body(Solo{}, r); }
};

#ifdef __CUDACC__
template <class Body> __global__ void each_kernel(int64_t n, Body body) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < n; i += int64_t(gridDim.x) * blockDim.x) body(i);
}
template <class Body> __global__ void rows_kernel(int64_t n, Body body) {
  for (int64_t r = blockIdx.x; r < n; r += gridDim.x) body(Block{}, r);
}
inline unsigned grid(int64_t blocks) { return unsigned(blocks < 65535 ? blocks : 65535); }
#endif
template <class Body> struct RehearsedRow {
  Body body;
  void operator()(int64_t r) const { body(Rehearsal{}, r); }
};
// A device that nvcc did not compile for plays the loop, as a rehearsal does.
template <class Body> void play(int64_t n, const Body& body) {
  if constexpr (kNarrow<Body>) fail(Code::failure, "a device without nvcc plays loops of f64 only");
  else {
    Body bare = body;
#if FOVEA_CLEARS_PADDING
    __builtin_clear_padding(&bare);
#endif
    static_assert(std::is_trivially_copyable_v<Body>);
    runtime().play(backwards<Body>, n, &bare, sizeof bare);
  }
}
template <class Body> void device_indices(int64_t n, const Body& body) {
#ifdef __CUDACC__
  if (void* stream = runtime().handle(Runtime::Stream::compute)) {
    each_kernel<<<grid((n + 255) / 256), 256, 0, static_cast<cudaStream_t>(stream)>>>(n, body);
    return runtime().launched();
  }
#endif
  play(n, body);
}
template <class Body> void device_each(int64_t n, const Body& body) {
  by_index(true, n, body, [](int64_t count, const auto& b) { device_indices(count, b); });
}
template <class Body> void device_rows(int64_t rows, const Body& body) {
#ifdef __CUDACC__
  if (void* stream = runtime().handle(Runtime::Stream::compute)) {
    rows_kernel<<<grid(rows), kTeam, 0, static_cast<cudaStream_t>(stream)>>>(rows, body);
    return runtime().launched();
  }
#endif
  play(rows, RehearsedRow<Body>{body});
}

}  // namespace detail

// body(i) for i in [0, n).
template <class Body> void for_each(Device device, int64_t n, const Body& body) {
  if (n <= 0) return;
  if (device == Device::cuda) return detail::device_each(n, body);
  if (detail::stream_each(n, body)) return;
  detail::by_index(rehearsal(), n, body, [](int64_t count, const auto& b) {
    if constexpr (!detail::kNarrow<Body>)
      if (rehearsal()) return detail::backwards<std::decay_t<decltype(b)>>(&b, count);
    parallel_loop(count, kGrain, detail::loop_of<std::decay_t<decltype(b)>>(), &b);
  });
}

// body(team, row) for each row in [0, rows); `cols` is the work of a row, which decides how many rows make a chunk.
template <class Body> void for_rows(Device device, int64_t rows, int64_t cols, const Body& body) {
  if (rows <= 0) return;
  if (device == Device::cuda) return detail::device_rows(rows, body);
  if constexpr (!detail::kNarrow<Body>) {
    const detail::RehearsedRow<Body> row{body};
    if (rehearsal()) return detail::backwards<detail::RehearsedRow<Body>>(&row, rows);
  }
  const detail::SoloRow<Body> row{body};
  parallel_loop(rows, cols >= kGrain ? 1 : kGrain / (cols > 0 ? cols : 1), detail::loop_of<detail::SoloRow<Body>>(),
                &row);
}

}  // namespace fovea
