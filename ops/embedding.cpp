// Embedding: a gather of rows, whose gradient sums the rows that went to one id.
#include "ops/embedding.h"

#include "ops/index.h"

namespace fovea {

namespace {

struct Embedding {
  static constexpr auto name = "embedding";
  Saved ids = {};  // on the processor
  int64_t vocabulary = 0;

  Tensor forward(const Tensor& table) {
    vocabulary = table.dim(0);
    return gather_rows(table, *ids, 0).view(ids->shape().plus(table.dim(1)));
  }
  void backward(const Tensor& dy, Grads& g) const {
    g[0] = sum_rows(dy.view({ids->size(), dy.dim(-1)}), *ids, 0, vocabulary);
  }
};

}  // namespace

Tensor embedding(const Tensor& table, const Tensor& ids) {
  check(table && table.rank() == 2 && is_float(table.dtype()),
        "embedding: the table must be [V,D] of a floating-point type, got ", table.shape());
  Embedding op;
  op.ids = checked_index("embedding", ids, table.dim(0));
  return apply(std::move(op), table);
}

}  // namespace fovea
