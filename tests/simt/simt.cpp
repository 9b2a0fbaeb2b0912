// Fibers by ucontext: each thread of a block runs until it waits; the scheduler goes round the
// block until all have returned. A round in which nobody can go on is a deadlock: a barrier or a
// warp exchange that some of its threads will never reach.
#include "simt.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace simt {
namespace {

constexpr size_t kStack = 128 * 1024;
constexpr unsigned kMostThreads = 1024;  // sm_75's limits
constexpr size_t kMostDynamicShared = 48 * 1024;
constexpr unsigned kMostBlocksYZ = 65535;

enum class State { ready, at_barrier, in_exchange, done };

struct Fiber {
  ucontext_t context;
  Index index;
  State state = State::ready;
  int vote = 0;
  unsigned mask = 0;  // the exchange waited for
  uint64_t step = 0;  // exchanges entered so far
};

struct Warp {
  // two sets in turn: a lane enters exchange k + 2 only when all have read k
  Lanes lanes[2];
};

// Stacks are kept: mapping a thousand for every block would cost more than running it.
struct Stacks {
  std::vector<char*> all;
  char* at(size_t i) {
    while (all.size() <= i) {
      void* p = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) abort();
      all.push_back(static_cast<char*>(p));
    }
    return all[i];
  }
};

struct Machine {
  Stacks stacks;
  std::unique_ptr<Fiber[]> fibers{new Fiber[kMostThreads]};
  std::vector<Warp> warps{kMostThreads / 32};
  std::vector<unsigned> order;
  alignas(64) char shared[kMostDynamicShared];
  Index grid, block_shape, block;
  unsigned count = 0;  // threads a block
  Fiber* current = nullptr;
  ucontext_t scheduler;
  void (*body)(void*) = nullptr;
  void* context = nullptr;
  int barrier_sum = 0;
  uint64_t random = 0;
  std::string error;
};

Machine& machine() {
  static thread_local Machine m;
  return m;
}

unsigned number(const Fiber* f) { return unsigned(f - machine().fibers.get()); }

void enter() {
  Machine& m = machine();
  m.body(m.context);
  m.current->state = State::done;
  swapcontext(&m.current->context, &m.scheduler);
}

void wait(State state) {
  Machine& m = machine();
  m.current->state = state;
  swapcontext(&m.current->context, &m.scheduler);
}

// Threads go in a different order every round, from a seed: what depends on order shows.
void shuffle(std::vector<unsigned>& order, uint64_t& random) {
  for (size_t i = order.size(); i > 1; --i) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    std::swap(order[i - 1], order[(random >> 33) % i]);
  }
}

bool exchange_ready(const Fiber& f) {
  Machine& m = machine();
  const unsigned first = number(&f) / 32 * 32;
  for (unsigned l = 0; l < 32; ++l)
    if (f.mask >> l & 1)
      if (first + l >= m.count || m.fibers[first + l].step < f.step) return false;
  return true;
}

bool run_block() {
  Machine& m = machine();
  for (unsigned i = 0; i < m.count; ++i) {
    Fiber& f = m.fibers[i];
    f.state = State::ready;
    f.step = 0;
    f.index = {i % m.block_shape.x, i / m.block_shape.x % m.block_shape.y,
               i / (m.block_shape.x * m.block_shape.y)};
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = m.stacks.at(i);
    f.context.uc_stack.ss_size = kStack;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
  }
  for (;;) {
    bool moved = false;
    unsigned alive = 0, at_barrier = 0;
    shuffle(m.order, m.random);
    for (unsigned i : m.order) {
      Fiber& f = m.fibers[i];
      if (f.state == State::ready || (f.state == State::in_exchange && exchange_ready(f))) {
        f.state = State::ready;
        m.current = &f;
        swapcontext(&m.scheduler, &f.context);
        moved = true;
      }
      alive += f.state != State::done;
      at_barrier += f.state == State::at_barrier;
    }
    if (alive == 0) return true;
    if (at_barrier == alive) {
      m.barrier_sum = 0;
      for (unsigned i = 0; i < m.count; ++i)
        if (m.fibers[i].state == State::at_barrier) {
          m.barrier_sum += m.fibers[i].vote;
          m.fibers[i].state = State::ready;
        }
    } else if (!moved) {
      m.error = "stuck: " + std::to_string(at_barrier) + " of " + std::to_string(alive) +
                " threads wait at a barrier, the others for lanes that never come";
      return false;
    }
  }
}

}  // namespace

Index thread_index() { return machine().current->index; }
Index block_index() { return machine().block; }
Index block_size() { return machine().block_shape; }
Index grid_size() { return machine().grid; }
int lane() { return int(number(machine().current) % 32); }
void* dynamic_shared() { return machine().shared; }
void load(void* to, const void* from, size_t bytes) { memcpy(to, from, bytes); }
void store(void* to, const void* from, size_t bytes) { memcpy(to, from, bytes); }
const char* last_error() { return machine().error.c_str(); }

unsigned live_lanes() {
  Machine& m = machine();
  const unsigned first = number(m.current) / 32 * 32;
  unsigned mask = 0;
  for (unsigned l = 0; l < 32 && first + l < m.count; ++l)
    if (m.fibers[first + l].state != State::done) mask |= 1u << l;
  return mask;
}

int block_barrier(int vote) {
  machine().current->vote = vote;
  wait(State::at_barrier);
  return machine().barrier_sum;
}

const Lanes& exchange(unsigned mask, uint64_t mine) {
  Fiber* f = machine().current;
  Warp& warp = machine().warps[number(f) / 32];
  Lanes& lanes = warp.lanes[++f->step % 2];
  lanes.value[lane()] = mine;
  f->mask = mask;
  wait(State::in_exchange);
  return lanes;
}

bool run(Index grid, Index block, size_t shared_bytes, void (*body)(void*), void* context) {
  Machine& m = machine();
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || shared_bytes > kMostDynamicShared ||
      uint64_t(grid.x) * grid.y * grid.z == 0 || grid.y > kMostBlocksYZ || grid.z > kMostBlocksYZ) {
    m.error = "invalid configuration: " + std::to_string(threads) + " threads, " +
              std::to_string(shared_bytes) + " bytes of shared memory";
    return false;
  }
  const char* seed = getenv("DETCORE_SIMT_SEED");
  m.random = seed ? strtoull(seed, nullptr, 10) : 1;
  m.grid = grid, m.block_shape = block, m.count = unsigned(threads);
  m.body = body, m.context = context;
  m.order.resize(m.count);
  for (unsigned i = 0; i < m.count; ++i) m.order[i] = i;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        m.block = {x, y, z};
        memset(m.shared, 0xee, shared_bytes);  // whoever reads what nobody wrote reads nonsense
        if (!run_block()) return false;
      }
  return true;
}

}  // namespace simt
