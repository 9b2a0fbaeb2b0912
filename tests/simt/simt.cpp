// The scheduler. Each thread of a block runs until it waits. The threads that can run do so in an
// order drawn from a seed, until all have returned or wait. A block barrier opens when all threads
// that have not returned wait at it. If no thread can run for another reason, that is a fault.
#include "simt.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <utility>

#include "machine.h"
#include "symbols.h"

#if defined(__x86_64__)
asm(R"(
  .text
  .hidden simt_switch
  .globl simt_switch
  .type simt_switch, @function
simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size simt_switch, .-simt_switch
)");
#endif

namespace simt {

Fiber* current = nullptr;

namespace {

constexpr unsigned kMostBlocksX = 0x7fffffff, kMostBlocksYZ = 65535, kMostThreadsZ = 64;
constexpr uint64_t kMostIdle = 1 << 20;

// Below the stack is a guard page, so that a stack overflow stops the program.
char* map_stack() {
  const size_t guard = size_t(sysconf(_SC_PAGESIZE));
  void* p =
      mmap(nullptr, guard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED || mprotect(p, guard, PROT_NONE) != 0) abort();
  return static_cast<char*>(p) + guard;
}

void enter() {
  Machine& m = machine();  // fibers never move to another OS thread
  current = m.current;
  m.body(m.context);
  current = nullptr;
  Fiber& f = *m.current;
  f.state = State::done;
  m.idle = 0;
  const unsigned first = f.number - f.lane;
  for (unsigned i = first; i < first + kLanes && i < m.count; ++i) {
    const Fiber& other = m.fiber(i);
    if (other.state == State::in_exchange && other.mask >> f.lane & 1)
      stop(m, "warp intrinsic with a wrong mask: " + thread_name(m, i) + " waits in " +
                  other.waits_for + " for lane " + std::to_string(f.lane) + ", which has returned");
  }
  switch_to_scheduler(m);
}

// Stacks are reused: mapping a thousand of them per block would cost more than running the block.
void begin_block(Machine& m) {
  m.block_began = m.barrier = ++m.clock;
  m.fenced = m.fenced_at_barrier = m.acquired_at_barrier = m.released = 0;
  m.queue.clear();
  m.idle = 0;
  const Index shape = m.block_shape;
  for (unsigned i = 0; i < m.count; ++i) {
    Fiber& f = m.fiber(i);
    if (!f.stack) f.stack = reinterpret_cast<uintptr_t>(map_stack());
    f.machine = &m;
    f.number = i, f.lane = i % kLanes;
    f.index = {i % shape.x, i / shape.x % shape.y, i / (shape.x * shape.y)};
    f.state = State::ready;
    f.now = m.clock;
    f.restless = 0;
    f.context.make(reinterpret_cast<char*>(f.stack), kStack, enter);
    m.queue.push_back(i);
  }
  ++m.counters.blocks;
}

std::string place(const Fiber& f) {
  if (f.state != State::at_barrier) return f.waits_for;
  const char* slash = strrchr(f.site.file, '/');
  return std::string(f.waits_for) + " in " + (slash ? slash + 1 : f.site.file) + ":" +
         std::to_string(f.site.line);
}

bool same_barrier(const Fiber& a, const Fiber& b) {
  return a.site.line == b.site.line && strcmp(a.waits_for, b.waits_for) == 0 &&
         strcmp(a.site.file, b.site.file) == 0;
}

// Called when no thread can run: opens the barrier if all threads wait at the same one, else
// reports a fault.
void open_barrier(Machine& m) {
  const Fiber *first = nullptr, *lost = nullptr;
  int sum = 0;
  for (unsigned i = 0; i < m.count; ++i) {
    const Fiber& f = m.fiber(i);
    if (f.state == State::in_exchange) lost = &f;
    if (f.state != State::at_barrier) continue;
    if (!first) first = &f;
    if (!same_barrier(*first, f))
      return stop(m, "barrier in divergent flow: " + thread_name(m, first->number) + " waits at " +
                         place(*first) + ", " + thread_name(m, i) + " at " + place(f));
    sum += f.vote;
  }
  if (lost && first)
    return stop(m, "barrier in divergent flow: " + thread_name(m, first->number) + " waits at " +
                       place(*first) + ", " + thread_name(m, lost->number) + " in " + place(*lost) +
                       " for lanes that never come");
  if (lost)
    return stop(m, "stuck: " + thread_name(m, lost->number) + " waits in " + place(*lost) +
                       " for lanes that never come");
  m.barrier_sum = sum;
  m.barrier = ++m.clock;
  m.fenced_at_barrier = m.fenced;
  ++m.counters.barriers;
  m.idle = 0;
  for (unsigned i = 0; i < m.count; ++i) {
    Fiber& f = m.fiber(i);
    if (f.state != State::at_barrier) continue;
    m.acquired_at_barrier = std::max(m.acquired_at_barrier, f.acquired);
    f.state = State::ready;
    f.now = m.clock;
    m.queue.push_back(i);
  }
}

void count_block(Machine& m) {
  if (!m.counting) return;
  for (unsigned w = 0; w * kLanes < m.count; ++w) count_warp(m, w);
}

void run_queue(Machine& m) {
  while (!m.queue.empty() && !m.failed) {
    m.batch.swap(m.queue);
    m.queue.clear();
    for (size_t i = m.batch.size(); i > 1; --i) std::swap(m.batch[i - 1], m.batch[m.draw(i)]);
    for (unsigned i : m.batch) {
      m.current = &m.fiber(i);
      Context::change(m.scheduler, m.current->context);
      m.current = nullptr;
      if (m.failed) return;
    }
  }
}

bool run_block(Machine& m) {
  begin_block(m);
  for (;;) {
    run_queue(m);
    count_block(m);
    bool alive = false;
    for (unsigned i = 0; i < m.count && !alive; ++i) alive = m.fiber(i).state != State::done;
    if (!alive) break;
    if (!m.failed) open_barrier(m);
    if (m.failed) return false;
  }
  if (m.released) m.released_blocks.push_back({m.block_began, m.released});
  return true;
}

std::string limits(Index grid, Index block, size_t shared_bytes, size_t most_shared) {
  const auto words = [](auto number, const char* what) { return std::to_string(number) + what; };
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (threads == 0 || threads > kMostThreads || block.z > kMostThreadsZ)
    return words(threads, " threads per block, sm_75 has 1 to 1024 (64 along z)");
  if (shared_bytes > most_shared)
    return words(shared_bytes, " bytes of shared memory, the kernel has asked for ") +
           std::to_string(most_shared);
  if (uint64_t(grid.x) * grid.y * grid.z == 0 || grid.x > kMostBlocksX || grid.y > kMostBlocksYZ ||
      grid.z > kMostBlocksYZ)
    return words(grid.x, " x ") + words(grid.y, " x ") + words(grid.z, " blocks") +
           ", sm_75 has 1 to 2147483647 x 65535 x 65535";
  return {};
}

// From seed 2 on, blocks run in another order: every `step`th block, modulo the grid.
bool run_grid(Machine& m) {
  const Index g = m.grid;
  const uint64_t blocks = uint64_t(g.x) * g.y * g.z;
  uint64_t step = 1, at = 0;
  if (m.seed > 1) {
    at = m.draw(blocks);
    do {
      step = 1 + m.draw(blocks);
    } while (std::gcd(step, blocks) != 1);
  }
  for (uint64_t i = 0; i < blocks; ++i, at = (at + step) % blocks) {
    m.block = {unsigned(at % g.x), unsigned(at / g.x % g.y), unsigned(at / g.x / g.y)};
    if (!run_block(m)) return false;
  }
  return true;
}

}  // namespace

Machine& machine() {
  static thread_local const std::unique_ptr<Machine> m = [] {
    auto made = std::make_unique<Machine>();
    const char* seed = getenv("DETCORE_SIMT_SEED");
    made->seed = seed ? strtoull(seed, nullptr, 10) : 1;
    return made;
  }();
  return *m;
}

void switch_to_scheduler(Machine& m) {
  Fiber* const running = std::exchange(current, nullptr);
  Context::change(m.current->context, m.scheduler);
  current = running;
}

void stop(Machine& m, std::string words) {
  m.error = std::move(words);
  m.failed = true;
  // fibers are abandoned, because nothing on their stacks owns resources
  while (m.current) switch_to_scheduler(m);
}

void fault(Machine& m, const std::string& words, const void* pc) {
  const Index b = m.block;
  stop(m, words + " (kernel " + function_name(m.kernel) + ", block (" + std::to_string(b.x) + ", " +
              std::to_string(b.y) + ", " + std::to_string(b.z) + "), " +
              thread_name(m, m.current->number) + (pc ? ", at " + code_place(pc) : "") + ")");
  abort();
}

void give_way(Machine& m, Fiber& f) {
  if (++m.idle > kMostIdle)
    fault(m, "no progress: threads spin on memory that nobody will write", nullptr);
  m.queue.push_back(f.number);
  switch_to_scheduler(m);
}

void pause() {
  if (!current) return;
  Inside inside;
  give_way(machine(), inside.fiber);
}

std::string thread_name(const Machine& m, unsigned number) {
  const Index i = m.fibers[number].index, shape = m.block_shape;
  if (shape.y == 1 && shape.z == 1) return "thread " + std::to_string(i.x);
  return "thread (" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " +
         std::to_string(i.z) + ")";
}

Index thread_index() { return current->index; }
Index block_index() { return current->machine->block; }
Index block_size() { return current->machine->block_shape; }
Index grid_size() { return current->machine->grid; }
int lane() { return int(current->lane); }
void* dynamic_shared() { return current->machine->memory.dynamic_shared(); }
const char* last_error() { return machine().error.c_str(); }
void set_seed(uint64_t seed) { machine().seed = seed; }
void set_most_blocks(unsigned blocks) { machine().most_blocks = blocks; }

int block_barrier(const char* name, int vote, Site site) {
  Machine& m = machine();
  Fiber& f = *m.current;
  f.waits_for = name, f.site = site, f.vote = vote;
  f.state = State::at_barrier;
  switch_to_scheduler(m);
  return m.barrier_sum;
}

bool grant_shared(const void* kernel, size_t bytes) {
  Machine& m = machine();
  if (bytes > kMostShared) {
    m.error = "invalid value: sm_75 has " + std::to_string(kMostShared) +
              " bytes of shared memory a block, not " + std::to_string(bytes);
    return false;
  }
  m.granted[kernel] = bytes;
  return true;
}

bool run(const void* kernel, Index grid, Index block, size_t shared_bytes, void (*body)(void*),
         void* context) {
  Machine& m = machine();
  const auto granted = m.granted.find(kernel);
  const std::string refused = limits(
      grid, block, shared_bytes, granted == m.granted.end() ? kSharedByDefault : granted->second);
  if (!refused.empty()) {
    m.error = "invalid configuration: " + refused + " (kernel " + function_name(kernel) + ")";
    return false;
  }
  static std::mutex turn;
  const std::lock_guard<std::mutex> launch(turn);
  m.failed = false;
  m.kernel = kernel, m.body = body, m.context = context;
  m.grid = grid, m.block_shape = block, m.shared_bytes = shared_bytes;
  if (m.most_blocks) m.grid.x = std::min(m.grid.x, m.most_blocks);
  m.count = block.x * block.y * block.z;
  m.random = m.seed;
  m.launch_began = ++m.clock;
  m.released_blocks.clear();
  m.statics_touched.resize(static_variables());
  m.static_bytes = 0;
  m.memory.set_dynamic_shared(shared_bytes);
  ++m.counters.launches;
  return run_grid(m);
}

}  // namespace simt
