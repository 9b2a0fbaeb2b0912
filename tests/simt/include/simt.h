// The machine under the stand-in: fibers for threads, barriers, exchanges within a warp, and the
// memory that the checker knows of. Everything here may be called from instrumented code.
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

// A place in a source file. Barriers are told apart by it: an inlined call has no address of its
// own.
struct Site {
  const char* file;
  int line;
};

// Waits for all threads of the block that have not returned; gives the sum of their `vote`s.
int block_barrier(const char* name, int vote, Site);

// What a warp intrinsic makes of the values that the lanes of its mask bring.
enum class Combine : uint8_t {
  nothing,
  pick,    // the value of lane `from`
  ballot,  // the lanes whose value is not 0
  match,   // the lanes whose value is the caller's
  add,     // of 32 bits, as the rest
  min_int,
  max_int,
  min_unsigned,
  max_unsigned,
  bit_and,
  bit_or,
  bit_xor,
};

// Waits for the lanes of `mask`, which must come with the same mask and the same intrinsic.
uint64_t exchange(const char* name, unsigned mask, Combine, uint64_t value, int from = 0);

void* dynamic_shared();

// One access of up to 16 bytes by the running fiber.
void load(void* to, const void* from, size_t bytes);
void store(void* to, const void* from, size_t bytes);

// Announces an atomic access, which the caller then makes: nothing else runs until it has.
void atomic(const void* p, size_t bytes, bool is_float, const void* pc);
void fence();  // __threadfence() and its kin
void pause();  // lets the other threads of the block go on

// --- the host's side ---------------------------------------------------------------------------

// Runs body(context) in every thread of every block. False if the launch was refused or a fault was
// found; last_error() tells which. `kernel` gives the launch its name.
bool run(const void* kernel, Index grid, Index block, size_t shared_bytes, void (*body)(void*),
         void* context);
const char* last_error();
// Lets a kernel have more dynamic shared memory than the 48 KiB that every kernel may have. False:
// there is not so much.
bool grant_shared(const void* kernel, size_t bytes);

// Memory that kernels may touch. What is not `written` must be, before it is read.
void know(const void* begin, size_t bytes, bool written);
void forget(const void* begin);
void forget_all();
void* allocate(size_t bytes);  // with red zones about it; null if there is no memory
bool release(void*);           // false: there is no such allocation
// Whether the host's copy or fill of device memory is one; if not, last_error() tells why.
bool copy(void* to, const void* from, size_t bytes, bool from_device, bool to_device);
bool fill(void* to, int value, size_t bytes);

// Decides the order of threads, and from 2 on of blocks too.
void set_seed(uint64_t);
// Cuts grids to so many blocks along x, so that kernels must stride over the rest; 0: does not.
void set_most_blocks(unsigned);

// What was done since count() was called. Loads, stores and shared accesses are counted by the
// warp: lanes that come to an instruction the same number of times after the warp's last sync are
// taken to execute it together. That is exact where lanes do not diverge.
struct Counters {
  uint64_t launches, blocks, barriers;       // barriers: once a block
  uint64_t global_loads, global_stores;      // instructions of a warp
  uint64_t load_sectors, store_sectors;      // of 32 bytes, distinct within an instruction
  uint64_t load_bytes, store_bytes;          // asked for by the lanes
  uint64_t shared_accesses, bank_conflicts;  // instructions of a warp; cycles beyond the first
  uint64_t int_atomics, float_atomics;       // by threads, on global and shared memory
};
void count(bool);  // starts from zero, or stops
const Counters& counters();

}  // namespace simt
