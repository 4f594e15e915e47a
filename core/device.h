// The narrow waist of a device that is not the processor: memory, copies, the order of its streams, matrix products.
// Whatever else it does are the loops of core/loops.h.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace fovea {

enum class Device : uint8_t { cpu, cuda };
constexpr const char* name_of(Device device) { return device == Device::cuda ? "cuda" : "cpu"; }
// For messages about tensors on different devices.
inline constexpr const char* kMoveHint = "\n  hint: move a network's weights with move_to(), data with .to(device)";

enum class Trans : bool { no, yes };
// What follows a product, while it is at hand: C = relu(alpha op(A) op(B) + beta added + bias). Null: C itself, none.
template <class T> struct GemmEnd {
  const T* added = nullptr;  // [m,n], rows as far apart as C's
  const T* bias = nullptr;   // [n]
  bool relu = false;
};
template <class T> struct GemmFactor {
  const T* data = nullptr;
  int64_t ld = 0;  // from row to row as stored
  Trans trans = Trans::no;
};
// C [m,n] = alpha op(A) op(B) + beta C, row-major; op(A) is [m,k], op(B) is [k,n]. Where beta is 0, C is not read.
// T = float or double.
template <class T> struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  GemmFactor<T> a, b;
  T* c = nullptr;
  int64_t ldc = 0;
  T alpha = 1, beta = 0;
  GemmEnd<T> end = {};
};
// The same product for a library that counts columns first (cuBLAS): C' = op(B)' op(A)'. The bias is then one for each
// row of C'.
template <class T> Gemm<T> column_major(const Gemm<T>& g) {
  Gemm<T> turned = g;
  turned.m = g.n, turned.n = g.m, turned.a = g.b, turned.b = g.a;
  return turned;
}

struct DeviceInfo {
  std::string name;          // "NVIDIA H100 80GB HBM3"
  std::string driver;        // the newest CUDA that the driver knows: "13.0"
  int major = 0, minor = 0;  // compute capability
  size_t memory = 0, free = 0;
};

// What a device must do. CUDA's is core/cuda/runtime.cpp; the tests have one that records, on the processor.
class Runtime {
 public:
  // Two queues of work. Each runs in the order in which it was filled; between them only wait() makes an order.
  // `compute` runs the ops, and reuses their memory in its own order; `copy` brings the next batch meanwhile.
  enum class Stream : uint8_t { compute, copy };
  enum class Way : uint8_t { to_device, to_host, within };
  virtual ~Runtime() = default;
  virtual DeviceInfo info() = 0;

  virtual void* allocate(size_t bytes) = 0;  // 256-byte aligned; null where the device has no more
  virtual void free(void* block) = 0;        // waits for all work
  // Memory of the host that the device copies from by itself. On any thread.
  virtual void* allocate_pinned(size_t bytes) = 0;
  virtual void free_pinned(void* block) = 0;

  // Queued; memory of the host that is not pinned may be used again when the call returns. to_host: once synchronize()
  // returned.
  virtual void copy(void* to, const void* from, size_t bytes, Way way, Stream stream) = 0;
  // Queued: lets go of `what` some time after the work before it is done. Its end must not call the device.
  virtual void keep(std::shared_ptr<void> what, Stream stream) = 0;
  virtual void wait(Stream waiting, Stream first) = 0;  // what is queued on `waiting` from now on starts after `first`
  virtual void synchronize(Stream stream) = 0;          // the host waits

  virtual void gemm(const Gemm<float>& product) = 0;
  virtual void gemm(const Gemm<double>& product) = 0;

  // A loop that nvcc compiled is launched on handle() (a cudaStream_t), then launched() looks for errors. Without a
  // handle, and where the compiler was not nvcc, the device plays the loop instead. `body` is what the loop was given,
  // with zeros between its members: its pointers must be the device's.
  virtual void* handle(Stream stream) = 0;
  virtual void launched() = 0;
  virtual void play(void (*loop)(const void* body, int64_t n), int64_t n, const void* body, size_t bytes) = 0;
};

// The device in use. Throws Code::resource where there is none, with the reason and what to do.
Runtime& runtime();
bool has_device(std::string* why_not = nullptr);  // whether runtime() would return
// Which of several CUDA devices runtime() is, from 0. To be called before the first use of runtime(); that use throws
// where there is no such device.
void choose_device(int index);
// For tests: replaces the runtime until it is set again. No tensor of the device may be alive.
void set_runtime(std::unique_ptr<Runtime> replacement);

}  // namespace fovea
