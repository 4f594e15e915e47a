// Element types. f32 trains, f64 checks gradients, bf16 is storage only: every functor computes in compute_t<T>.
#pragma once
#include <cstdint>

#include "core/bf16.h"
#include "core/error.h"

namespace fovea {

enum class DType : uint8_t { f32, f64, bf16, i64, u8 };

template <class T> struct compute_of { using type = T; };
template <> struct compute_of<bf16> { using type = float; };
template <class T> using compute_t = typename compute_of<T>::type;  // what a functor computes in

template <class T> constexpr DType dtype_of = T::is_no_element_type;
template <> inline constexpr DType dtype_of<float> = DType::f32;
template <> inline constexpr DType dtype_of<double> = DType::f64;
template <> inline constexpr DType dtype_of<bf16> = DType::bf16;
template <> inline constexpr DType dtype_of<int64_t> = DType::i64;
template <> inline constexpr DType dtype_of<uint8_t> = DType::u8;

constexpr int64_t size_of(DType t) {
  return t == DType::f64 || t == DType::i64 ? 8 : t == DType::f32 ? 4 : t == DType::bf16 ? 2 : 1;
}
constexpr const char* name_of(DType t) {
  constexpr const char* names[] = {"f32", "f64", "bf16", "i64", "u8"};
  return names[static_cast<int>(t)];
}
constexpr DType compute_type(DType t) { return t == DType::bf16 ? DType::f32 : t; }
constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::f64 || t == DType::bf16; }

[[noreturn]] void reject_type(DType t);  // throws, naming the running op: expected f32 or f64

// dispatch_float(x.dtype(), [&]<class T>() { ... }): T = float or double. Throws for any other type.
template <class F> decltype(auto) dispatch_float(DType t, F&& f) {
  if (t != DType::f32 && t != DType::f64) reject_type(t);
  return t == DType::f64 ? f.template operator()<double>() : f.template operator()<float>();
}
// The same with T = bf16 as well, for ops that only move or map elements.
template <class F> decltype(auto) dispatch_storage(DType t, F&& f) {
  if (t == DType::bf16) return f.template operator()<bf16>();
  return dispatch_float(t, f);
}
// T = any element type, for copies, slices, gathers and comparisons.
template <class F> decltype(auto) dispatch_any(DType t, F&& f) {
  if (t == DType::i64) return f.template operator()<int64_t>();
  if (t == DType::u8) return f.template operator()<uint8_t>();
  return dispatch_storage(t, f);
}

}  // namespace fovea
