// Softmax, its logarithm, and cross entropy on logits. The first two throw for a tensor without that axis.
#pragma once
#include "core/autograd.h"

namespace fovea {

Tensor softmax(const Tensor& x, int axis = -1);      // e^x_i / sum_j e^x_j, shifted by the maximum: never overflows
Tensor log_softmax(const Tensor& x, int axis = -1);  // x_i - log sum_j e^x_j

struct CrossEntropyOptions {
  int64_t ignore = -100;  // rows with this label count for nothing
};

// Mean of -log softmax(logits)[label] over the rows that are not ignored (0 where all are).
// logits [R,K], labels i64 [R] in 0..K-1. Throws on another label, other shapes and other types.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels, CrossEntropyOptions options = {});

}  // namespace fovea
