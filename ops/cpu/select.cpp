// Which table of kernels a level means, in this build.
#include "core/error.h"
#include "ops/cpu/kernels.h"

namespace fovea::cpu {

namespace fallback {
extern const Kernels table;
}
#if FOVEA_X86_KERNELS
namespace v3 {
extern const Kernels table;
}
namespace v4 {
extern const Kernels table;
}
namespace v4_bf16 {
extern const Typed<bf16> half;
}
namespace amx {
extern const TileKernels tiles;
}
#endif

const Kernels& kernels(Isa level) {
  check(Code::impossible, level <= best_isa(), "kernels for ", name_of(level), ": this processor only has ",
        name_of(best_isa()));
#if FOVEA_X86_KERNELS
  static const Kernels with_half = [] {
    Kernels all = v4::table;
    return all.half = &v4_bf16::half, all;
  }();
  static const Kernels with_tiles = [] {
    Kernels all = with_half;
    return all.tiles = &amx::tiles, all;
  }();
  if (level == Isa::amx) return with_tiles;
  if (level == Isa::v4_bf16) return with_half;
  if (level == Isa::v4) return v4::table;
  if (level == Isa::v3) return v3::table;
#endif
  return fallback::table;
}

const Kernels& kernels() {
  static const Kernels& chosen = kernels(isa());
  return chosen;
}

}  // namespace fovea::cpu
