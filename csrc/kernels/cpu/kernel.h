// What every CPU kernel file needs: storage to arithmetic, threads, and the entry that picks the
// instruction set. A file <op>.cpp is compiled once an instruction set (DETCORE_ISA names it); the
// baseline's object also holds the public entry.
#pragma once

#include "detcore/dispatch.h"
#include "simd_math.h"
#include "simd.h"

namespace detcore {
inline namespace DETCORE_ISA {

// f(S{}) with S the storage type of `dtype`.
template <class F>
DETCORE_HD Status with_storage(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
    case DType::f16: return f(f16{});
    case DType::bf16: return f(bf16{});
  }
  return {"unknown dtype"};
}

template <class S>
DETCORE_HD Box<arithmetic_t<S>> load_box(const S* p) {
  return {widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])};
}

template <class S>
DETCORE_HD void store_box(S* p, const Box<arithmetic_t<S>>& b) {
  narrow(b.x1, p[0]), narrow(b.y1, p[1]), narrow(b.x2, p[2]), narrow(b.y2, p[3]);
}

// `width` boxes that stand one behind the other, as lanes of each corner. simd.h has a shorter way
// for floats where there is one.
template <class S>
DETCORE_HD Box<Lanes<arithmetic_t<S>>> corners_of(const S* p) {
  using T = arithmetic_t<S>;
  constexpr int width = Lanes<T>::width;
  const Lanes<T> a = load_lanes(p), b = load_lanes(p + width);
  const Lanes<T> c = load_lanes(p + 2 * width), d = load_lanes(p + 3 * width);
  const Lanes<T> x_low = even_lanes(a, b), y_low = odd_lanes(a, b);
  const Lanes<T> x_high = even_lanes(c, d), y_high = odd_lanes(c, d);
  return {even_lanes(x_low, x_high), even_lanes(y_low, y_high), odd_lanes(x_low, x_high),
          odd_lanes(y_low, y_high)};
}

template <class S>
DETCORE_HD void store_corners(const Box<Lanes<arithmetic_t<S>>>& boxes, S* p) {
  using T = arithmetic_t<S>;
  constexpr int width = Lanes<T>::width;
  const Lanes<T> x_low = zip_low(boxes.x1, boxes.x2), x_high = zip_high(boxes.x1, boxes.x2);
  const Lanes<T> y_low = zip_low(boxes.y1, boxes.y2), y_high = zip_high(boxes.y1, boxes.y2);
  store_lanes(zip_low(x_low, y_low), p), store_lanes(zip_high(x_low, y_low), p + width);
  store_lanes(zip_low(x_high, y_high), p + 2 * width);
  store_lanes(zip_high(x_high, y_high), p + 3 * width);
}

// `count` <= width boxes that stand one behind the other, as lanes of each corner; lanes beyond
// them are zero.
template <class S, class T = arithmetic_t<S>>
DETCORE_HD Box<Lanes<T>> load_boxes(const S* p, int64_t count = Lanes<T>::width) {
  constexpr int width = Lanes<T>::width;
  S padded[4 * width];
  if (count < width) {
    memset(padded, 0, sizeof padded);
    memcpy(padded, p, 4 * count * sizeof(S));
    p = padded;
  }
  return corners_of(p);
}

template <class S, class T = arithmetic_t<S>>
DETCORE_HD void store_boxes(const Box<Lanes<T>>& boxes, S* p, int64_t count = Lanes<T>::width) {
  constexpr int width = Lanes<T>::width;
  S padded[4 * width];
  store_corners(boxes, count < width ? padded : p);
  if (count < width) memcpy(p, padded, 4 * count * sizeof(S));
}

template <class T>
DETCORE_HD T centre(T low, T high) {
  return T(0.5f) * low + T(0.5f) * high;
}

// Which boxes share a point within both: the others' intersection is 0, without a product.
template <class T>
DETCORE_HD Mask<T> overlapping(const Box<Lanes<T>>& a, const Box<Lanes<T>>& b) {
  const Lanes<T> w = lane_min(a.x2, b.x2) - lane_max(a.x1, b.x1);
  const Lanes<T> h = lane_min(a.y2, b.y2) - lane_max(a.y1, b.y1);
  return lane_min(w, h) > Lanes<T>(T(0));
}

// f(begin, end) over [0, count), on the caller's threads.
template <class F>
DETCORE_HD void parallel_for(const Executor& executor, int64_t count, int64_t grain, const F& f) {
  if (count <= 0) return;
  if (!executor.run || count <= grain) return f(0, count);
  Executor::Body body = [](void* context, int64_t begin, int64_t end) {
    (*static_cast<const F*>(context))(begin, end);
  };
  executor.run(count, grain, body, const_cast<F*>(&f));
}

// Cuts a workspace into arrays, 64-byte aligned. With a null base it only counts the bytes.
struct Arena {
  char* base;
  size_t used = 0;
  template <class T>
  DETCORE_HD T* take(int64_t count) {
    T* p = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (count * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

DETCORE_HD int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
DETCORE_HD int64_t at_least(int64_t low, int64_t x) { return x < low ? low : x; }
DETCORE_HD int64_t at_most(int64_t high, int64_t x) { return x > high ? high : x; }

// f(i, count) for the pieces of [0, n), a vector of T or less each, on the caller's threads.
template <class T, class F>
DETCORE_HD void each_vector(const Executor& executor, int64_t n, int64_t grain, const F& f) {
  constexpr int64_t width = Lanes<T>::width;
  parallel_for(executor, divide_up(n, width), divide_up(grain, width),
               [&](int64_t begin, int64_t end) {
                 for (int64_t v = begin; v < end; ++v) f(v * width, at_most(width, n - v * width));
               });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

// The public entry <op>_cpu, which hands its arguments to the active instruction set's <op>.
#if !defined(DETCORE_ISA_IS_BASELINE)
#define DETCORE_CPU_ENTRY(op, Params)
#elif defined(DETCORE_WIDE_ISAS)
#define DETCORE_CPU_ENTRY(op, Params)                                                              \
  namespace detcore {                                                                              \
  namespace avx2 {                                                                                 \
  Status op(const Params&, const Executor&);                                                       \
  }                                                                                                \
  namespace avx512 {                                                                               \
  Status op(const Params&, const Executor&);                                                       \
  }                                                                                                \
  Status op##_cpu(const Params& params, const Executor& executor) {                                \
    switch (active_isa()) {                                                                        \
      case Isa::avx512: return avx512::op(params, executor);                                       \
      case Isa::avx2: return avx2::op(params, executor);                                           \
      case Isa::baseline: return baseline::op(params, executor);                                   \
    }                                                                                              \
    return {"unknown instruction set"};                                                            \
  }                                                                                                \
  }
#else
#define DETCORE_CPU_ENTRY(op, Params)                                                              \
  namespace detcore {                                                                              \
  Status op##_cpu(const Params& params, const Executor& executor) {                                \
    return baseline::op(params, executor);                                                         \
  }                                                                                                \
  }
#endif
