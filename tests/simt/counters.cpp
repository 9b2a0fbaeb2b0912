// The simulator runs the lanes of a warp one after the other. Each logs its accesses, and at the
// warp's next sync the logs are compared: the k-th time that each lane reaches an instruction
// counts as one execution by all of them. This is exact if lanes do not diverge. If they do,
// executions that a device would separate may be counted as one, and the lanes that banks serve
// together are the next ones that take part.
#include "counters.h"

#include <algorithm>
#include <map>
#include <vector>

#include "machine.h"

namespace simt {
namespace {

constexpr uintptr_t kSector = 32;
constexpr unsigned kFewLanes = 8;
constexpr uintptr_t kBanks = 32, kBankBytes = 4;

using Lockstep = std::vector<const Logged*>;  // accesses of the lanes at the same time

size_t distinct(std::vector<uintptr_t>& values) {
  std::sort(values.begin(), values.end());
  return size_t(std::unique(values.begin(), values.end()) - values.begin());
}

void count_global(Counters& c, const Lockstep& lanes) {
  static thread_local std::vector<uintptr_t> sectors;
  sectors.clear();
  uint64_t bytes = 0;
  for (const Logged* a : lanes) {
    bytes += a->bytes;
    for (uintptr_t s = a->address / kSector; s <= (a->address + a->bytes - 1) / kSector; ++s)
      sectors.push_back(s);
  }
  const bool write = lanes[0]->write;
  ++(write ? c.global_stores : c.global_loads);
  (write ? c.store_sectors : c.load_sectors) += distinct(sectors);
  (write ? c.store_bytes : c.load_bytes) += bytes;
}

// The banks serve 128 bytes together: all lanes for 4-byte accesses, half of them for 8 bytes, a
// quarter for 16.
void count_shared(Counters& c, const Lockstep& lanes) {
  ++c.shared_accesses;
  const size_t together = std::max<size_t>(1, kBanks * kBankBytes / std::max(4u, lanes[0]->bytes));
  static thread_local std::vector<uintptr_t> words;
  for (size_t first = 0; first < lanes.size(); first += together) {
    words.clear();
    for (size_t i = first; i < std::min(first + together, lanes.size()); ++i)
      for (uintptr_t w = lanes[i]->address / kBankBytes;
           w <= (lanes[i]->address + lanes[i]->bytes - 1) / kBankBytes; ++w)
        words.push_back(w);
    words.resize(distinct(words));
    unsigned in_bank[kBanks] = {}, most = 1;
    for (uintptr_t w : words) most = std::max(most, ++in_bank[w % kBanks]);
    c.bank_conflicts += most - 1;
  }
}

void count_lockstep(Counters& c, const Lockstep& lanes) {
  if (lanes.empty()) return;
  lanes[0]->shared ? count_shared(c, lanes) : count_global(c, lanes);
}

// Replays the lanes' basic blocks and accesses as a warp: the lanes at the lowest address go first,
// together. So lanes that left a loop wait after it for the others.
void replay(Counters& c, Fiber* fibers, unsigned lanes) {
  size_t at[kLanes] = {};
  for (;;) {
    uintptr_t lowest = UINTPTR_MAX;
    for (unsigned l = 0; l < lanes; ++l)
      if (at[l] < fibers[l].steps.size()) lowest = std::min(lowest, fibers[l].steps[at[l]]);
    if (lowest == UINTPTR_MAX) break;
    unsigned active = 0;
    for (unsigned l = 0; l < lanes; ++l)
      if (at[l] < fibers[l].steps.size() && fibers[l].steps[at[l]] == lowest) ++at[l], ++active;
    ++c.steps, c.step_lanes += active, c.narrow_steps += active <= kFewLanes;
  }
  for (unsigned l = 0; l < lanes; ++l) fibers[l].steps.clear();
}

}  // namespace

void count_warp(Machine& m, unsigned warp) {
  Fiber* fibers = &m.fiber(warp * kLanes);
  const unsigned lanes = std::min(kLanes, m.count - warp * kLanes);
  replay(m.counters, fibers, lanes);
  Lockstep together;
  // as long as all active lanes do the same at each position
  size_t at = 0;
  for (;; ++at) {
    together.clear();
    bool same = true;
    for (unsigned l = 0; l < lanes && same; ++l) {
      const auto& log = fibers[l].log;
      if (log.empty()) continue;
      same = at < log.size() && (together.empty() || log[at].pc == together[0]->pc);
      if (same) together.push_back(&log[at]);
    }
    if (!same || together.empty()) break;
    count_lockstep(m.counters, together);
  }
  // after they diverge: the k-th time at an instruction
  std::map<std::pair<uintptr_t, size_t>, Lockstep> executions;
  for (unsigned l = 0; l < lanes; ++l) {
    std::map<uintptr_t, size_t> times;
    auto& log = fibers[l].log;
    for (size_t i = at; i < log.size(); ++i)
      executions[{log[i].pc, times[log[i].pc]++}].push_back(&log[i]);
  }
  for (const auto& [_, lockstep] : executions) count_lockstep(m.counters, lockstep);
  for (unsigned l = 0; l < lanes; ++l) fibers[l].log.clear();
}

void count(bool on) {
  Machine& m = machine();
  if (on) m.counters = {};
  m.counting = on;
}

const Counters& counters() { return machine().counters; }

}  // namespace simt
