// The functions that code compiled with -fsanitize=thread calls before every memory access. The
// sanitizer's own library is not linked.
#include <cstring>

#include "machine.h"

namespace simt {
namespace {

inline void see(const void* p, size_t bytes, bool write, Kind kind, bool maybe_padded,
                const void* pc) {
  Fiber* f = current;
  if (!f || !on_fiber(*f)) return;  // host code
  const auto address = reinterpret_cast<uintptr_t>(p);
  if (address - f->stack < kStack) return;  // local variables
  if (bytes == 0) return;
  Inside inside;
  if (kind == Kind::loose) {
    Machine& m = *inside.fiber.machine;
    give_way_now_and_then(m, *f);
    write ? release(m, *f) : acquire(m, *f);
  }
  check(*f, {address, bytes, write, kind, maybe_padded, pc});
}

// Called at the begin of each basic block of a kernel.
inline void enter(const void* pc) {
  Fiber* f = current;
  if (!f || !f->machine->counting || !on_fiber(*f)) return;
  Inside inside;
  f->steps.push_back(reinterpret_cast<uintptr_t>(pc));
}

}  // namespace

void load(void* to, const void* from, size_t bytes) {
  see(from, bytes, false, Kind::plain, false, __builtin_return_address(0));
  memcpy(to, from, bytes);
}

void store(void* to, const void* from, size_t bytes) {
  see(to, bytes, true, Kind::plain, false, __builtin_return_address(0));
  memcpy(to, from, bytes);
}

void atomic(const void* p, size_t bytes, bool is_float, const void* pc) {
  if (!current || !on_fiber(*current)) return;
  Inside inside;
  Fiber& f = inside.fiber;
  Machine& m = *inside.fiber.machine;
  give_way_now_and_then(m, f);
  release(m, f);
  acquire(m, f);
  check(f, {reinterpret_cast<uintptr_t>(p), bytes, true, Kind::atomic, false, pc});
  ++(is_float ? m.counters.float_atomics : m.counters.int_atomics);
}

}  // namespace simt

extern "C" {

#define HIDDEN __attribute__((visibility("hidden")))
#define PC __builtin_return_address(0)

// a copy of 16 bytes is mostly a copy of a struct
#define SIMT_HOOK(name, bytes, write, kind)                                                        \
  HIDDEN void __tsan_##name(void* p) { simt::see(p, bytes, write, kind, bytes > 8, PC); }
#define SIMT_HOOKS(bytes)                                                                          \
  SIMT_HOOK(read##bytes, bytes, false, simt::Kind::plain)                                          \
  SIMT_HOOK(write##bytes, bytes, true, simt::Kind::plain)                                          \
  SIMT_HOOK(volatile_read##bytes, bytes, false, simt::Kind::loose)                                 \
  SIMT_HOOK(volatile_write##bytes, bytes, true, simt::Kind::loose)
SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)

HIDDEN void __tsan_read_range(void* p, long bytes) {
  simt::see(p, size_t(bytes), false, simt::Kind::plain, true, PC);
}
HIDDEN void __tsan_write_range(void* p, long bytes) {
  simt::see(p, size_t(bytes), true, simt::Kind::plain, true, PC);
}
HIDDEN void __sanitizer_cov_trace_pc() { simt::enter(PC); }
HIDDEN void __tsan_vptr_update(void**, void*) {}
HIDDEN void __tsan_vptr_read(void**) {}
HIDDEN void __tsan_func_entry(void*) {}
HIDDEN void __tsan_func_exit() {}
HIDDEN void __tsan_init() {}

}  // extern "C"
