// Convolutions on a CUDA device, by the kernels of this folder. Where no GPU is they play on the processor, in f64.
#pragma once
#include <vector>

#include "core/device.h"
#include "ops/conv.h"
#include "ops/conv_reference.h"

namespace fovea::cuda {

// T = float, double or bf16, the last on tensor cores; without nvcc double alone, which a device plays. Device::cpu: a
// rehearsal, of f64. Maps of 2^30 pixels or more: Error{failure}.
template <class T>
void conv_value(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w,
                const ConvEnd<compute_t<T>>& end);
template <class T> void conv_input_gradient(Device device, const std::vector<ConvMap<T>>& maps, const compute_t<T>* w);
template <class T> void conv_weight_gradient(Device device, const std::vector<ConvMap<T>>& maps, compute_t<T>* dw);

}  // namespace fovea::cuda
