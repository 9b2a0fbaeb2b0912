// The checker's knowledge about memory: the regions that kernels may touch, and for every word the
// last threads that wrote and read it.
//
// Exact checks: bounds, unwritten bytes, and order by barriers and warp exchanges, for every byte
// (the state of a word is split into bytes once they are accessed separately). Limits: two
// concurrent readers are stored per word, of different blocks or warps if possible. So a race with
// a third reader can be missed if a partial mask syncs some of the readers. There are no false
// alarms. Reads of more than 8 bytes may include padding, so they are faults only if no byte was
// written. Static shared variables are adjacent: an access past the end of one is found only if it
// is a race or reads unwritten bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace simt {

struct Machine;
struct Fiber;

using Time = uint64_t;

// An access of a word: time, kind and thread in one number, so that later accesses have larger
// numbers.
enum class Kind : uint8_t { plain, loose, atomic };  // loose: volatile
using Stamp = uint64_t;
constexpr int kTimeShift = 16;
constexpr Stamp kSplit = 1 << 15;  // each byte has its own cell
inline Time time_of(Stamp s) { return s >> kTimeShift; }
inline unsigned thread_of(Stamp s) { return unsigned(s & 1023); }
inline Kind kind_of(Stamp s) { return Kind(s >> 10 & 3); }
inline Stamp stamp_of(Time time, Kind kind, unsigned thread) {
  return time << kTimeShift | Stamp(kind) << 10 | thread;
}

struct Cell {
  Stamp write[2], read[2];
};

struct Region {
  uintptr_t begin = 0, end = 0;
  bool shared = false;
  bool ours = false;           // allocated by this class, with red zones
  Cell* words = nullptr;       // one per word of 4 bytes
  Cell* bytes = nullptr;       // four per word, used if the word is split
  uint8_t* written = nullptr;  // one bit per byte, four per word; null: all is written
};

// Allocates zeroed memory from front to back. It costs nothing until it is touched.
class Arena {
 public:
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  void* take(size_t bytes);  // null if full
  void clear() { used_ = 0; }

 private:
  char* begin_;
  size_t size_, used_ = 0;
};

struct Touch {
  uintptr_t address;
  size_t bytes;
  bool write;
  Kind kind;
  bool maybe_padded;
  const void* pc;
};

class Memory {
 public:
  Memory();
  void set_dynamic_shared(size_t bytes);
  void* dynamic_shared() { return reinterpret_cast<void*>(dynamic_.begin); }
  const Region* statics() const { return &statics_; }

  bool add(uintptr_t begin, size_t bytes, bool written, bool ours);
  void widen(uintptr_t& begin, uintptr_t& end) const;  // to include the written regions it overlaps
  bool remove(uintptr_t begin, bool only_ours);
  void clear();  // all regions not allocated by this class

  // The region that contains the address, or null. pc is the key of a cache, because an instruction
  // mostly stays within one region.
  Region* find(uintptr_t address, const void* pc) {
    Region*& r = cache_[reinterpret_cast<uintptr_t>(pc) / 4 % kCache];
    if (!r || address - r->begin >= r->end - r->begin) r = search(address);
    return r;
  }
  // The region that contains the whole range, or null
  Region* holding(uintptr_t begin, size_t bytes);
  void mark_written(Region&, uintptr_t begin, size_t bytes);
  size_t longest_unwritten(const Region&, uintptr_t begin, size_t bytes) const;  // length in bytes
  // Describes the position of an address that is in no region.
  std::string describe(uintptr_t address) const;

 private:
  Region* search(uintptr_t address);
  void forget_cache();

  std::unique_ptr<char[]> shared_arena_;
  std::vector<std::unique_ptr<Cell[]>> shared_cells_;
  Arena words_, bytes_, written_;                 // memory for cells and masks
  std::vector<std::unique_ptr<Region>> regions_;  // sorted by address
  static constexpr size_t kCache = 1024;
  Region* cache_[kCache] = {};
  Region statics_, dynamic_;
};

void check(Fiber&, const Touch&);

}  // namespace simt
