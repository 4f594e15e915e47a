// CUDA behind the narrow waist: its runtime for memory and streams, cuBLAS for products. No kernel is in this file.
#include "core/cuda/runtime.h"

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <climits>
#include <cstdlib>

#include "core/error.h"
#include "core/gemm.h"
#include "core/profile.h"

namespace fovea {
namespace {

std::string version(int v) { return text(v / 1000, ".", v % 1000 / 10); }

// Errors of kernels arrive with a later call: the op that runs now is only the first suspect.
void need(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  const std::string op = running_op();
  fail(status == cudaErrorMemoryAllocation ? Code::resource : Code::failure,
       text("CUDA: ", what, ": ", cudaGetErrorString(status), op.empty() ? "" : "\n  in or before " + op,
            "\n  hint: FOVEA_SYNC=1 waits after every loop, and so names the op itself"));
}
void need(cublasStatus_t status, const char* what) {
  check(status == CUBLAS_STATUS_SUCCESS, "cuBLAS: ", what, ": ", cublasGetStatusString(status));
}

int count_devices() {
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const char* hint = "\n  hint: --device cpu runs everything on the processor";
  if (status == cudaErrorInsufficientDriver && driver > 0)
    fail(Code::resource, text("the NVIDIA driver knows CUDA ", version(driver), ", this build needs ", version(runtime),
                              ": a newer driver is needed", hint));
  if (status == cudaErrorInsufficientDriver) fail(Code::resource, text("no NVIDIA driver answers", hint));
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    fail(Code::resource, text("there is no NVIDIA GPU", hint));
  check(Code::resource, status == cudaSuccess, "CUDA does not start: ", cudaGetErrorString(status), hint);
  return count;
}

class CudaRuntime final : public Runtime {
 public:
  explicit CudaRuntime(int index) : index_(index), synchronous_(std::getenv("FOVEA_SYNC") != nullptr) {
    const int count = count_devices();
    check(Code::resource, index >= 0 && index < count, "--device cuda:", index, ": there ",
          count == 1 ? "is one GPU, cuda:0" : text("are ", count, " GPUs, cuda:0 to cuda:", count - 1));
    need(cudaSetDevice(index), "cudaSetDevice");
    for (auto* stream : {&streams_[0], &streams_[1]})
      need(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), "cudaStreamCreate");
    need(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
    need(cublasCreate(&blas_), "cublasCreate");
    need(cublasSetStream(blas_, streams_[0]), "cublasSetStream");
    need(cudaMalloc(&workspace_, kWorkspace), "cudaMalloc");  // ours, so that products allocate nothing
    need(cublasSetWorkspace(blas_, workspace_, kWorkspace), "cublasSetWorkspace");
  }

  DeviceInfo info() override {
    cudaDeviceProp p;
    need(cudaGetDeviceProperties(&p, index_), "cudaGetDeviceProperties");
    int driver = 0;
    need(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    DeviceInfo i{p.name, version(driver), p.major, p.minor, 0, 0};
    need(cudaMemGetInfo(&i.free, &i.memory), "cudaMemGetInfo");
    return i;
  }
  void* allocate(size_t bytes) override {
    void* block = nullptr;
    const cudaError_t status = cudaMalloc(&block, bytes);
    if (status != cudaErrorMemoryAllocation) return need(status, "cudaMalloc"), block;
    cudaGetLastError();  // no memory is an answer, not an error that sticks
    return nullptr;
  }
  void free(void* block) override { need(cudaFree(block), "cudaFree"); }
  void* allocate_pinned(size_t bytes) override {
    void* block = nullptr;
    need(cudaSetDevice(index_), "cudaSetDevice");  // a thread begins with the first
    need(cudaMallocHost(&block, bytes), "cudaMallocHost");
    return block;
  }
  void free_pinned(void* block) override { need(cudaFreeHost(block), "cudaFreeHost"); }

  void copy(void* to, const void* from, size_t bytes, Way way, Stream stream) override {
    const auto kind = way == Way::to_device ? cudaMemcpyHostToDevice
                      : way == Way::to_host ? cudaMemcpyDeviceToHost
                                            : cudaMemcpyDeviceToDevice;
    need(cudaMemcpyAsync(to, from, bytes, kind, of(stream)), "cudaMemcpy");
  }
  void keep(std::shared_ptr<void> what, Stream stream) override {
    const auto let_go = [](void* p) { delete static_cast<std::shared_ptr<void>*>(p); };
    need(cudaLaunchHostFunc(of(stream), let_go, new std::shared_ptr<void>(std::move(what))), "cudaLaunchHostFunc");
  }
  void wait(Stream waiting, Stream first) override {
    need(cudaEventRecord(event_, of(first)), "cudaEventRecord");
    need(cudaStreamWaitEvent(of(waiting), event_), "cudaStreamWaitEvent");
  }
  void synchronize(Stream stream) override { need(cudaStreamSynchronize(of(stream)), "cudaStreamSynchronize"); }

  void gemm(const Gemm<float>& g) override {
    need(cublasSetMathMode(blas_, tf32() ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_PEDANTIC_MATH), "cublasSetMathMode");
    multiply(column_major(g), cublasSgemm);
  }
  void gemm(const Gemm<double>& g) override { multiply(column_major(g), cublasDgemm); }

  void* handle(Stream stream) override { return of(stream); }
  void launched() override {
    need(cudaGetLastError(), "a loop did not start");
    if (synchronous_) need(cudaDeviceSynchronize(), "a loop failed");
  }
  void play(std::function<void()>) override {
    fail(Code::failure, "a loop for the GPU was not compiled by nvcc (see CMakeLists.txt)");
  }

 private:
  static constexpr size_t kWorkspace = size_t{32} << 20;  // cuBLAS' own choice on Hopper

  cudaStream_t of(Stream stream) const { return streams_[static_cast<int>(stream)]; }
  template <class T, class Product> void multiply(const Gemm<T>& g, Product product) {
    const auto flag = [](Trans t) { return t == Trans::yes ? CUBLAS_OP_T : CUBLAS_OP_N; };
    check(g.m <= INT_MAX && g.n <= INT_MAX && g.k <= INT_MAX, "gemm: a dimension exceeds 2^31");
    need(product(blas_, flag(g.ta), flag(g.tb), int(g.m), int(g.n), int(g.k), &g.alpha, g.a, int(g.lda), g.b,
                 int(g.ldb), &g.beta, g.c, int(g.ldc)),
         "gemm");
    launched();
  }

  int index_;
  bool synchronous_;
  cudaStream_t streams_[2] = {};
  cudaEvent_t event_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  void* workspace_ = nullptr;
};

}  // namespace

std::unique_ptr<Runtime> make_cuda_runtime(int index) { return std::make_unique<CudaRuntime>(index); }

}  // namespace fovea
