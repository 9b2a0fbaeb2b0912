// Warp exchanges: the last lane of a mask to arrive computes the results of all lanes.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "machine.h"

namespace simt {
namespace {

constexpr const char* kWrong = "warp intrinsic with a wrong mask: ";

std::string hex(unsigned mask) {
  char text[16];
  snprintf(text, sizeof text, "0x%08x", mask);
  return text;
}

std::string lane_name(unsigned lane) { return "lane " + std::to_string(lane); }

// Checks for faults that are visible when a lane arrives.
void check_arrival(Machine& m, const Fiber& f, const void* pc) {
  const unsigned first = f.number - f.lane;
  const std::string call = std::string(f.waits_for) + " with mask " + hex(f.mask);
  if (!(f.mask >> f.lane & 1))
    fault(m, kWrong + lane_name(f.lane) + " calls " + call + ", which does not name it", pc);
  for (unsigned l = 0; l < kLanes; ++l) {
    if (!(f.mask >> l & 1)) continue;
    if (first + l >= m.count)
      fault(m, kWrong + call + " names " + lane_name(l) + ", which the block does not have", pc);
    const Fiber& other = m.fiber(first + l);
    if (other.state == State::done)
      fault(m, kWrong + call + " names " + lane_name(l) + ", which has returned", pc);
    if (other.state != State::in_exchange || !(other.mask >> f.lane & 1)) continue;
    if (other.mask != f.mask)
      fault(m,
            kWrong + lane_name(f.lane) + " calls " + call + ", " + lane_name(l) + " calls " +
                other.waits_for + " with mask " + hex(other.mask),
            pc);
    if (strcmp(other.waits_for, f.waits_for) != 0)
      fault(m,
            "lanes of one exchange call different intrinsics: " + lane_name(f.lane) + " " +
                f.waits_for + ", " + lane_name(l) + " " + other.waits_for,
            pc);
  }
}

bool all_here(Machine& m, const Fiber& f) {
  for (unsigned rest = f.mask, first = f.number - f.lane; rest; rest &= rest - 1) {
    const Fiber& other = m.fiber(first + unsigned(__builtin_ctz(rest)));
    if (other.state != State::in_exchange || other.mask != f.mask) return false;
  }
  return true;
}

uint64_t combined(Combine combine, uint64_t a, uint64_t b) {
  const auto x = uint32_t(a), y = uint32_t(b);
  switch (combine) {
    case Combine::add: return x + y;
    case Combine::min_int: return uint32_t(std::min(int32_t(x), int32_t(y)));
    case Combine::max_int: return uint32_t(std::max(int32_t(x), int32_t(y)));
    case Combine::min_unsigned: return std::min(x, y);
    case Combine::max_unsigned: return std::max(x, y);
    case Combine::bit_and: return x & y;
    case Combine::bit_or: return x | y;
    case Combine::bit_xor: return x ^ y;
    default: return 0;
  }
}

uint64_t received(Machine& m, const Fiber& f, const void* pc) {
  const Fiber* lanes = &m.fiber(f.number - f.lane);
  if (f.combine == Combine::nothing) return 0;
  if (f.combine == Combine::pick) {
    if (!(f.mask >> f.from & 1))
      fault(m,
            kWrong + lane_name(f.lane) + " reads " + lane_name(unsigned(f.from)) + " by " +
                f.waits_for + " with mask " + hex(f.mask) + ", which does not name it",
            pc);
    return lanes[f.from].brought;
  }
  uint64_t result = 0;
  bool first = true;
  for (unsigned rest = f.mask; rest; rest &= rest - 1) {
    const unsigned l = unsigned(__builtin_ctz(rest));
    const uint64_t value = lanes[l].brought;
    if (f.combine == Combine::ballot)
      result |= uint64_t(value != 0) << l;
    else if (f.combine == Combine::match)
      result |= uint64_t(value == f.brought) << l;
    else
      result = first ? value : combined(f.combine, result, value);
    first = false;
  }
  return result;
}

// Orders all earlier accesses of the mask's lanes before all later ones.
void order_lanes(Machine& m, Fiber* lanes, unsigned mask) {
  Time joined[kLanes] = {}, acquired = 0;
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    const Fiber& f = lanes[__builtin_ctz(rest)];
    for (unsigned k = 0; k < kLanes; ++k) joined[k] = std::max(joined[k], f.known[k]);
    acquired = std::max(acquired, f.acquired);
  }
  const Time now = ++m.clock;
  for (unsigned rest = mask; rest; rest &= rest - 1) joined[__builtin_ctz(rest)] = now;
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    Fiber& f = lanes[__builtin_ctz(rest)];
    std::copy(joined, joined + kLanes, f.known);
    f.acquired = acquired;
    f.now = now;
  }
}

void complete(Machine& m, Fiber& last, const void* pc) {
  Fiber* lanes = &m.fiber(last.number - last.lane);
  const unsigned mask = last.mask;
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    Fiber& f = lanes[__builtin_ctz(rest)];
    f.received = received(m, f, pc);
  }
  for (unsigned rest = mask; rest; rest &= rest - 1) {
    Fiber& f = lanes[__builtin_ctz(rest)];
    f.state = State::ready;
    if (&f != &last) m.queue.push_back(f.number);
  }
  order_lanes(m, lanes, mask);
  m.idle = 0;
  if (m.counting && (live_lanes() & ~mask) == 0) count_warp(m, last.number / kLanes);
}

}  // namespace

unsigned live_lanes() {
  Machine& m = machine();
  const unsigned first = m.current->number - m.current->lane;
  unsigned mask = 0;
  for (unsigned l = 0; l < kLanes && first + l < m.count; ++l)
    if (m.fiber(first + l).state != State::done) mask |= 1u << l;
  return mask;
}

uint64_t exchange(const char* name, unsigned mask, Combine combine, uint64_t value, int from) {
  const void* pc = __builtin_return_address(0);
  Inside inside;
  Machine& m = *inside.fiber.machine;
  Fiber& f = inside.fiber;
  f.waits_for = name, f.mask = mask, f.combine = combine, f.brought = value, f.from = from;
  f.state = State::in_exchange;
  check_arrival(m, f, pc);
  if (all_here(m, f))
    complete(m, f, pc);
  else
    switch_to_scheduler(m);
  return f.received;
}

}  // namespace simt
