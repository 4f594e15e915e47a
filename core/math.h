// exp, log, sigmoid, ... for both devices. The f32 versions are branch-free, so that loops over them vectorise.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/platform.h"

namespace fovea::math {

HD inline float bits_to_float(uint32_t u) {
  float f;
  memcpy(&f, &u, sizeof f);
  return f;
}
HD inline uint32_t float_to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, sizeof u);
  return u;
}

// e^x = 2^k e^r with k = round(x / ln 2), |r| <= ln 2 / 2, e^r by a polynomial of degree 6; at most 2 ulp.
struct ExpParts {
  float p;    // e^r
  int32_t k;  // exact for |x| up to 2^21
};
HD inline ExpParts exp_parts(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f;  // round to nearest by adding 1.5 * 2^23
  const float k = shifted - 12582912.0f;
  float r = x - k * 0.693359375f;
  r = r + k * 2.12194440e-4f;
  float p = 1.3930436e-3f;
  p = p * r + 8.3607944e-3f;
  p = p * r + 4.1666485e-2f;
  p = p * r + 1.6666577e-1f;
  p = p * r + 0.5f;
  return {p * (r * r) + r + 1.0f, static_cast<int32_t>(float_to_bits(shifted) << 9) >> 9};
}
// Above 88.72 infinity, below -87.33 (where the result would be denormal) 0; NaN stays NaN.
HD inline float exp(float x) {
  const auto [p, k] = exp_parts(x < -88.0f ? -88.0f : (x > 89.0f ? 89.0f : x));  // NaN passes through both
  const int32_t half = k >> 1;  // 2^k in two factors, so that k = 128 and k = -127 do not leave the exponent's range
  const float y = p * bits_to_float(static_cast<uint32_t>(half + 127) << 23) *
                  bits_to_float(static_cast<uint32_t>(k - half + 127) << 23);
  const float top = x > 88.7228394f ? INFINITY : y;
  return x < -87.3365479f ? 0.0f : top;
}
// For x <= 0 alone: the same bits with less work.
HD inline float exp_negative(float x) {
  const auto [p, k] = exp_parts(x < -88.0f ? -88.0f : x);
  const float y = p * bits_to_float(static_cast<uint32_t>(k + 127) << 23);
  return x < -87.3365479f ? 0.0f : y;
}
HD inline double exp(double x) { return ::exp(x); }
HD inline double exp_negative(double x) { return ::exp(x); }

// log x = k ln 2 + log m with m in [sqrt(1/2), sqrt 2): log m = 2 atanh(s), s = (m - 1) / (m + 1); at most 2 ulp.
// log 0 = -infinity, negative: NaN. Denormals count as 0.
HD inline float log(float x) {
  const uint32_t u = float_to_bits(x);
  const uint32_t shifted = u - 0x3f3504f3u;  // bits of sqrt(1/2)
  const float k = static_cast<float>(static_cast<int32_t>(shifted) >> 23);
  const float m = bits_to_float((shifted & 0x007fffffu) + 0x3f3504f3u);
  const float f = m - 1.0f, s = f / (2.0f + f), z = s * s;
  const float r = z * (0.6666666f + z * (0.4000095f + z * (0.28498787f + z * 0.24279079f)));
  const float h = 0.5f * f * f;
  const float y = k * 0.693138123f - ((h - (s * (h + r) + k * 9.05800061e-6f)) - f);
  const float normal = x <= 3.40282347e38f ? y : x + x;  // infinity and NaN
  const float low = x < 1.17549435e-38f ? (x < 0.0f ? NAN : -INFINITY) : normal;
  return x != x ? x : low;
}
HD inline double log(double x) { return ::log(x); }

// log(1 + e) for 0 <= e <= 1 (e^-|x|): log() without its exponent and its special cases; exact for tiny e, at most 1.2
// ulp.
HD inline float log1p_unit(float e, float s) {  // s = e / (2 + e)
  const float z = s * s, h = 0.5f * e * e;
  const float r = z * (0.66666667f + z * (0.39999701f + z * (0.28592583f + z * (0.21703315f + z * 0.23239051f))));
  return e - (h - s * (h + r));
}
HD inline float log1p_unit(float e) { return log1p_unit(e, e / (2.0f + e)); }
HD inline double log1p_unit(double e, double = 0) { return ::log1p(e); }

// 1 / (1 + e^-x), without overflow.
template <class T> HD inline T sigmoid(T x) {
  const T e = math::exp_negative(x < 0 ? x : -x);
  return (x < 0 ? e : T(1)) / (T(1) + e);
}
// log(1 + e^x), without overflow.
template <class T> HD inline T softplus(T x) {
  const T e = math::exp_negative(x < 0 ? x : -x);
  return (x > 0 ? x : T(0)) + log1p_unit(e);
}
// (e^2x - 1) / (e^2x + 1); near 0, where that cancels, x + x^3 P(x^2) (Cephes); at most 2 ulp.
HD inline float tanh(float x) {
  const float a = x < 0 ? -x : x, z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = p * z * x + x, far = 1.0f - 2.0f / (math::exp(a + a) + 1.0f);
  return a < 0.625f ? near : x < 0 ? -far : far;
}
HD inline double tanh(double x) { return ::tanh(x); }
// t e^(P(t) - z^2) with z = |x|, t = 1 / (1 + z / 2), P of degree 9 (fitted for z <= 10; relative error 5e-8 but for
// the rounding of z^2); 2 - that for negative x.
HD inline float erfc(float x) {
  const float z = x < 0 ? -x : x, t = 1.0f / (1.0f + 0.5f * z);
  float p = 0.144930214f;
  p = p * t - 0.680827178f;
  p = p * t + 1.15673376f;
  p = p * t - 0.696251901f;
  p = p * t - 0.0802804302f;
  p = p * t + 1.26758522e-3f;
  p = p * t + 0.0346028004f;
  p = p * t + 0.386640412f;
  p = p * t + 0.998632783f;
  p = p * t - 1.265448f;
  const float y = t * math::exp_negative(p) * math::exp_negative(-z * z);
  return x < 0 ? 2.0f - y : y;
}
HD inline double erfc(double x) { return ::erfc(x); }

template <class T> HD inline T min(T a, T b) { return a < b ? a : b; }
template <class T> HD inline T max(T a, T b) { return a > b ? a : b; }

}  // namespace fovea::math
