// The kernels of one instruction set, gathered in a table.
#include "ops/cpu/vec.h"

namespace fovea::cpu::FOVEA_KERNELS {

extern const Kernels table;
const Kernels table{Isa::FOVEA_LEVEL, kVector,     kPanel,        product, gather,         pack, transpose, add,
                    tile_input,       tile_output, tile_gradient, filter,  filter_gradient};

}  // namespace fovea::cpu::FOVEA_KERNELS
