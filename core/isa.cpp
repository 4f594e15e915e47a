// Detection of instruction sets: the compiler's own probe, with one environment variable to override it.
#include "core/isa.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <string>

#include "core/error.h"

namespace fovea {
namespace {

Isa choose() {
  const char* wanted = std::getenv("FOVEA_ISA");
  if (wanted == nullptr || *wanted == '\0' || std::string(wanted) == "auto") return best_isa();
  for (const Isa level : {Isa::fallback, Isa::v3, Isa::v4, Isa::v4_bf16, Isa::amx}) {
    if (std::string(wanted) != name_of(level)) continue;
    check(Code::impossible, level <= best_isa(), "FOVEA_ISA=", wanted, ": this processor only has ",
          name_of(best_isa()), "\n  hint: unset FOVEA_ISA, the best level is chosen at start");
    return level;
  }
  fail(Code::usage,
       text("FOVEA_ISA=", wanted, " is no instruction-set level\n  hint: one of fallback, v3, v4, v4_bf16, amx, auto"));
}

// AMX by its bit, since not every compiler's probe knows it. Linux hands tile registers (8 KB a thread) only to a
// process that asks for them.
bool has_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr int kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILE_DATA
  static const bool granted = [] {
    unsigned a, b, c, d;
    const bool amx_bf16 = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);
    return amx_bf16 && syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }();
  return granted;
#else
  return false;
#endif
}

}  // namespace

Isa best_isa() {
#if defined(__x86_64__) && defined(__GNUC__)
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4 && __builtin_cpu_supports("avx512bf16")) return has_tiles() ? Isa::amx : Isa::v4_bf16;
  return v4 ? Isa::v4 : v3 ? Isa::v3 : Isa::fallback;
#else
  return Isa::fallback;
#endif
}

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* name_of(Isa level) {
  constexpr const char* names[] = {"fallback", "v3", "v4", "v4_bf16", "amx"};
  return names[static_cast<int>(level)];
}

}  // namespace fovea
