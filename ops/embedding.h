// Rows of a table by index.
#pragma once
#include "core/autograd.h"

namespace fovea {

// table [V,D], ids i64 [...] in 0..V-1: [..., D]. Throws on an id out of range.
Tensor embedding(const Tensor& table, const Tensor& ids);

}  // namespace fovea
