// What the checker knows about memory: regions that kernels may touch, and for every word of them
// who wrote and read it last.
//
// Exact: bounds; unwritten bytes; order by barriers and warp exchanges, to the byte (a word's state
// is split into its bytes once they are accessed apart). Of many concurrent readers two are
// remembered, if possible of different blocks or warps, so a race with one that was forgotten can
// be missed where a partial mask syncs some of them; there are no false alarms. Copies of more than
// 8 bytes may hold padding, so they are only told off if nothing in them was written. Static shared
// variables lie side by side: who runs over one's end is caught where it races, or reads what
// nobody wrote.
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

// Who accessed a word, how and when: time, kind and thread in one number, so that later is larger.
enum class Kind : uint8_t { plain, loose, atomic };  // loose: volatile
using Stamp = uint64_t;
constexpr int kTimeShift = 16;
constexpr Stamp kSplit = 1 << 15;  // the bytes have their own cells
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
  bool ours = false;           // allocated here, with red zones
  Cell* words = nullptr;       // one a word of 4 bytes
  Cell* bytes = nullptr;       // four a word, used where the word is split
  uint8_t* written = nullptr;  // a bit a byte, four a word; null: all of it
};

// Zeroed memory that costs nothing until touched, handed out from the front.
class Arena {
 public:
  explicit Arena(size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  void* take(size_t bytes);  // null: it is full
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
  void widen(uintptr_t& begin, uintptr_t& end) const;  // over the written regions it overlaps
  bool remove(uintptr_t begin, bool only_ours);
  void clear();  // all but what was allocated here

  // The region that holds the address, or null. pc: instructions mostly stay within one.
  Region* find(uintptr_t address, const void* pc) {
    Region*& r = cache_[reinterpret_cast<uintptr_t>(pc) / 4 % kCache];
    if (!r || address - r->begin >= r->end - r->begin) r = search(address);
    return r;
  }
  Region* holding(uintptr_t begin, size_t bytes);  // all of the range, or null
  void mark_written(Region&, uintptr_t begin, size_t bytes);
  size_t longest_unwritten(const Region&, uintptr_t begin, size_t bytes) const;  // run of bytes
  // Where an address lies that is in no region, in words.
  std::string describe(uintptr_t address) const;

 private:
  Region* search(uintptr_t address);
  void forget_cache();

  std::unique_ptr<char[]> shared_arena_;
  std::vector<std::unique_ptr<Cell[]>> shared_cells_;
  Arena words_, bytes_, written_;                 // cells and masks of the regions
  std::vector<std::unique_ptr<Region>> regions_;  // by address
  static constexpr size_t kCache = 1024;
  Region* cache_[kCache] = {};
  Region statics_, dynamic_;
};

void check(Fiber&, const Touch&);

}  // namespace simt
