// The types that all ops' interfaces use: dtypes, errors, and the host's threads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace detcore {

// Storage types. Arithmetic is in double for f64 and in float for all others.
enum class DType : int8_t { f32, f64, f16, bf16 };

constexpr size_t size_of(DType dtype) {
  return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2;
}

// The result of an entry: `error` is null, or a message with static lifetime.
struct [[nodiscard]] Status {
  const char* error = nullptr;
  explicit operator bool() const { return error == nullptr; }
};

// The host program's threads. Kernels never start threads. They pass a body to `run`, which calls
// it for disjoint ranges that cover [0, count), each at least `grain` long except the last. If
// `run` is null, the work is done on the calling thread.
struct Executor {
  using Body = void (*)(void* context, int64_t begin, int64_t end);
  void (*run)(int64_t count, int64_t grain, Body body, void* context) = nullptr;
};

// On a device, arrays of boxes, [n, 4], must begin at a multiple of 16 bytes, as allocators return
// them (only multiclass_nms has no such limit). Other arrays must be aligned to their element.

// A CUDA stream (cudaStream_t), declared without the CUDA headers.
using Stream = void*;

// The instruction sets that CPU kernels are compiled for, narrowest first.
enum class Isa : int8_t { baseline, avx2, avx512 };
Isa best_isa();            // the widest that is in this build and runs on this machine
Isa active_isa();          // best_isa(), unless DETCORE_ISA=baseline|avx2|avx512 lowers it
void set_active_isa(Isa);  // for tests and benchmarks; limited to best_isa()
const char* isa_name(Isa);
const char* compiled_isas();  // names, space separated

}  // namespace detcore
