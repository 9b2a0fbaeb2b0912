// One access of a fiber, stored until the lanes of its warp can be compared.
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

// Counts the accesses that the lanes of a warp logged since its last sync, and clears the logs.
void count_warp(Machine&, unsigned warp);

}  // namespace simt
