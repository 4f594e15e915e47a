// What a library chose for a product is asked once and kept, by all that the choice depends on.
#pragma once
#include <algorithm>
#include <bit>
#include <compare>
#include <map>
#include <type_traits>

#include "core/device.h"

namespace fovea {

struct ProductKey {
  int64_t m, n, k, lda, ldb, ldc;
  Trans ta, tb;
  bool f64, tf32, bias, relu;
  int alignment[5];  // of a, b, added, c, bias: bytes
  auto operator<=>(const ProductKey&) const = default;
};

// The largest power of two, up to 256, that divides an address. Null is a multiple of all.
inline int alignment_of(const void* p) { return 1 << std::countr_zero(uintptr_t(p) | 256); }

template <class T> ProductKey key_of(const Gemm<T>& g, bool tf32) {
  const bool f64 = std::is_same_v<T, double>;
  return {g.m,
          g.n,
          g.k,
          g.a.ld,
          g.b.ld,
          g.ldc,
          g.a.trans,
          g.b.trans,
          f64,
          tf32 && !f64,
          g.end.bias != nullptr,
          g.end.relu,
          {alignment_of(g.a.data), alignment_of(g.b.data), alignment_of(g.end.added ? g.end.added : g.c),
           alignment_of(g.c), alignment_of(g.end.bias)}};
}

template <class Plan> class Plans {
 public:
  template <class Choose> const Plan& of(const ProductKey& key, Choose choose) {
    const auto known = plans_.find(key);
    return known != plans_.end() ? known->second : plans_.emplace(key, choose()).first->second;
  }

 private:
  std::map<ProductKey, Plan> plans_;
};

}  // namespace fovea
