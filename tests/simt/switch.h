// A fiber's context, and the switch from one to another. ucontext needs a system call per switch to
// save the signal mask; on x86-64 we use a dozen instructions instead.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)

// Saves the callee-saved registers on the stack, and the stack pointer in *from, then continues
// where `to` was saved.
extern "C" __attribute__((visibility("hidden"))) void simt_switch(void** from, void* to);

namespace simt {

struct Context {
  void* top = nullptr;

  void make(char* stack, size_t bytes, void (*entry)()) {
    auto* slots = reinterpret_cast<uintptr_t*>(stack + bytes);
    *--slots = 0;  // return address of entry; also aligns to 16 bytes as after a call
    *--slots = reinterpret_cast<uintptr_t>(entry);
    for (int kept = 0; kept < 6; ++kept) *--slots = 0;
    top = slots;
  }
  static void change(Context& from, Context& to) { simt_switch(&from.top, to.top); }
};

}  // namespace simt

#else
#include <ucontext.h>

namespace simt {

struct Context {
  ucontext_t context;

  void make(char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = bytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  static void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
};

}  // namespace simt

#endif
