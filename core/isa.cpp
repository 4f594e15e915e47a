// Detection of instruction sets: the compiler's own probe, with one environment variable to override it.
#include "core/isa.h"

#include <cstdlib>
#include <string>

#include "core/error.h"

namespace fovea {
namespace {

Isa choose() {
  const char* wanted = std::getenv("FOVEA_ISA");
  if (wanted == nullptr || *wanted == '\0' || std::string(wanted) == "auto") return best_isa();
  for (const Isa level : {Isa::baseline, Isa::v3, Isa::v4, Isa::v4_bf16}) {
    if (std::string(wanted) != name_of(level)) continue;
    check(Code::impossible, level <= best_isa(), "FOVEA_ISA=", wanted, ": this processor only has ",
          name_of(best_isa()), "\n  hint: unset FOVEA_ISA, the best level is chosen at start");
    return level;
  }
  fail(Code::usage,
       text("FOVEA_ISA=", wanted, " is no instruction-set level\n  hint: one of fallback, v3, v4, v4_bf16, auto"));
}

}  // namespace

Isa best_isa() {
#if defined(__x86_64__) && defined(__GNUC__)
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4 && __builtin_cpu_supports("avx512bf16")) return Isa::v4_bf16;
  return v4 ? Isa::v4 : v3 ? Isa::v3 : Isa::baseline;
#else
  return Isa::baseline;
#endif
}

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* name_of(Isa level) {
  constexpr const char* names[] = {"fallback", "v3", "v4", "v4_bf16"};
  return names[static_cast<int>(level)];
}

}  // namespace fovea
