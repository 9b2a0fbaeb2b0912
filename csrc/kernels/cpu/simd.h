// SIMD lanes and half-precision storage. Only this file has intrinsics; simd_shuffle.h, simd_math.h
// and simd_boxes.h use its functions. Everything is inline and in the namespace of the instruction
// set, so that code for a wide instruction set never serves a caller of a narrow one.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "detcore/box.h"
#include "detcore/core.h"
#include "detcore/float_bits.h"

namespace detcore {
inline namespace DETCORE_ISA {

#if defined(__AVX512F__)
constexpr int kLaneBytes = 64;
#elif defined(__AVX2__)
constexpr int kLaneBytes = 32;
#else
constexpr int kLaneBytes = 16;  // SSE2, NEON
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kLaneBytes)));
  typedef int32_t mask __attribute__((vector_size(kLaneBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kLaneBytes)));
  typedef int64_t mask __attribute__((vector_size(kLaneBytes)));
};

// The result of a comparison, lane by lane.
template <class T>
struct Mask {
  typename VectorOf<T>::mask v;
  DETCORE_HD friend Mask operator&(Mask a, Mask b) { return {a.v & b.v}; }
  DETCORE_HD friend Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }
};

template <class T>
struct Lanes {
  using Vector = typename VectorOf<T>::type;
  static constexpr int width = kLaneBytes / sizeof(T);
  Vector v;

  Lanes() = default;
  DETCORE_HD Lanes(T x) : v(x - Vector{}) {}
  DETCORE_HD explicit Lanes(Vector x) : v(x) {}
  DETCORE_HD static Lanes load(const T* p) {
    Lanes r;
    memcpy(&r.v, p, sizeof(Vector));
    return r;
  }
  DETCORE_HD void store(T* p) const { memcpy(p, &v, sizeof(Vector)); }
  // stores only the first `count` lanes
  DETCORE_HD void store(T* p, int64_t count) const {
    if (count == width) return store(p);
    memcpy(p, &v, count * sizeof(T));
  }
  DETCORE_HD static Lanes load(const T* p, int64_t count) {
    if (count == width) return load(p);
    Lanes r(T(0));
    memcpy(&r.v, p, count * sizeof(T));
    return r;
  }

  DETCORE_HD friend Lanes operator+(Lanes a, Lanes b) { return Lanes(a.v + b.v); }
  DETCORE_HD friend Lanes operator-(Lanes a, Lanes b) { return Lanes(a.v - b.v); }
  DETCORE_HD friend Lanes operator-(Lanes a) { return Lanes(-a.v); }
  DETCORE_HD friend Lanes operator*(Lanes a, Lanes b) { return Lanes(a.v * b.v); }
  DETCORE_HD friend Lanes operator/(Lanes a, Lanes b) { return Lanes(a.v / b.v); }
  DETCORE_HD friend Mask<T> operator<(Lanes a, Lanes b) { return {a.v < b.v}; }
  DETCORE_HD friend Mask<T> operator>(Lanes a, Lanes b) { return {a.v > b.v}; }
  DETCORE_HD friend Mask<T> operator>=(Lanes a, Lanes b) { return {a.v >= b.v}; }
  DETCORE_HD friend Mask<T> operator==(Lanes a, Lanes b) { return {a.v == b.v}; }
  DETCORE_HD friend Lanes lane_select(Mask<T> m, Lanes a, Lanes b) {
    return Lanes(m.v ? a.v : b.v);
  }
#if defined(__AVX512F__)
  DETCORE_HD friend Lanes lane_max(Lanes a, Lanes b) { return Lanes(max_of(a.v, b.v)); }
  DETCORE_HD friend Lanes lane_min(Lanes a, Lanes b) { return Lanes(min_of(a.v, b.v)); }

 private:
  DETCORE_HD static __m512 max_of(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
  DETCORE_HD static __m512d max_of(__m512d a, __m512d b) { return _mm512_max_pd(a, b); }
  DETCORE_HD static __m512 min_of(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
  DETCORE_HD static __m512d min_of(__m512d a, __m512d b) { return _mm512_min_pd(a, b); }
#else
  // the compiler turns these into maxps and minps
  DETCORE_HD friend Lanes lane_max(Lanes a, Lanes b) { return Lanes(a.v > b.v ? a.v : b.v); }
  DETCORE_HD friend Lanes lane_min(Lanes a, Lanes b) { return Lanes(a.v < b.v ? a.v : b.v); }
#endif
};

// 0, 1, 2, ...
template <class T>
DETCORE_HD Lanes<T> lane_indices() {
  Lanes<T> r;
  for (int i = 0; i < Lanes<T>::width; ++i) r.v[i] = T(i);
  return r;
}

// Stores the lanes as integers, rounded towards zero. They must fit 32 bits.
template <class T>
DETCORE_HD void store_whole(Lanes<T> x, int32_t* p) {
  typedef int32_t Whole __attribute__((vector_size(sizeof(int32_t) * Lanes<T>::width)));
  const Whole whole = __builtin_convertvector(x.v, Whole);
  memcpy(p, &whole, sizeof whole);
}

// Reduces all lanes as a tree. The order never depends on the data.
template <class T, class F>
DETCORE_HD T lane_reduce(Lanes<T> x, const F& both) {
  T part[Lanes<T>::width];
  x.store(part);
  for (int step = Lanes<T>::width / 2; step > 0; step /= 2)
    for (int i = 0; i < step; ++i) part[i] = both(part[i], part[i + step]);
  return part[0];
}
template <class T>
DETCORE_HD T lane_sum(Lanes<T> x) {
  return lane_reduce(x, [](T a, T b) { return a + b; });
}
template <class T>
DETCORE_HD T lane_least(Lanes<T> x) {
  return lane_reduce(x, [](T a, T b) { return lane_min(a, b); });
}
template <class T>
DETCORE_HD T lane_most(Lanes<T> x) {
  return lane_reduce(x, [](T a, T b) { return lane_max(a, b); });
}

DETCORE_HD bool lane_any(Mask<float> m) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)m.v, (__m512i)m.v) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps((__m256)m.v) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)m.v) != 0;
#else
  return m.v[0] | m.v[1] | m.v[2] | m.v[3];
#endif
}

DETCORE_HD bool lane_any(Mask<double> m) {
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask((__m512i)m.v, (__m512i)m.v) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_pd((__m256d)m.v) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_pd((__m128d)m.v) != 0;
#else
  return m.v[0] | m.v[1];
#endif
}

// One bit per lane; the first lane is the lowest bit.
DETCORE_HD uint32_t lane_bits(Mask<float> m) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)m.v);
#elif defined(__AVX2__)
  return uint32_t(_mm256_movemask_ps((__m256)m.v));
#elif defined(__SSE2__)
  return uint32_t(_mm_movemask_ps((__m128)m.v));
#else
  return uint32_t((m.v[0] & 1) | (m.v[1] & 2) | (m.v[2] & 4) | (m.v[3] & 8));
#endif
}

DETCORE_HD uint32_t lane_bits(Mask<double> m) {
#if defined(__AVX512F__)
  return _mm512_movepi64_mask((__m512i)m.v);
#elif defined(__AVX2__)
  return uint32_t(_mm256_movemask_pd((__m256d)m.v));
#elif defined(__SSE2__)
  return uint32_t(_mm_movemask_pd((__m128d)m.v));
#else
  return uint32_t((m.v[0] & 1) | (m.v[1] & 2));
#endif
}

// Half-precision storage types. All arithmetic is in float.
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

DETCORE_HD float widen(float x) { return x; }
DETCORE_HD double widen(double x) { return x; }
DETCORE_HD float widen(bf16 x) { return bit_cast<float>(uint32_t(x.bits) << 16); }
DETCORE_HD float widen(f16 x) {
#if defined(__F16C__)
  return _cvtsh_ss(x.bits);
#else
  // moves exponent and mantissa into place, then corrects the bias by an exact multiplication
  uint32_t magnitude = uint32_t(x.bits & 0x7fff) << 13;
  float scaled = bit_cast<float>(magnitude) * bit_cast<float>(uint32_t(0x77800000));  // 2^112
  uint32_t bits = magnitude >= 0x0f800000 ? magnitude | 0x7f800000 : bit_cast<uint32_t>(scaled);
  return bit_cast<float>(bits | uint32_t(x.bits & 0x8000) << 16);
#endif
}

DETCORE_HD void narrow(float x, float& out) { out = x; }
DETCORE_HD void narrow(double x, double& out) { out = x; }
DETCORE_HD void narrow(float x, bf16& out) {
  uint32_t bits = bit_cast<uint32_t>(x);
  // round to nearest even; a NaN must not round up to infinity
  out.bits =
      x != x ? uint16_t(bits >> 16 | 0x40) : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
DETCORE_HD void narrow(float x, f16& out) {
#if defined(__F16C__)
  out.bits = _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
#else
  uint32_t bits = bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) {
    out.bits = uint16_t(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
  } else if (magnitude >= 0x477ff000) {  // 65520 and more round to infinity
    out.bits = uint16_t(sign | 0x7c00);
  } else if (magnitude < 0x38800000) {  // subnormal: the addition rounds at the last bit kept
    float rounded = bit_cast<float>(magnitude) + 0.5f;
    out.bits = uint16_t(sign | (bit_cast<uint32_t>(rounded) - 0x3f000000));
  } else {
    out.bits = uint16_t(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
  }
#endif
}

// Loads and stores lanes. Half-precision storage becomes Lanes<float>; other types stay as they
// are.
template <class T>
DETCORE_HD Lanes<T> load_lanes(const T* p) {
  return Lanes<T>::load(p);
}
DETCORE_HD Lanes<float> load_lanes(const f16* p) {
#if defined(__AVX512F__)
  return Lanes<float>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__F16C__)
  return Lanes<float>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
  Lanes<float> r;
  for (int i = 0; i < Lanes<float>::width; ++i) r.v[i] = widen(p[i]);
  return r;
#endif
}
typedef uint16_t HalfLanes __attribute__((vector_size(kLaneBytes / 2)));
typedef uint32_t HalfBits __attribute__((vector_size(kLaneBytes)));
DETCORE_HD Lanes<float> load_lanes(const bf16* p) {
  HalfLanes half;
  memcpy(&half, p, sizeof half);
  return Lanes<float>(
      bit_cast<VectorOf<float>::type>(__builtin_convertvector(half, HalfBits) << 16));
}

template <class T>
DETCORE_HD void store_lanes(Lanes<T> x, T* p) {
  x.store(p);
}
DETCORE_HD void store_lanes(Lanes<float> x, f16* p) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < Lanes<float>::width; ++i) narrow(x.v[i], p[i]);
#endif
}
DETCORE_HD void store_lanes(Lanes<float> x, bf16* p) {
  const HalfBits bits = bit_cast<HalfBits>(x.v);
  const HalfBits rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  const HalfBits quiet = bits >> 16 | 0x40;  // a NaN must not round up to infinity
  const HalfLanes half = __builtin_convertvector(x.v == x.v ? rounded : quiet, HalfLanes);
  memcpy(p, &half, sizeof half);
}

// The same for the first `count` lanes only.
template <class S, class T>
DETCORE_HD void load_lanes(const S* p, int64_t count, Lanes<T>& out) {
  S part[Lanes<T>::width] = {};
  memcpy(part, p, count * sizeof(S));
  out = load_lanes(part);
}
template <class S, class T>
DETCORE_HD void store_lanes(Lanes<T> x, S* p, int64_t count) {
  S part[Lanes<T>::width];
  store_lanes(x, part);
  for (int64_t i = 0; i < count; ++i) p[i] = part[i];
}
#if defined(__AVX512F__)
DETCORE_HD void store_lanes(Lanes<float> x, float* p, int64_t count) {
  _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1), x.v);
}
DETCORE_HD void store_lanes(Lanes<float> x, f16* p, int64_t count) {
  uint16_t part[16];
  store_lanes(x, reinterpret_cast<f16*>(part));
  _mm256_mask_storeu_epi16(p, __mmask16((1u << count) - 1),
                           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(part)));
}
DETCORE_HD void store_lanes(Lanes<float> x, bf16* p, int64_t count) {
  uint16_t part[16];
  store_lanes(x, reinterpret_cast<bf16*>(part));
  _mm256_mask_storeu_epi16(p, __mmask16((1u << count) - 1),
                           _mm256_loadu_si256(reinterpret_cast<const __m256i*>(part)));
}
#elif defined(__AVX2__)
DETCORE_HD void store_lanes(Lanes<float> x, float* p, int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), lane), x.v);
}
#endif

#if defined(__AVX2__) && !defined(__AVX512F__)
// Converts eight boxes to one vector per coordinate, and back. The shuffles stay within 128 bits,
// so there are half as many as in the general version in simd_boxes.h, whose shuffles cross 128
// bits.
DETCORE_HD Box<Lanes<float>> corners_of(const float* p) {
  auto rows = [p](int i) {  // boxes i and i + 4
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 4 * i)),
                                _mm_loadu_ps(p + 4 * i + 16), 1);
  };
  const __m256 a = rows(0), b = rows(1), c = rows(2), d = rows(3);
  const __m256 low_ab = _mm256_unpacklo_ps(a, b), high_ab = _mm256_unpackhi_ps(a, b);
  const __m256 low_cd = _mm256_unpacklo_ps(c, d), high_cd = _mm256_unpackhi_ps(c, d);
  return {Lanes<float>(_mm256_shuffle_ps(low_ab, low_cd, 0x44)),
          Lanes<float>(_mm256_shuffle_ps(low_ab, low_cd, 0xee)),
          Lanes<float>(_mm256_shuffle_ps(high_ab, high_cd, 0x44)),
          Lanes<float>(_mm256_shuffle_ps(high_ab, high_cd, 0xee))};
}
DETCORE_HD void store_corners(const Box<Lanes<float>>& boxes, float* p) {
  const __m256 x1 = boxes.x1.v, y1 = boxes.y1.v, x2 = boxes.x2.v, y2 = boxes.y2.v;
  const __m256 low_1 = _mm256_unpacklo_ps(x1, y1), high_1 = _mm256_unpackhi_ps(x1, y1);
  const __m256 low_2 = _mm256_unpacklo_ps(x2, y2), high_2 = _mm256_unpackhi_ps(x2, y2);
  // boxes i and i + 4
  const __m256 a = _mm256_shuffle_ps(low_1, low_2, 0x44), b = _mm256_shuffle_ps(low_1, low_2, 0xee);
  const __m256 c = _mm256_shuffle_ps(high_1, high_2, 0x44);
  const __m256 d = _mm256_shuffle_ps(high_1, high_2, 0xee);
  _mm256_storeu_ps(p, _mm256_permute2f128_ps(a, b, 0x20));
  _mm256_storeu_ps(p + 8, _mm256_permute2f128_ps(c, d, 0x20));
  _mm256_storeu_ps(p + 16, _mm256_permute2f128_ps(a, b, 0x31));
  _mm256_storeu_ps(p + 24, _mm256_permute2f128_ps(c, d, 0x31));
}
#endif

}  // namespace DETCORE_ISA
}  // namespace detcore
