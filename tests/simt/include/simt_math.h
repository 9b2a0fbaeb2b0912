// Bit operations and arithmetic; part of cuda_runtime.h. Approximate functions are exact here.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

// --- bits --------------------------------------------------------------------------------------

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)(x)) : 64; }
inline unsigned long long __brevll(unsigned long long x) {
  unsigned long long reversed = 0;
  for (int i = 0; i < 64; ++i) reversed |= (x >> i & 1) << (63 - i);
  return reversed;
}
inline unsigned __brev(unsigned x) { return unsigned(__brevll(x) >> 32); }
// extracts 32 bits of high:low, shifted by the low 5 bits of `shift` (c: by at most 32)
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline unsigned __funnelshift_lc(unsigned low, unsigned high, unsigned shift) {
  return shift >= 32 ? low : __funnelshift_l(low, high, shift);
}
inline unsigned __funnelshift_rc(unsigned low, unsigned high, unsigned shift) {
  return shift >= 32 ? high : __funnelshift_r(low, high, shift);
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t both = uint64_t(high) << 32 | low;
  unsigned out = 0;
  for (int i = 0; i < 4; ++i)
    out |= unsigned(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
  return out;
}

// --- one type's bits as another ----------------------------------------------------------------

template <class To, class From>
To simt_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &x, sizeof to);
  return to;
}
inline int __float_as_int(float x) { return simt_as<int>(x); }
inline unsigned __float_as_uint(float x) { return simt_as<unsigned>(x); }
inline float __int_as_float(int x) { return simt_as<float>(x); }
inline float __uint_as_float(unsigned x) { return simt_as<float>(x); }
inline long long __double_as_longlong(double x) { return simt_as<long long>(x); }
inline double __longlong_as_double(long long x) { return simt_as<double>(x); }
inline int __double2hiint(double x) { return int(simt_as<uint64_t>(x) >> 32); }
inline int __double2loint(double x) { return int(simt_as<uint64_t>(x)); }
inline double __hiloint2double(int high, int low) {
  return simt_as<double>(uint64_t(unsigned(high)) << 32 | unsigned(low));
}

// --- integers ----------------------------------------------------------------------------------

inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return (unsigned long long)(Wide(a) * b >> 64);
}
inline unsigned umin(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned umax(unsigned a, unsigned b) { return a > b ? a : b; }

// CUDA's min and max are global functions; for floats they prefer a number to NaN
template <class A, class B>
using simt_number =
    std::enable_if_t<std::is_arithmetic_v<A> && std::is_arithmetic_v<B>, std::common_type_t<A, B>>;
template <class A, class B>
simt_number<A, B> min(A a, B b) {
  using T = simt_number<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmin(T(a), T(b));
  return T(a) < T(b) ? T(a) : T(b);
}
template <class A, class B>
simt_number<A, B> max(A a, B b) {
  using T = simt_number<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(T(a), T(b));
  return T(a) > T(b) ? T(a) : T(b);
}

// --- floats ------------------------------------------------------------------------------------

// glibc's headers declare some of these names already, so we replace them by macros
inline float simt_rsqrt(float x) { return 1.0f / std::sqrt(x); }
inline double simt_rsqrt(double x) { return 1.0 / std::sqrt(x); }
#define rsqrtf(x) ::simt_rsqrt(float(x))
#define rsqrt(x) ::simt_rsqrt(x)
#define __expf(x) ::expf(x)
#define __exp10f(x) ::powf(10.0f, x)
#define __logf(x) ::logf(x)
#define __log2f(x) ::log2f(x)
#define __log10f(x) ::log10f(x)
#define __powf(x, y) ::powf(x, y)
#define __sinf(x) ::sinf(x)
#define __cosf(x) ::cosf(x)
#define __tanf(x) ::tanf(x)

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __drcp_rn(double x) { return 1.0 / x; }
inline double __dsqrt_rn(double x) { return std::sqrt(x); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

// converts to an integer as the device does: NaN becomes 0, and values out of range are clamped
template <class To, class From>
To simt_to_int(From x) {
  using Limits = std::numeric_limits<To>;
  if (x != x) return 0;
  if (double(x) <= double(Limits::lowest())) return Limits::lowest();
  return double(x) >= double(Limits::max()) ? Limits::max() : To(x);
}
inline int __float2int_rz(float x) { return simt_to_int<int>(x); }
inline int __float2int_rn(float x) { return simt_to_int<int>(std::nearbyint(x)); }
inline int __float2int_rd(float x) { return simt_to_int<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return simt_to_int<int>(std::ceil(x)); }
inline unsigned __float2uint_rz(float x) { return simt_to_int<unsigned>(x); }
inline unsigned __float2uint_rn(float x) { return simt_to_int<unsigned>(std::nearbyint(x)); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
