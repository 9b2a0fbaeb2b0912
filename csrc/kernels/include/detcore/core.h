// What every op's contract is written in: dtypes, errors, and the host's threads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace detcore {

// Storage. Arithmetic is float for all but f64, which computes in double.
enum class DType : int8_t { f32, f64, f16, bf16 };

constexpr size_t size_of(DType dtype) {
  return dtype == DType::f64 ? 8 : dtype == DType::f32 ? 4 : 2;
}

// How an entry ended: `error` is null, or a sentence with static lifetime.
struct [[nodiscard]] Status {
  const char* error = nullptr;
  explicit operator bool() const { return error == nullptr; }
};

// The host program's threads. Kernels never start any: they hand `run` a body and it calls the
// body over disjoint ranges that cover [0, count), each at least `grain` long but the last.
// A null `run` means: on the calling thread.
struct Executor {
  using Body = void (*)(void* context, int64_t begin, int64_t end);
  void (*run)(int64_t count, int64_t grain, Body body, void* context) = nullptr;
};

// On a device, arrays of boxes, [n, 4], begin at a multiple of 16 bytes, as allocators give them
// (multiclass_nms alone takes them from anywhere); other arrays at a multiple of their element's.

// A CUDA stream (cudaStream_t), spelled so that a host without the CUDA headers can pass one.
using Stream = void*;

// The instruction sets that CPU kernels are compiled for, narrowest first.
enum class Isa : int8_t { baseline, avx2, avx512 };
Isa best_isa();            // the widest that this build has and this machine runs
Isa active_isa();          // best_isa(), unless DETCORE_ISA=baseline|avx2|avx512 asks for less
void set_active_isa(Isa);  // for tests and benchmarks; asking for more than best_isa() gives that
const char* isa_name(Isa);
const char* compiled_isas();  // names, space separated

}  // namespace detcore
