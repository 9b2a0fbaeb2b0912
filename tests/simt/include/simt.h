// The machine under the stand-in: fibers for threads, barriers, and the exchange within a warp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

struct Index {
  unsigned x = 1, y = 1, z = 1;
};

// Where the running fiber stands.
Index thread_index();
Index block_index();
Index block_size();
Index grid_size();
int lane();
unsigned live_lanes();  // of the fiber's warp, those that have not returned

// Waits for all threads of the block that have not returned; gives the sum of their `vote`s.
int block_barrier(int vote);

// Waits for the lanes of `mask`, then shows what each brought. Valid until the warp's next
// exchange.
struct Lanes {
  uint64_t value[32];
};
const Lanes& exchange(unsigned mask, uint64_t mine);

void* dynamic_shared();

// One access of up to 16 bytes by the running fiber.
void load(void* to, const void* from, size_t bytes);
void store(void* to, const void* from, size_t bytes);

// Runs body(context) in every thread of every block. False if the launch was refused or stuck;
// last_error() tells why.
bool run(Index grid, Index block, size_t shared_bytes, void (*body)(void*), void* context);
const char* last_error();

}  // namespace simt
