// gemm through OpenBLAS, single-threaded inside our own chunks; or a plain product where there is none.
#include "core/gemm.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/loops.h"
#ifdef FOVEA_OPENBLAS
#include <cblas.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include "core/threads.h"
#include "core/words.h"
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
            "\n  hint: install libopenblas0 (or, where it is, raise the limit on memory), or build with ",
            "-DFOVEA_BLAS=builtin");
    };
    find("cblas_sgemm", sgemm);
    find("cblas_dgemm", dgemm);
    find("openblas_get_config", config);
    find("openblas_set_num_threads", set_threads);
    own_threads = reinterpret_cast<decltype(own_threads)>(dlsym(library, "omp_get_max_threads"));
    set_own_threads = reinterpret_cast<decltype(set_own_threads)>(dlsym(library, "omp_set_num_threads"));
    const int own = set_own_threads ? own_threads() : 1;
    set_threads(1);  // where something else had loaded it
    if (set_own_threads) set_own_threads(own);
    check_room();
  }
  // A buffer for each thread that multiplies. Refused one, OpenBLAS asks for it again without an end.
  static void check_room() {
    constexpr size_t kMiB = 1 << 20, kBuffer = 129 * kMiB;
    const size_t bytes = kBuffer * static_cast<size_t>(num_threads());
    void* room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(Code::memory, room != MAP_FAILED, "out of memory: OpenBLAS wants ", bytes / kMiB, " MiB of addresses for ",
          counted(num_threads(), "thread"),
          "\n  hint: raise the limit (ulimit -v), ask for fewer threads (FOVEA_THREADS=1), or ",
          "build with -DFOVEA_BLAS=builtin");
    munmap(room, bytes);
  }
  decltype(&cblas_sgemm) sgemm;
  decltype(&cblas_dgemm) dgemm;
  decltype(&openblas_get_config) config;
  decltype(&openblas_set_num_threads) set_threads;
  int (*own_threads)();  // of OpenMP, where it was built with that; else null
  void (*set_own_threads)(int);
};
const OpenBlas& openblas() {
  static const OpenBlas once;
  return once;
}
// OpenBLAS with OpenMP (libopenblas0-openmp) asks OpenMP how many threads the caller may have, which each thread says
// for itself: one, until this ends.
class Alone {
 public:
  Alone() {
    if (openblas().set_own_threads) before = openblas().own_threads(), openblas().set_own_threads(1);
  }
  ~Alone() {
    if (openblas().set_own_threads) openblas().set_own_threads(before);
  }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

 private:
  int before = 1;
};
CBLAS_TRANSPOSE flag(Trans t) { return t == Trans::yes ? CblasTrans : CblasNoTrans; }
void block(Trans ta, Trans tb, int m, int n, int k, float alpha, const float* a, int lda, const float* b, int ldb,
           float beta, float* c, int ldc) {
  const Alone alone;
  openblas().sgemm(CblasRowMajor, flag(ta), flag(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void block(Trans ta, Trans tb, int m, int n, int k, double alpha, const double* a, int lda, const double* b, int ldb,
           double beta, double* c, int ldc) {
  const Alone alone;
  openblas().dgemm(CblasRowMajor, flag(ta), flag(tb), m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
#else
// c_ij = sum_p a_ip b_pj, one row of c at a time: it stays in the cache while the rows of b pass by.
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

// What is left to do for row r: c = relu(c + beta from + bias), without the c where there was no product.
template <class T> struct End {
  T* c;
  const T* from;
  int64_t n, ldc;
  T beta;
  const T* bias;
  bool relu, product;
  template <class Team> HD void operator()(Team team, int64_t r) const {
    const End e = *this;
    T* row = c + r * ldc;
    const T* more = from + r * ldc;
    team.each(n, [=](int64_t i) {
      T v = e.product ? row[i] : T(0);
      if (e.beta != 0) v += e.beta * more[i];
      if (e.bias) v += e.bias[i];
      row[i] = e.relu && v < 0 ? T(0) : v;
    });
  }
};

template <class T> void multiply(const Gemm<T>& g, T beta) {
  const bool by_rows = g.m >= g.n;  // chunks of the longer side
  const int64_t side = by_rows ? g.m : g.n, other = by_rows ? g.n : g.m;
  const int64_t wanted = (int64_t{1} << 21) / std::max<int64_t>(other * g.k, 1);  // about 2 M multiply-adds a chunk
  const int64_t grain = std::clamp<int64_t>((wanted + 63) / 64 * 64, 64, 1024);
  parallel_for(side, grain, [&](int64_t begin, int64_t end) {
    const int64_t i = by_rows ? begin : 0, j = by_rows ? 0 : begin;
    const int64_t mm = by_rows ? end - begin : g.m, nn = by_rows ? g.n : end - begin;
    const T* a = g.a.data + (g.a.trans == Trans::yes ? i : i * g.a.ld);
    const T* b = g.b.data + (g.b.trans == Trans::yes ? j * g.b.ld : j);
    block(g.a.trans, g.b.trans, int(mm), int(nn), int(g.k), g.alpha, a, int(g.a.ld), b, int(g.b.ld), beta,
          g.c + i * g.ldc + j, int(g.ldc));
  });
}

}  // namespace

template <class T> void gemm(Device device, const Gemm<T>& g) {
  check(std::max({g.m, g.n, g.k, g.a.ld, g.b.ld, g.ldc}) < (int64_t{1} << 31), "gemm: a dimension exceeds 2^31");
  if (g.m == 0 || g.n == 0) return;
  if (device == Device::cuda && g.k > 0) return runtime().gemm(g);
  if (g.k > 0) multiply(g, g.end.added ? T(0) : g.beta);
  if (g.k > 0 && !g.end.added && !g.end.bias && !g.end.relu) return;
  const T* from = g.end.added ? g.end.added : g.c;
  const T beta = g.k == 0 || g.end.added ? g.beta : T(0);
  for_rows(device, g.m, g.n, End<T>{g.c, from, g.n, g.ldc, beta, g.end.bias, g.end.relu, g.k > 0});
}
template void gemm<float>(Device, const Gemm<float>&);
template void gemm<double>(Device, const Gemm<double>&);

static Factors rounded_to = Factors::f32;
void round_factors(Factors to) { rounded_to = to; }
Factors factors() { return rounded_to; }

const char* blas_name() {
#ifdef FOVEA_OPENBLAS
  static const std::string name = std::string(openblas().config());
  return name.c_str();
#else
  return "builtin";
#endif
}

}  // namespace fovea
