// Included by every CPU kernel file: dispatch by dtype, the caller's threads, the workspace, and
// the entry that selects the instruction set. Each <op>.cpp is compiled once per instruction set
// (DETCORE_ISA names it). The baseline object also contains the public entry.
#pragma once

#include "detcore/dispatch.h"
#include "simd_boxes.h"
#include "simd_math.h"

namespace detcore {
inline namespace DETCORE_ISA {

// Calls f(S{}), where S is the storage type of `dtype`.
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

// Calls f(begin, end) for parts of [0, count), on the caller's threads.
template <class F>
DETCORE_HD void parallel_for(const Executor& executor, int64_t count, int64_t grain, const F& f) {
  if (count <= 0) return;
  if (!executor.run || count <= grain) return f(0, count);
  Executor::Body body = [](void* context, int64_t begin, int64_t end) {
    (*static_cast<const F*>(context))(begin, end);
  };
  executor.run(count, grain, body, const_cast<F*>(&f));
}

// Units of work per thread: small units are grouped, because each thread costs time too.
DETCORE_HD int64_t grain_of(double operations_a_unit) {
  constexpr double enough = 1 << 19;  // about 50 us
  return operations_a_unit < enough ? int64_t(enough / (operations_a_unit + 1)) + 1 : 1;
}

// Divides a workspace into arrays aligned to 64 bytes. With a null base it only counts the bytes.
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

// Calls f(i, count) for parts of [0, n), on the caller's threads. A part is at most one vector of
// T.
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

// The public entry <op>_cpu, which calls <op> of the active instruction set.
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
