// gemm through OpenBLAS, single-threaded inside our own chunks; or a plain blocked product where there is none.
#include "core/gemm.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/threads.h"
#ifdef FOVEA_OPENBLAS
#include <cblas.h>
#include <dlfcn.h>
#endif

namespace fovea {

namespace {

#ifdef FOVEA_OPENBLAS
// Loaded by the first product, not with the program: on loading it makes threads, which spin for a tenth of a second.
// Our pool has the threads, so it is told to have one.
struct OpenBlas {
  OpenBlas() {
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    void* library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!library) library = dlopen(FOVEA_OPENBLAS, RTLD_NOW);
    const auto find = [&]<class F>(const char* name, F& f) {
      f = reinterpret_cast<F>(library ? dlsym(library, name) : nullptr);
      check(Code::resource, f != nullptr, "OpenBLAS cannot be used: ", dlerror(),
            "\n  hint: install libopenblas0, or build with -DFOVEA_BLAS=builtin");
    };
    find("cblas_sgemm", sgemm);
    find("cblas_dgemm", dgemm);
    find("openblas_get_config", config);
    find("openblas_set_num_threads", set_threads);
    set_threads(1);  // where something else had loaded it
  }
  decltype(&cblas_sgemm) sgemm;
  decltype(&cblas_dgemm) dgemm;
  decltype(&openblas_get_config) config;
  decltype(&openblas_set_num_threads) set_threads;
};
const OpenBlas& openblas() {
  static const OpenBlas once;
  return once;
}
CBLAS_TRANSPOSE flag(Trans t) { return t == Trans::yes ? CblasTrans : CblasNoTrans; }
void block(Trans ta, Trans tb, int m, int n, int k, float alpha, const float* a, int lda, const float* b, int ldb,
           float beta, float* c, int ldc) {
  openblas().sgemm(CblasRowMajor, flag(ta), flag(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void block(Trans ta, Trans tb, int m, int n, int k, double alpha, const double* a, int lda, const double* b, int ldb,
           double beta, double* c, int ldc) {
  openblas().dgemm(CblasRowMajor, flag(ta), flag(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
#else
// c_ij = sum_p a_ip b_pj, with rows of b streamed past 4 rows of c.
template <class T>
void block(Trans ta, Trans tb, int m, int n, int k, T alpha, const T* a, int lda, const T* b, int ldb, T beta, T* c,
           int ldc) {
  for (int i = 0; i < m; ++i) {
    T* row = c + int64_t{i} * ldc;
    for (int j = 0; j < n; ++j) row[j] = beta == 0 ? T(0) : beta * row[j];
    for (int p = 0; p < k; ++p) {
      const T s = alpha * (ta == Trans::yes ? a[int64_t{p} * lda + i] : a[int64_t{i} * lda + p]);
      if (tb == Trans::no)
        for (int j = 0; j < n; ++j) row[j] += s * b[int64_t{p} * ldb + j];
      else
        for (int j = 0; j < n; ++j) row[j] += s * b[int64_t{j} * ldb + p];
    }
  }
}
#endif

template <class T> void scale(int64_t m, int64_t n, T beta, T* c, int64_t ldc) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) c[i * ldc + j] = beta == 0 ? T(0) : beta * c[i * ldc + j];
}

}  // namespace

template <class T>
void gemm(Device device, Trans ta, Trans tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
          const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
  check(std::max({m, n, k, lda, ldb, ldc}) < (int64_t{1} << 31), "gemm: a dimension exceeds 2^31");
  if (m == 0 || n == 0) return;
  if (device == Device::cuda) return runtime().gemm(Gemm<T>{ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc});
  if (k == 0) return scale(m, n, beta, c, ldc);
  const bool by_rows = m >= n;  // chunks of the longer side
  const int64_t side = by_rows ? m : n, other = by_rows ? n : m;
  const int64_t wanted = (int64_t{1} << 21) / std::max<int64_t>(other * k, 1);  // about 2 M multiply-adds a chunk
  const int64_t grain = std::clamp<int64_t>((wanted + 63) / 64 * 64, 64, 1024);
  parallel_for(side, grain, [&](int64_t begin, int64_t end) {
    const int64_t i = by_rows ? begin : 0, j = by_rows ? 0 : begin;
    const int64_t mm = by_rows ? end - begin : m, nn = by_rows ? n : end - begin;
    block(ta, tb, int(mm), int(nn), int(k), alpha, ta == Trans::yes ? a + i : a + i * lda, int(lda),
          tb == Trans::yes ? b + j * ldb : b + j, int(ldb), beta, c + i * ldc + j, int(ldc));
  });
}

template void gemm<float>(Device, Trans, Trans, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*,
                          int64_t, float, float*, int64_t);
template void gemm<double>(Device, Trans, Trans, int64_t, int64_t, int64_t, double, const double*, int64_t,
                           const double*, int64_t, double, double*, int64_t);

static bool rounds_to_tf32 = false;
void set_tf32(bool on) { rounds_to_tf32 = on; }
bool tf32() { return rounds_to_tf32; }

const char* blas_name() {
#ifdef FOVEA_OPENBLAS
  static const std::string name = std::string(openblas().config());
  return name.c_str();
#else
  return "builtin";
#endif
}

}  // namespace fovea
