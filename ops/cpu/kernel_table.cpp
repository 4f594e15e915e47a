// The kernels of one instruction set, gathered in a table.
#include "ops/cpu/vec.h"

namespace fovea::cpu::FOVEA_KERNELS {

template <class T>
constexpr Typed<T> functions{product<T>,     gather<T>,     pack<T, T>,     pack<float, T>,
                             pack_turned<T>, tile_input<T>, tile_output<T>, tile_gradient<T>,
                             filter<T>,      spread<T>,     lanes<T>,       lanes_gradient<T>};
#if defined(__AVX512BF16__)
extern const Typed<bf16> half;
const Typed<bf16> half = functions<bf16>;
#else
extern const Kernels table;
const Kernels table{kVector, kPanel, transpose, add, filter_gradient, functions<float>, nullptr, nullptr};
#endif

}  // namespace fovea::cpu::FOVEA_KERNELS
