// The interface of the simulator: threads as fibers, barriers, exchanges within a warp, and the
// memory that the checker knows. Instrumented code may call everything in this header.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

struct Index {
  unsigned x = 1, y = 1, z = 1;
};

// The position of the running fiber.
Index thread_index();
Index block_index();
Index block_size();
Index grid_size();
int lane();
unsigned live_lanes();  // lanes of the fiber's warp that have not returned

// A position in a source file. It identifies a barrier, because an inlined call has no address.
struct Site {
  const char* file;
  int line;
};

// Waits for all threads of the block that have not returned. Returns the sum of their votes.
int block_barrier(const char* name, int vote, Site);

// How a warp intrinsic combines the values of the lanes in its mask.
enum class Combine : uint8_t {
  nothing,
  pick,    // the value of lane `from`
  ballot,  // the lanes whose value is not 0
  match,   // the lanes with the same value as the caller
  add,     // add and the following have 32 bits
  min_int,
  max_int,
  min_unsigned,
  max_unsigned,
  bit_and,
  bit_or,
  bit_xor,
};

// Waits for the lanes of `mask`, which must call it with the same mask and intrinsic.
uint64_t exchange(const char* name, unsigned mask, Combine, uint64_t value, int from = 0);

void* dynamic_shared();

// One access of up to 16 bytes by the running fiber.
void load(void* to, const void* from, size_t bytes);
void store(void* to, const void* from, size_t bytes);

// Checks an atomic access, which the caller does next. No other fiber runs in between.
void atomic(const void* p, size_t bytes, bool is_float, const void* pc);
void fence();  // __threadfence() and its variants
void pause();  // lets the other threads of the block run

// --- the host's side ---------------------------------------------------------------------------

// Runs body(context) in every thread of every block. Returns false if the launch was refused or a
// fault was found; last_error() has the message. `kernel` is used for its name.
bool run(const void* kernel, Index grid, Index block, size_t shared_bytes, void (*body)(void*),
         void* context);
const char* last_error();
// Allows a kernel more dynamic shared memory than the default of 48 KiB. Returns false if it is too
// much.
bool grant_shared(const void* kernel, size_t bytes);

// Registers memory that kernels may touch. If it is not `written`, it must be written before it is
// read.
void know(const void* begin, size_t bytes, bool written);
void forget(const void* begin);
void forget_all();
void* allocate(size_t bytes);  // with red zones around it; null if out of memory
bool release(void*);           // false if there is no such allocation
// Copy or fill device memory from the host. Return false if the memory is not valid; last_error()
// has the message.
bool copy(void* to, const void* from, size_t bytes, bool from_device, bool to_device);
bool fill(void* to, int value, size_t bytes);

// Sets the seed of the order of threads. From seed 2 on it also changes the order of blocks.
void set_seed(uint64_t);
// Limits grids to this many blocks along x, so that kernels must loop over the rest. 0 means no
// limit.
void set_most_blocks(unsigned);

// The operations since count() was called. Loads, stores and shared accesses are counted per warp:
// lanes that reach an instruction the same number of times after the warp's last sync are assumed
// to execute it together. This is exact if lanes do not diverge. The steps show how far they
// diverge: the basic blocks and accesses of a warp's lanes between two syncs are replayed as on a
// device, where the lanes at the lowest address go first, together.
struct Counters {
  uint64_t launches, blocks, barriers;       // barriers: once per block
  uint64_t global_loads, global_stores;      // instructions per warp
  uint64_t load_sectors, store_sectors;      // distinct 32-byte sectors per instruction
  uint64_t load_bytes, store_bytes;          // requested by the lanes
  uint64_t shared_accesses, bank_conflicts;  // instructions per warp; extra cycles
  uint64_t int_atomics, float_atomics;       // per thread, on global and shared memory
  uint64_t steps, step_lanes, narrow_steps;  // per warp; active lanes; steps with up to 8 lanes
};
void count(bool);  // true: starts from zero; false: stops
const Counters& counters();

}  // namespace simt
