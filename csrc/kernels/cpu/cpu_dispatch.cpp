// Selects the instruction set of the CPU kernels. The machine is queried once.
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "detcore/core.h"

namespace detcore {
namespace {

Isa current = [] {
  const char* asked = getenv("DETCORE_ISA");
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512})
    if (asked && strcmp(asked, isa_name(isa)) == 0 && isa < best_isa()) return isa;
  return best_isa();
}();

}  // namespace

Isa best_isa() {
#if defined(DETCORE_WIDE_ISAS)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::baseline;
}

Isa active_isa() { return current; }

void set_active_isa(Isa isa) { current = isa < best_isa() ? isa : best_isa(); }

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::baseline: return "baseline";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  return "unknown";
}

const char* compiled_isas() {
#if defined(DETCORE_WIDE_ISAS)
  return "baseline avx2 avx512";
#else
  return "baseline";
#endif
}

}  // namespace detcore
