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
// a b, on a GPU rounded. Its compiler, as the processor's may, makes one instruction of a product and the sum that it
// goes into, which keeps the product exact there: the difference of two equal ones is then what one of them lost.
template <class T> HD T product(T a, T b) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == sizeof(float)) return __fmul_rn(a, b);
  else return __dmul_rn(a, b);
#else
  return a * b;
#endif
}
// A polynomial in t by Horner's rule, highest coefficient first.
template <class T> HD inline T polynomial(T, T last) { return last; }
template <class T, class... Rest> HD inline T polynomial(T t, T first, T second, Rest... rest) {
  return polynomial(t, first * t + second, rest...);
}
HD inline float abs(float x) { return bits_to_float(float_to_bits(x) & 0x7fffffffu); }
HD inline double abs(double x) { return x < 0 ? -x : x; }

// e^x = 2^k e^r with k = round(x / ln 2), |r| <= ln 2 / 2, e^r by a polynomial of degree 6; at most 0.91 ulp.
struct ExpParts {
  float p;     // e^r
  uint32_t k;  // its lower 9 bits: k, for |x| below 177
};
HD inline ExpParts exp_parts(float x) {
  const float shifted = x * 1.44269504f + 12582912.0f;  // round to nearest by adding 1.5 * 2^23
  const float k = shifted - 12582912.0f, high = x - k * 0.693359375f, low = k * 2.12194440e-4f, r = high + low;
  const float p = polynomial(r, 1.38655282e-3f, 8.36758502e-3f, 4.16672193e-2f, 1.66665331e-1f, 0.5f);
  return {1.0f + (high + (p * (r * r) + low)), float_to_bits(shifted)};
}
// Above 88.72 infinity, below -87.33 (where the result would be denormal) 0; NaN stays NaN.
HD inline float exp(float x) {
  const auto [p, k] = exp_parts(x);
  const float y = bits_to_float(float_to_bits(p) + (k << 23)), top = x <= 88.7228394f ? y : x + INFINITY;
  return x < -87.3365402f ? 0.0f : top;
}
// For |x| <= 87 and NaN, without the checks; and for x <= 0.
HD inline float exp_inside(float x) {
  const auto [p, k] = exp_parts(x);
  return p * bits_to_float((k + 127) << 23);
}
HD inline float exp_negative(float x) {
  const float y = exp_inside(x);
  return x < -87.3365402f ? 0.0f : y;
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
  return x < 1.17549435e-38f ? (x < 0.0f ? NAN : -INFINITY) : normal;
}
HD inline double log(double x) { return ::log(x); }

// log(1 + e) for 0 <= e <= 1 (e^-|x|) as e P(e - 1/2): at most 2 ulp.
HD inline float log1p_unit(float e) {
  const float t = e - 0.5f;
  const float p = polynomial(t, 5.11417165e-3f, -8.49523209e-3f, 1.16569689e-2f, -2.02663075e-2f, 3.66195254e-2f,
                             -6.77059293e-2f, 1.32610217e-1f, -2.88526893e-1f, 8.10930192e-1f);
  return e * p;
}
HD inline double log1p_unit(double e) { return ::log1p(e); }

// 1 / (1 + e^-x), without overflow; what the sum 1 + e loses comes off the quotient: at most 2 ulp.
template <class T> HD inline T sigmoid(T x) {
  const T e = math::exp_negative(-math::abs(x)), sum = T(1) + e, y = (x < 0 ? e : T(1)) / sum;
  return y - y * (e - (sum - T(1)));
}
// log(1 + e^x), without overflow.
template <class T> HD inline T softplus(T x) {
  const T e = math::exp_negative(-math::abs(x));
  return (x > 0 ? x : T(0)) + log1p_unit(e);
}
// (e^2x - 1) / (e^2x + 1); near 0, where that cancels, x + x^3 P(x^2) (Cephes); at most 2 ulp.
HD inline float tanh(float x) {
  const float a = abs(x), z = x * x;
  const float p =
      polynomial(z, -5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f);
  const float far = 1.0f - 2.0f / (exp_inside(a > 9.5f ? 19.0f : a + a) + 1.0f), near = p * z * x + x;
  return a < 0.625f ? near : x < 0 ? -far : far;
}
HD inline double tanh(double x) { return ::tanh(x); }
// The complementary error function of z >= 0, given e = e^-z^2: e t P(t) with t = 1 / (1 + z / 2), P of degree 10
// fitted for z <= 10; at most 6 ulp beside the error of e.
HD inline float erfc(float z, float e) {
  const float t = 1.0f / (1.0f + 0.5f * z);
  const float p =
      polynomial(t, 3.61295380e-2f, -1.93182319e-1f, 3.87004077e-1f, -2.97949344e-1f, -1.40029630e-2f, 3.03820949e-2f,
                 5.70022613e-2f, 1.85002446e-1f, 2.45283216e-1f, 2.82242030e-1f, 2.82088965e-1f);
  return e * (t * p);
}
HD inline double erfc(double z, double) { return ::erfc(z); }

// x^e with the exponent e log2 |x| in double precision, so that it is right to 1 ulp; one branch-free formula for all
// x. Denormals count as 0.
HD inline float pow(float x, float e) {
  const float a = abs(x);
  const uint32_t shifted = float_to_bits(a) - 0x3f3504f3u;  // as in log()
  const double m = double(bits_to_float((shifted & 0x007fffffu) + 0x3f3504f3u));
  const double s = (m - 1) / (m + 1), z = s * s;
  const double p = polynomial(z, 0.340727964386, 0.411672829236, 0.577083583230, 0.961796673350, 2.88539008179);
  float whole = static_cast<float>(static_cast<int32_t>(shifted) >> 23);
  whole = a < 1.17549435e-38f ? -1e30f : a > 3.40282347e38f ? 1e30f : whole;
  const double t = double(e) * (double(whole) + s * p);
  const double inside = t < -160 ? -160 : t > 160 ? 160 : t, k = (inside + 6755399441055744.0) - 6755399441055744.0;
  const float q = exp_parts(float((inside - k) * 0.6931471805599453)).p;
  const int32_t n = int32_t(float(k)), n2 = n >> 1;
  const float y = q * bits_to_float(uint32_t(n2 + 127) << 23) * bits_to_float(uint32_t(n - n2 + 127) << 23);
  const float odd = e - 2 * floorf(0.5f * e), sign = 1 - 2 * odd + sqrtf(floorf(e) - e);  // NaN for a fraction
  const float any = x < 0 ? sign * y : y;
  return x != x && e != 0 ? x : any;
}
HD inline double pow(double x, double e) { return ::pow(x, e); }

// The angle of (x, y), as std::atan2: atan of the smaller over the larger side; at most 2 ulp.
HD inline float atan2(float y, float x) {
  const float u = abs(x), v = abs(y), low = u < v ? u : v, high = u < v ? v : u;
  const float r = low / (high == 0 ? 1.0f : high), z = r * r;
  const float p = polynomial(z, 2.91975634e-3f, -1.63642373e-2f, 4.32059728e-2f, -7.55172893e-2f, 1.06657863e-1f,
                             -1.42110035e-1f, 1.99937671e-1f, -3.33331525e-1f);
  float angle = r + r * (z * p);
  angle = u < v ? 1.57079637f - angle : angle;
  angle = x < 0 ? 3.14159274f - angle : angle;
  return y < 0 ? -angle : angle;
}
HD inline double atan2(double y, double x) { return ::atan2(y, x); }

}  // namespace fovea::math
