// One access of a fiber, kept until its warp's lanes can be put side by side.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

struct Machine;

struct Logged {
  uintptr_t pc, address;
  uint32_t bytes;
  bool write, shared;
};

// Counts what the lanes of a warp logged since its last sync, and forgets it.
void count_warp(Machine&, unsigned warp);

}  // namespace simt
