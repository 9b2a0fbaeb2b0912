// Shared by the files of the simulator: fibers, the block they form, and the machine that runs
// them.
//
// One clock that never goes back defines the order. A fiber stamps its accesses with `now`, the
// time of its last sync. All accesses of lane l before the time `known[l]` happened before those of
// this fiber. A block barrier orders all fibers, so it needs only one time for the block.
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

// A fiber's last write to a flag or atomic after a fence. A fiber that reads the flag sees
// everything before the fence, of this lane and of the lanes it had synced with.
struct Release {
  Time at = 0, covers = 0;
  Time known[kLanes] = {};
};

struct Machine;

struct Fiber {
  Machine* machine = nullptr;
  Context context;
  uintptr_t stack = 0;  // lowest address
  unsigned number = 0, lane = 0;
  Index index;
  State state = State::ready;

  const char* waits_for = "";  // name of the barrier or intrinsic
  Site site{};
  int vote = 0;
  unsigned mask = 0;
  Combine combine = Combine::nothing;
  int from = 0;
  uint64_t brought = 0, received = 0;

  Time now = 0, fenced = 0, acquired = 0;
  Time known[kLanes] = {};
  Release release;
  unsigned restless = 0;  // volatile and atomic accesses since it last yielded

  // since the warp's last sync, if counting is on: the accesses, and the code addresses of accesses
  // and of entered basic blocks
  std::vector<Logged> log;
  std::vector<uintptr_t> steps;
};

// A block of this launch that released its accesses from `begin` until `released`.
struct ReleasedBlock {
  Time begin, released;
};

struct Machine {
  std::unique_ptr<Fiber[]> fibers{new Fiber[kMostThreads]};
  std::vector<unsigned> queue, batch;  // threads that can run; those of this round
  Context scheduler;
  Fiber* current = nullptr;
  bool failed = false;
  std::string error;

  // the launch
  const void* kernel = nullptr;
  unsigned most_blocks = 0;  // limit along x; 0: no limit
  Index grid, block_shape, block;
  unsigned count = 0;  // threads per block
  size_t shared_bytes = 0;
  void (*body)(void*) = nullptr;
  void* context = nullptr;
  uint64_t seed = 0, random = 0;
  uint64_t idle = 0;  // yields since a thread last made progress

  // the clock, and times of events
  Time clock = 1, launch_began = 0, block_began = 0;
  Time barrier = 0;  // the block's last barrier
  int barrier_sum = 0;
  Time fenced = 0, fenced_at_barrier = 0, acquired_at_barrier = 0;
  Time released = 0;  // of this block, for blocks after it
  std::vector<ReleasedBlock> released_blocks;

  Memory memory;
  std::vector<Time> statics_touched;  // per static shared variable: the last launch that used it
  size_t static_bytes = 0;            // touched by this launch
  std::map<const void*, size_t> granted;  // dynamic shared memory that kernels requested
  size_t most_shared() const { return granted.count(kernel) ? kMostShared : kSharedByDefault; }
  Counters counters{};
  bool counting = false;

  Fiber& fiber(unsigned number) { return fibers[number]; }
  // A random number below `most`.
  uint64_t draw(uint64_t most) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return (random >> 33) % most;
  }
};

Machine& machine();

// The fiber whose kernel code runs. It is null everywhere else, also in the machine's own code,
// because that may share inline functions of the standard library with instrumented code. It is
// read at every access, so it is not thread_local, which costs a call in a module. Instead,
// launches take turns, and on_fiber() recognizes other OS threads.
extern Fiber* current;
inline bool on_fiber(const Fiber& f) {
  return reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - f.stack < kStack;
}

// Marks a scope in which the machine's own code runs on a fiber's stack.
class Inside {
 public:
  Inside() : fiber(*current) { current = nullptr; }
  ~Inside() { current = &fiber; }
  Inside(const Inside&) = delete;
  Fiber& fiber;
};

// Ends the launch with this message; it does not return to a running fiber. `fault` adds kernel,
// block, thread and code position to the message.
void stop(Machine&, std::string words);
[[noreturn]] void fault(Machine&, const std::string& words, const void* pc);

void switch_to_scheduler(Machine&);
void give_way(Machine&, Fiber&);  // lets other threads run
// A thread that polls a flag, or changes one that others poll, must let them run from time to time.
inline void give_way_now_and_then(Machine& m, Fiber& f) {
  constexpr unsigned patience = 16;
  if (++f.restless % patience == 0) give_way(m, f);
}
std::string thread_name(const Machine&, unsigned number);  // "thread 5" or "thread (5, 0, 1)"

// True if the access with this stamp happened before the fiber's current access.
bool ordered(const Machine&, const Fiber&, Stamp stamp);
void fence(Machine&, Fiber&);
void release(Machine&, Fiber&);
void acquire(Machine&, Fiber&);

}  // namespace simt
