// CUDA behind the narrow waist: its runtime for memory and streams, cuBLASLt for products. No kernel is in this file.
#include "core/cuda/runtime.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <deque>
#include <vector>

#include "core/cuda/plans.h"
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
  fail(status == cudaErrorMemoryAllocation ? Code::memory : Code::failure,
       text("CUDA: ", what, ": ", cudaGetErrorString(status), op.empty() ? "" : "\n  in or before " + op,
            "\n  hint: FOVEA_SYNC=1 waits after every loop, and so names the op itself"));
}
void need(cublasStatus_t status, const char* what) {
  check(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: ", what, ": ", cublasLtGetStatusString(status));
}

// A product and its matrices as cuBLASLt wants them described; columns first.
template <class T> struct Described {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, c;
  Described(const Gemm<T>& g, bool tf32) {
    constexpr bool f64 = std::is_same_v<T, double>;
    const auto compute = f64 ? CUBLAS_COMPUTE_64F : tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const auto type = f64 ? CUDA_R_64F : CUDA_R_32F;
    const auto flag = [](Trans t) { return t == Trans::yes ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const auto matrix = [type](auto& layout, Trans t, int64_t rows, int64_t columns, int64_t ld) {
      if (t == Trans::yes) std::swap(rows, columns);
      need(cublasLtMatrixLayoutInit(&layout, type, uint64_t(rows), uint64_t(columns), ld), "a matrix");
    };
    need(cublasLtMatmulDescInit(&product, compute, type), "a product");
    set(CUBLASLT_MATMUL_DESC_TRANSA, flag(g.a.trans)), set(CUBLASLT_MATMUL_DESC_TRANSB, flag(g.b.trans));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, g.end.bias   ? g.end.relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS
                                       : g.end.relu ? CUBLASLT_EPILOGUE_RELU
                                                    : CUBLASLT_EPILOGUE_DEFAULT);
    if (g.end.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.end.bias);
    matrix(a, g.a.trans, g.m, g.k, g.a.ld), matrix(b, g.b.trans, g.k, g.n, g.b.ld);
    matrix(c, Trans::no, g.m, g.n, g.ldc);
  }

 private:
  template <class V> void set(cublasLtMatmulDescAttributes_t what, const V& value) {
    need(cublasLtMatmulDescSetAttribute(&product, what, &value, sizeof value), "a product's attribute");
  }
};

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
    need(cublasLtCreate(&blas_), "cublasLtCreate");
    need(cudaMalloc(&workspace_, kWorkspace), "cudaMalloc");  // ours, so that products allocate nothing
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
    auto& kept = kept_[static_cast<int>(stream)];
    while (!kept.empty() && done(kept.front().first)) spare_.push_back(kept.front().first), kept.pop_front();
    cudaEvent_t event = nullptr;
    if (!spare_.empty()) event = spare_.back(), spare_.pop_back();
    else need(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
    need(cudaEventRecord(event, of(stream)), "cudaEventRecord");
    kept.emplace_back(event, std::move(what));
  }
  void wait(Stream waiting, Stream first) override {
    need(cudaEventRecord(event_, of(first)), "cudaEventRecord");
    need(cudaStreamWaitEvent(of(waiting), event_), "cudaStreamWaitEvent");
  }
  void synchronize(Stream stream) override { need(cudaStreamSynchronize(of(stream)), "cudaStreamSynchronize"); }

  void gemm(const Gemm<float>& g) override { multiply(column_major(g)); }
  void gemm(const Gemm<double>& g) override { multiply(column_major(g)); }

  void* handle(Stream stream) override { return of(stream); }
  void launched() override {
    need(cudaGetLastError(), "a loop did not start");
    if (synchronous_) need(cudaDeviceSynchronize(), "a loop failed");
  }
  void play(void (*)(const void*, int64_t), int64_t, const void*, size_t) override {
    fail(Code::failure, "a loop for the GPU was not compiled by nvcc (see CMakeLists.txt)");
  }

 private:
  static constexpr size_t kWorkspace = size_t{32} << 20;  // cuBLAS' own choice on Hopper

  static bool done(cudaEvent_t event) {
    const cudaError_t status = cudaEventQuery(event);
    if (status != cudaErrorNotReady) return need(status, "work before a copy was let go of"), true;
    cudaGetLastError();  // an answer, not an error
    return false;
  }
  cudaStream_t of(Stream stream) const { return streams_[static_cast<int>(stream)]; }
  template <class T> void multiply(const Gemm<T>& g) {
    Described<T> d(g, tf32());
    const ProductKey key = key_of(g, tf32());
    const cublasLtMatmulAlgo_t& algo = plans_.of(key, [&] { return choose(key, d); });
    need(cublasLtMatmul(blas_, &d.product, &g.alpha, g.a.data, &d.a, g.b.data, &d.b, &g.beta,
                        g.end.added ? g.end.added : g.c, &d.c, g.c, &d.c, &algo, workspace_, kWorkspace, streams_[0]),
         "cublasLtMatmul");
    launched();
  }
  // The first of its heuristic's proposals: by its estimate the fastest.
  template <class T> cublasLtMatmulAlgo_t choose(const ProductKey& key, Described<T>& d) {
    cublasLtMatmulPreferenceOpaque_t preference;
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
      need(cublasLtMatmulPreferenceSetAttribute(&preference, what, &value, sizeof value), "a preference");
    };
    need(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(kWorkspace));
    const auto [a, b, added, c, bias] = key.alignment;
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, uint32_t(a));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, uint32_t(b));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, uint32_t(added));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t(std::min(c, bias)));
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    need(cublasLtMatmulAlgoGetHeuristic(blas_, &d.product, &d.a, &d.b, &d.c, &d.c, &preference, 1, &result, &found),
         "cublasLtMatmulAlgoGetHeuristic");
    check(found > 0, "cuBLASLt has no product of [", key.m, ",", key.k, "] and [", key.k, ",", key.n, "]");
    return result.algo;
  }

  int index_;
  bool synchronous_;
  cudaStream_t streams_[2] = {};
  cudaEvent_t event_ = nullptr;
  std::deque<std::pair<cudaEvent_t, std::shared_ptr<void>>> kept_[2];  // by stream, in order
  std::vector<cudaEvent_t> spare_;
  cublasLtHandle_t blas_ = nullptr;
  Plans<cublasLtMatmulAlgo_t> plans_;
  void* workspace_ = nullptr;
};

}  // namespace

std::unique_ptr<Runtime> make_cuda_runtime(int index) { return std::make_unique<CudaRuntime>(index); }

}  // namespace fovea
