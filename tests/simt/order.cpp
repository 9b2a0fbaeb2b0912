// The order of accesses by fences and flags, in addition to barriers and exchanges. A fence
// followed by an atomic or a volatile store releases all accesses before the fence. An atomic or a
// volatile load acquires everything released until then. We don't track which flag was used, nor
// which thread of another block had the fence. So a wrong protocol with all its fences can pass,
// but a correct one is never reported.
#include <algorithm>

#include "machine.h"

namespace simt {
namespace {

bool ordered_by_other_block(const Machine& m, Time acquired, Stamp stamp) {
  if (acquired < m.block_began) return false;
  if (kind_of(stamp) != Kind::plain) return true;  // the flag itself
  const Time t = time_of(stamp);
  auto after = std::upper_bound(m.released_blocks.begin(), m.released_blocks.end(), t,
                                [](Time time, const ReleasedBlock& b) { return time < b.begin; });
  return after != m.released_blocks.begin() && t < (after - 1)->released;
}

bool ordered_by_flag(const Machine& m, Time acquired, Stamp stamp) {
  if (acquired < m.block_began) return false;
  const unsigned lane = thread_of(stamp) % kLanes, first = thread_of(stamp) - lane;
  for (unsigned i = first; i < first + kLanes && i < m.count; ++i) {
    const Fiber& f = m.fibers[i];
    if (f.release.at < m.block_began || f.release.at > acquired) continue;
    if (f.lane == lane && kind_of(stamp) != Kind::plain) return true;
    if (time_of(stamp) < (f.lane == lane ? f.release.covers : f.release.known[lane])) return true;
  }
  return false;
}

}  // namespace

bool ordered(const Machine& m, const Fiber& f, Stamp stamp) {
  const Time t = time_of(stamp);
  const Time acquired = std::max(f.acquired, m.acquired_at_barrier);
  if (t < m.block_began) return t < m.launch_began || ordered_by_other_block(m, acquired, stamp);
  if (t < m.barrier) return true;
  const unsigned thread = thread_of(stamp);
  if (thread == f.number) return true;
  if (thread / kLanes == f.number / kLanes && t < f.known[thread % kLanes]) return true;
  return ordered_by_flag(m, acquired, stamp);
}

void fence(Machine& m, Fiber& f) { f.now = f.fenced = m.fenced = ++m.clock; }

void release(Machine& m, Fiber& f) {
  const Time covers = std::max(f.fenced, m.fenced_at_barrier);
  if (covers < m.block_began) return;
  m.released = std::max(m.released, covers);
  f.release.at = ++m.clock;
  f.release.covers = covers;
  std::copy(f.known, f.known + kLanes, f.release.known);
}

void acquire(Machine& m, Fiber& f) { f.acquired = ++m.clock; }

void fence() {
  if (current) fence(machine(), *current);
}

}  // namespace simt
