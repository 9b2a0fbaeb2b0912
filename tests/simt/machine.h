// What the files of the stand-in share: fibers, the block they form, and the machine that runs
// them.
//
// Order is kept by one clock that never goes back. A fiber stamps its accesses with `now`, the time
// of its last sync; `known[l]` is the time before which everything lane l did happened before what
// this fiber does. A block barrier orders all, so it needs but one time for the block.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "counters.h"
#include "memory.h"
#include "simt.h"
#include "switch.h"

namespace simt {

constexpr unsigned kLanes = 32;
constexpr size_t kStack = 128 * 1024;
constexpr unsigned kMostThreads = 1024;  // sm_75's limits
constexpr size_t kSharedByDefault = 48 * 1024, kMostShared = 64 * 1024;

enum class State : uint8_t { ready, at_barrier, in_exchange, done };

// A fiber's last write to a flag or atomic after a fence: who reads the flag sees what was before
// the fence, of this lane and of those it knew of.
struct Release {
  Time at = 0, covers = 0;
  Time known[kLanes] = {};
};

struct Machine;

struct Fiber {
  Machine* machine = nullptr;
  Context context;
  uintptr_t stack = 0;  // its lowest address
  unsigned number = 0, lane = 0;
  Index index;
  State state = State::ready;

  const char* waits_for = "";  // the barrier's or the intrinsic's name
  Site site{};
  int vote = 0;
  unsigned mask = 0;
  Combine combine = Combine::nothing;
  int from = 0;
  uint64_t brought = 0, received = 0;

  Time now = 0, fenced = 0, acquired = 0;
  Time known[kLanes] = {};
  Release release;
  unsigned restless = 0;  // volatile and atomic accesses since it last gave way

  std::vector<Logged> log;  // accesses since the warp's last sync, while they are counted
};

// A block of this launch that released something: from `begin` on, what came before `released`.
struct ReleasedBlock {
  Time begin, released;
};

struct Machine {
  std::unique_ptr<Fiber[]> fibers{new Fiber[kMostThreads]};
  std::vector<unsigned> queue, batch;  // threads that can go on; those of this round
  Context scheduler;
  Fiber* current = nullptr;
  bool failed = false;
  std::string error;

  // the launch
  const void* kernel = nullptr;
  unsigned most_blocks = 0;  // along x; 0: as launched
  Index grid, block_shape, block;
  unsigned count = 0;  // threads a block
  size_t shared_bytes = 0;
  void (*body)(void*) = nullptr;
  void* context = nullptr;
  uint64_t seed = 0, random = 0;
  uint64_t idle = 0;  // times that threads gave way since one last came forward

  // the clock, and what has happened by it
  Time clock = 1, launch_began = 0, block_began = 0;
  Time barrier = 0;  // the block's last one
  int barrier_sum = 0;
  Time fenced = 0, fenced_at_barrier = 0, acquired_at_barrier = 0;
  Time released = 0;  // of this block, for blocks after it
  std::vector<ReleasedBlock> released_blocks;

  Memory memory;
  std::vector<Time> statics_touched;  // of each static shared variable, the launch that last did
  size_t static_bytes = 0;            // touched by this launch
  std::map<const void*, size_t> granted;  // dynamic shared memory that kernels have asked for
  size_t most_shared() const { return granted.count(kernel) ? kMostShared : kSharedByDefault; }
  Counters counters{};
  bool counting = false;

  Fiber& fiber(unsigned number) { return fibers[number]; }
  // below `most`
  uint64_t draw(uint64_t most) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return (random >> 33) % most;
  }
};

Machine& machine();

// The fiber whose kernel runs; null elsewhere, in the machine's own code too: that may share inline
// functions of the library with instrumented code. Read at every access, so it is no thread_local,
// which costs a call in a module: launches take turns instead, and on_fiber() tells other OS
// threads apart.
extern Fiber* current;
inline bool on_fiber(const Fiber& f) {
  return reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - f.stack < kStack;
}

// The machine's code on a fiber's stack, on behalf of its kernel.
class Inside {
 public:
  Inside() : fiber(*current) { current = nullptr; }
  ~Inside() { current = &fiber; }
  Inside(const Inside&) = delete;
  Fiber& fiber;
};

// Ends the launch with these words; a running fiber never comes back from it. `fault` adds kernel,
// block, thread and place in the code.
void stop(Machine&, std::string words);
[[noreturn]] void fault(Machine&, const std::string& words, const void* pc);

void switch_to_scheduler(Machine&);
void give_way(Machine&, Fiber&);  // lets other threads run
// A thread that waits for a flag, or that changes what others count on, must let them come forward.
inline void give_way_now_and_then(Machine& m, Fiber& f) {
  constexpr unsigned patience = 16;
  if (++f.restless % patience == 0) give_way(m, f);
}
std::string thread_name(const Machine&, unsigned number);  // "thread 5" or "thread (5, 0, 1)"

// Whether the access that `stamp` tells of happened before what the fiber does now.
bool ordered(const Machine&, const Fiber&, Stamp stamp);
void fence(Machine&, Fiber&);
void release(Machine&, Fiber&);
void acquire(Machine&, Fiber&);

}  // namespace simt
