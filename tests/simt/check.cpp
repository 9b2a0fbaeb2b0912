// Checks one access by a fiber: whether it is in bounds, whether the bytes were written, and
// whether it is ordered after earlier accesses of the same bytes.
#include <algorithm>
#include <string>

#include "machine.h"
#include "symbols.h"

namespace simt {
namespace {

constexpr uintptr_t kWord = 4;

// The data that is the same for all words of an access.
struct Look {
  Machine& m;
  Fiber& f;
  const Touch& touch;
  const Region& region;
  Stamp stamp, oldest;  // oldest: earlier accesses are ignored
};

std::string place(const Look& look) {
  const uintptr_t address = look.touch.address;
  const Variable v = look.region.shared ? static_variable(address) : Variable{};
  if (v.index >= 0) return name_of(v) + " + " + std::to_string(address - v.begin);
  return "byte " + std::to_string(address - look.region.begin) +
         (look.region.shared
              ? " of dynamic shared memory"
              : " of an allocation of " + std::to_string(look.region.end - look.region.begin));
}

std::string accessed(const Touch& t) {
  const char* how = t.kind == Kind::atomic ? "does an atomic on " : t.write ? "writes " : "reads ";
  return how + std::to_string(t.bytes) + " bytes";
}

const char* memory_name(const Look& look) { return look.region.shared ? "shared" : "global"; }

[[noreturn]] void race(const Look& look, Stamp other, bool other_wrote) {
  const Machine& m = look.m;
  const bool same_block = time_of(other) >= m.block_began;
  const char* did = kind_of(other) == Kind::atomic ? " changed by an atomic"
                    : other_wrote                  ? " wrote"
                                                   : " read";
  fault(look.m,
        std::string("race on ") + memory_name(look) + " memory: " + thread_name(m, look.f.number) +
            " " + accessed(look.touch) + " at " + place(look) + ", which " +
            (same_block ? thread_name(m, thread_of(other)) : std::string("another block")) + did +
            ", and nothing orders the two",
        look.touch.pc);
}

inline void meet(const Look& look, Stamp other, bool other_wrote) {
  if (other < look.oldest) return;
  if (look.touch.kind != Kind::plain && kind_of(other) != Kind::plain) return;
  if (!ordered(look.m, look.f, other)) race(look, other, other_wrote);
}

// Keeps two unordered accesses, of different blocks or warps if possible.
void keep(const Look& look, Stamp (&slots)[2]) {
  const auto warp = [&](Stamp s) {
    return time_of(s) < look.m.block_began ? ~0u : thread_of(s) / kLanes;
  };
  for (Stamp& s : slots)
    if (s < look.oldest || (kind_of(s) == look.touch.kind && ordered(look.m, look.f, s))) {
      s = look.stamp;
      return;
    }
  if (warp(slots[0]) == warp(slots[1])) slots[1] = look.stamp;
}

inline void touch_cell(const Look& look, Cell& c) {
  if (!look.touch.write) {
    if (c.read[0] == look.stamp || c.read[1] == look.stamp) return;
    meet(look, c.write[0], true), meet(look, c.write[1], true);
    keep(look, c.read);
    return;
  }
  meet(look, c.write[0], true), meet(look, c.write[1], true);
  meet(look, c.read[0], false), meet(look, c.read[1], false);
  if (look.touch.kind == Kind::plain)
    c = {{look.stamp, 0}, {0, 0}};
  else
    keep(look, c.write);
}

bool is_split(const Look& look, const Cell& c) {
  return (c.write[0] & kSplit) && c.write[0] >= look.oldest;
}

inline bool cell_written(const Look& look, const Cell& c) {
  return c.write[0] >= look.oldest || c.write[1] >= look.oldest;
}

// Checks a word, or some bytes of it. Returns the number of unwritten bytes.
inline unsigned touch_word(const Look& look, size_t word, unsigned mask) {
  Cell& cell = look.region.words[word];
  const bool split = is_split(look, cell);
  unsigned unwritten = 0;
  uint8_t* written = look.region.written;
  if (!look.region.shared && written) {
    if (!look.touch.write || look.touch.kind == Kind::atomic)
      unwritten = unsigned(__builtin_popcount(mask & ~written[word]));
    if (look.touch.write) written[word] |= uint8_t(mask);
  }
  const bool reads = !look.touch.write || look.touch.kind == Kind::atomic;
  const bool by_cell = look.region.shared && reads;
  if (mask == 15 && !split) {
    if (by_cell && !cell_written(look, cell)) return 4;
    touch_cell(look, cell);
    return unwritten;
  }
  Cell* bytes = look.region.bytes + 4 * word;
  if (!split) {
    for (int b = 0; b < 4; ++b) bytes[b] = cell;
    cell.write[0] = stamp_of(look.m.clock, Kind::plain, 0) | kSplit;
  }
  for (int b = 0; b < 4; ++b) {
    if (!(mask >> b & 1)) continue;
    if (by_cell && !cell_written(look, bytes[b]))
      ++unwritten;
    else
      touch_cell(look, bytes[b]);
  }
  if (mask == 15 && look.touch.write && look.touch.kind == Kind::plain) cell = bytes[0];
  return unwritten;
}

[[noreturn]] void outside(Machine& m, const Touch& t) {
  const std::string what = "access outside an allocation: " + thread_name(m, m.current->number) +
                           " " + accessed(t) + ", ";
  for (unsigned i = 0; i < m.count; ++i)
    if (t.address - m.fiber(i).stack < kStack)
      fault(m, what + "a local variable of " + thread_name(m, i), t.pc);
  fault(m, what + m.memory.describe(t.address), t.pc);
}

[[noreturn]] void misaligned(const Look& look) {
  fault(look.m,
        "misaligned access: " + thread_name(look.m, look.f.number) + " " + accessed(look.touch) +
            " at " + place(look),
        look.touch.pc);
}

// The static shared memory of a launch is the sum of the variables that its threads touch.
void note_static(Machine& m, uintptr_t address, const void* pc) {
  const Variable v = static_variable(address);
  if (v.index < 0 || m.statics_touched[size_t(v.index)] == m.launch_began) return;
  m.statics_touched[size_t(v.index)] = m.launch_began;
  m.static_bytes += v.end - v.begin;
  if (m.static_bytes + m.shared_bytes > m.most_shared())
    fault(m,
          "invalid configuration: " + std::to_string(m.static_bytes) + " bytes of static and " +
              std::to_string(m.shared_bytes) + " of dynamic shared memory, sm_75 has " +
              std::to_string(m.most_shared()) + " a block",
          pc);
}

}  // namespace

void check(Fiber& f, const Touch& t) {
  Machine& m = *f.machine;
  const Region* r = m.memory.find(t.address, t.pc);
  if (!r || t.address + t.bytes > r->end) {
    const Module& module = this_module();
    if (!r && !t.write && t.address - module.begin < module.end - module.begin) return;  // constant
    outside(m, t);
  }
  const Time oldest = r->shared ? m.block_began : m.launch_began;
  const Look look{m, f, t, *r, stamp_of(f.now, t.kind, f.number), stamp_of(oldest, Kind::plain, 0)};
  if (!t.maybe_padded && (t.address & (t.bytes - 1))) misaligned(look);
  if (m.counting) {
    const auto pc = reinterpret_cast<uintptr_t>(t.pc);
    f.steps.push_back(pc);
    if (t.kind != Kind::atomic)
      f.log.push_back({pc, t.address, uint32_t(t.bytes), t.write, r->shared});
  }
  const uintptr_t base = r->begin / kWord * kWord, end = t.address + t.bytes;
  unsigned unwritten = 0;
  for (uintptr_t a = t.address; a < end;) {
    const size_t word = (a - base) / kWord;
    const uintptr_t next = std::min(end, base + (word + 1) * kWord);
    const unsigned mask = ((1u << (next - a)) - 1) << (a % kWord);
    if (r == m.memory.statics() && !cell_written(look, r->words[word])) note_static(m, a, t.pc);
    unwritten += touch_word(look, word, mask);
    a = next;
  }
  if (unwritten && (!t.maybe_padded || unwritten == t.bytes))
    fault(m,
          std::string("memory is read that nobody wrote: ") + thread_name(m, f.number) + " " +
              accessed(t) + " of " + memory_name(look) + " memory at " + place(look),
          t.pc);
}

}  // namespace simt
