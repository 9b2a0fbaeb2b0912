// exp, log and atan of vectors, by range reduction and the function's Taylor series. The error is
// at most three units in the last place, and the bits are the same on every instruction set.
#pragma once

#include "simd.h"

namespace detcore {
inline namespace DETCORE_ISA {

template <class T>
struct FloatBits;
template <>
struct FloatBits<float> {
  using Int = int32_t;
  static constexpr int digits = 23, bias = 127, exp_terms = 8, log_terms = 7, atan_terms = 11;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440054690583e-4f;
  static constexpr float exp_factorial = 5040;  // factorial of exp_terms - 1
  static constexpr float exp_least = -104.0f, exp_most = 89.0f;
};
template <>
struct FloatBits<double> {
  using Int = int64_t;
  static constexpr int digits = 52, bias = 1023, exp_terms = 14, log_terms = 12, atan_terms = 22;
  // the product of an 11-bit integer and ln2_high is exact
  static constexpr double ln2_high = 0.693147180369123816490, ln2_low = 1.90821492927058770002e-10;
  static constexpr double exp_factorial = 6227020800;
  static constexpr double exp_least = -746.0, exp_most = 710.0;
};

template <class T>
using LaneInts = typename VectorOf<T>::mask;

// 2^n, for n in the range of normal exponents.
template <class T>
DETCORE_HD Lanes<T> power_of_two(LaneInts<T> n) {
  using F = FloatBits<T>;
  return Lanes<T>((typename VectorOf<T>::type)((n + F::bias) << F::digits));
}

// x = n ln 2 + r, |r| <= ln 2 / 2: e^x = 2^n e^r. Overflows to inf and underflows gradually to 0.
template <class T>
DETCORE_HD Lanes<T> lane_exp(Lanes<T> x) {
  using F = FloatBits<T>;
  const Lanes<T> within = lane_max(lane_min(x, Lanes<T>(F::exp_most)), Lanes<T>(F::exp_least));
  // adding 1.5 * 2^digits rounds to an integer, which is then in the lowest bits
  const T shift_by = T(1.5) * T(typename F::Int(1) << F::digits);
  const Lanes<T> shifted = within * Lanes<T>(T(1.44269504088896340736)) + Lanes<T>(shift_by);
  const Lanes<T> n = shifted - Lanes<T>(shift_by);
  const LaneInts<T> whole = (LaneInts<T>)shifted.v - bit_cast<typename F::Int>(shift_by);
  const Lanes<T> r = within - n * Lanes<T>(F::ln2_high) - n * Lanes<T>(F::ln2_low);
  Lanes<T> series(T(0));
  T factorial = F::exp_factorial;  // once unrolled, all coefficients are constants
#pragma GCC unroll 32
  for (int k = F::exp_terms - 1; k > 0; --k) {
    series = r * (Lanes<T>(T(1) / factorial) + series);
    factorial /= T(k);
  }
  series = Lanes<T>(T(1)) + series;
  // in two steps, because 2^n alone may be out of range
  const LaneInts<T> half = whole >> 1;
  const Lanes<T> e = series * power_of_two<T>(half) * power_of_two<T>(whole - half);
  return lane_select(x == x, e, x);
}

// x = 2^n m, m in [sqrt 1/2, sqrt 2): log x = n ln 2 + 2 atanh((m - 1) / (m + 1)).
template <class T>
DETCORE_HD Lanes<T> lane_log(Lanes<T> x) {
  using F = FloatBits<T>;
  const T inf = T(__builtin_inf()),
          smallest = T(sizeof(T) == 8 ? 2.2250738585072014e-308 : 1.17549435e-38);
  const T lift = T(typename F::Int(1) << F::digits);
  const auto subnormal = x < Lanes<T>(smallest);
  // inputs without a logarithm are handled below; this keeps their sign bit from overflowing
  const Lanes<T> normal =
      lane_max(lane_select(subnormal, x * Lanes<T>(lift), x), Lanes<T>(smallest));
  // the exponent relative to sqrt(1/2), so that m is in the range above
  const typename F::Int root_half = bit_cast<typename F::Int>(T(0.70710678118654752440));
  const LaneInts<T> above = (LaneInts<T>)normal.v - root_half;
  const LaneInts<T> whole = above >> F::digits;
  const Lanes<T> m((typename VectorOf<T>::type)((LaneInts<T>)normal.v - (whole << F::digits)));
  const Lanes<T> n = Lanes<T>(__builtin_convertvector(whole, typename VectorOf<T>::type)) -
                     lane_select(subnormal, Lanes<T>(T(F::digits)), Lanes<T>(T(0)));
  const Lanes<T> s = (m - Lanes<T>(T(1))) / (m + Lanes<T>(T(1))), s2 = s * s;
  Lanes<T> series(T(0));
#pragma GCC unroll 32
  for (int k = F::log_terms - 1; k > 0; --k) series = s2 * (Lanes<T>(T(2) / T(2 * k + 1)) + series);
  const Lanes<T> log =
      n * Lanes<T>(F::ln2_high) + (n * Lanes<T>(F::ln2_low) + (s * series + (s + s)));
  const Lanes<T> special =
      lane_select(x == Lanes<T>(T(0)), Lanes<T>(-inf),
                  lane_select(x == Lanes<T>(inf), x, Lanes<T>(T(__builtin_nan("")))));
  return lane_select((x > Lanes<T>(T(0))) & (x < Lanes<T>(inf)), log, special);
}

// atan a = pi/4 + atan((a - 1) / (a + 1)) = pi/2 - atan(1 / a). The series needs |z| <= tan(pi/8).
template <class T>
DETCORE_HD Lanes<T> lane_atan(Lanes<T> x) {
  const Lanes<T> one(T(1)), zero(T(0)), a = lane_max(x, zero - x);
  const auto near = a < Lanes<T>(T(0.41421356237309504880));
  const auto far = a > Lanes<T>(T(2.41421356237309504880));
  const Lanes<T> above = lane_select(near, a, lane_select(far, zero - one, a - one));
  const Lanes<T> below = lane_select(near, one, lane_select(far, a, a + one));
  const Lanes<T> from = lane_select(
      near, zero,
      lane_select(far, Lanes<T>(T(1.57079632679489661923)), Lanes<T>(T(0.78539816339744830962))));
  const Lanes<T> z = above / below, z2 = z * z;
  Lanes<T> series(T(0));
#pragma GCC unroll 32
  for (int k = FloatBits<T>::atan_terms - 1; k > 0; --k)
    series = z2 * (Lanes<T>(T(k % 2 ? -1 : 1) / T(2 * k + 1)) + series);
  const Lanes<T> angle = from + (z + z * series);
  return lane_select(x == x, lane_select(x < zero, zero - angle, angle), x);
}

}  // namespace DETCORE_ISA
}  // namespace detcore
