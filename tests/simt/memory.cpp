#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <tuple>

#include "machine.h"
#include "symbols.h"

namespace simt {
namespace {

constexpr size_t kRedZone = 256;
constexpr uintptr_t kWord = 4;
constexpr size_t kMostWords = size_t(1) << 28;  // 1 GiB of device memory

uintptr_t first_word(const Region& r) { return r.begin / kWord * kWord; }

std::string bytes_of(size_t n) { return std::to_string(n) + (n == 1 ? " byte" : " bytes"); }

}  // namespace

Arena::Arena(size_t bytes) : size_(bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) abort();
  begin_ = static_cast<char*>(p);
}

Arena::~Arena() { munmap(begin_, size_); }

void* Arena::take(size_t bytes) {
  if (bytes > size_ - used_) return nullptr;
  void* p = begin_ + used_;
  used_ += (bytes + 63) / 64 * 64;
  return p;
}

Memory::Memory()
    : shared_arena_(new char[kMostShared + 64]),
      words_(kMostWords * sizeof(Cell)),
      bytes_(kMostWords * 4 * sizeof(Cell)),
      written_(kMostWords) {
  const auto arena = (reinterpret_cast<uintptr_t>(shared_arena_.get()) + 63) / 64 * 64;
  const Module& module = this_module();
  for (auto [region, begin, end] : {std::tuple{&statics_, module.statics_begin, module.statics_end},
                                    std::tuple{&dynamic_, arena, arena + kMostShared}}) {
    region->begin = begin, region->end = end, region->shared = true;
    const size_t words = (end - begin) / kWord + 2;
    shared_cells_.emplace_back(new Cell[words * 5]());
    region->words = shared_cells_.back().get(), region->bytes = region->words + words;
  }
}

void Memory::set_dynamic_shared(size_t bytes) {
  dynamic_.end = dynamic_.begin + bytes;
  // reads of unwritten memory must return garbage
  memset(reinterpret_cast<void*>(dynamic_.begin), 0xee, bytes);
  forget_cache();
}

void Memory::forget_cache() { memset(cache_, 0, sizeof cache_); }

bool Memory::add(uintptr_t begin, size_t bytes, bool written, bool ours) {
  if (bytes == 0) return true;
  forget_cache();
  // regions that overlap are left from a failed call; the memory has been allocated again
  const uintptr_t end = begin + bytes;
  regions_.erase(
      std::remove_if(regions_.begin(), regions_.end(),
                     [&](const auto& r) { return !r->ours && r->begin < end && begin < r->end; }),
      regions_.end());
  if (regions_.empty()) words_.clear(), bytes_.clear(), written_.clear();
  auto region = std::make_unique<Region>();
  region->begin = begin, region->end = end, region->ours = ours;
  // cells need not be cleared, because stamps of former launches are older than any new one
  const size_t words = (end - first_word(*region) + kWord - 1) / kWord;
  region->words = static_cast<Cell*>(words_.take(words * sizeof(Cell)));
  region->bytes = static_cast<Cell*>(bytes_.take(words * 4 * sizeof(Cell)));
  if (!written) {
    region->written = static_cast<uint8_t*>(written_.take(words));
    if (region->written) memset(region->written, 0, words);
  }
  if (!region->words || !region->bytes || (!written && !region->written)) return false;
  const auto at = std::lower_bound(regions_.begin(), regions_.end(), begin,
                                   [](const auto& r, uintptr_t b) { return r->begin < b; });
  regions_.insert(at, std::move(region));
  return true;
}

void Memory::widen(uintptr_t& begin, uintptr_t& end) const {
  for (const auto& r : regions_)  // sorted by address, so one pass is enough
    if (!r->written && r->begin < end && begin < r->end)
      begin = std::min(begin, r->begin), end = std::max(end, r->end);
}

bool Memory::remove(uintptr_t begin, bool only_ours) {
  const auto at = std::find_if(regions_.begin(), regions_.end(), [&](const auto& r) {
    return r->begin == begin && (r->ours || !only_ours);
  });
  if (at == regions_.end()) return false;
  forget_cache();
  regions_.erase(at);
  return true;
}

void Memory::clear() {
  forget_cache();
  regions_.erase(
      std::remove_if(regions_.begin(), regions_.end(), [](const auto& r) { return !r->ours; }),
      regions_.end());
}

Region* Memory::search(uintptr_t address) {
  for (Region* r : {&statics_, &dynamic_})
    if (r->begin <= address && address < r->end) return r;
  const auto after = std::upper_bound(regions_.begin(), regions_.end(), address,
                                      [](uintptr_t a, const auto& r) { return a < r->begin; });
  if (after == regions_.begin() || address >= (*(after - 1))->end) return nullptr;
  return (after - 1)->get();
}

Region* Memory::holding(uintptr_t begin, size_t bytes) {
  Region* r = search(begin);
  return r && !r->shared && begin + bytes <= r->end ? r : nullptr;
}

void Memory::mark_written(Region& r, uintptr_t begin, size_t bytes) {
  if (!r.written) return;
  for (uintptr_t a = begin; a < begin + bytes; ++a)
    r.written[(a - first_word(r)) / kWord] |= uint8_t(1 << a % kWord);
}

size_t Memory::longest_unwritten(const Region& r, uintptr_t begin, size_t bytes) const {
  size_t run = 0, longest = 0;
  if (!r.written) return 0;
  for (uintptr_t a = begin; a < begin + bytes; ++a) {
    run = r.written[(a - first_word(r)) / kWord] >> a % kWord & 1 ? 0 : run + 1;
    longest = std::max(longest, run);
  }
  return longest;
}

std::string Memory::describe(uintptr_t address) const {
  constexpr size_t near = 1 << 20;
  size_t best = near;
  std::string words = "far from any";
  const auto consider = [&](const Region& r, const char* what) {
    const bool before = address < r.begin;
    const size_t distance = before ? r.begin - address : address - r.end;
    if (distance >= best) return;
    best = distance;
    words = bytes_of(distance) + (before ? " before an " : " past the end of an ") +
            "allocation of " + bytes_of(r.end - r.begin) + what;
  };
  for (const auto& r : regions_) consider(*r, "");
  consider(dynamic_, " of dynamic shared memory");
  return words;
}

// --- the host's side ---------------------------------------------------------------------------

namespace {

uintptr_t number(const void* p) { return reinterpret_cast<uintptr_t>(p); }

bool refuse(const std::string& what, uintptr_t address) {
  Machine& m = machine();
  m.error = what + " outside an allocation: " + m.memory.describe(address);
  return false;
}

}  // namespace

void know(const void* begin, size_t bytes, bool written) {
  Memory& memory = machine().memory;
  uintptr_t from = number(begin), to = from + bytes;
  // a known region that is registered again keeps its state, because views of one tensor may
  // overlap
  const Region* r = memory.holding(from, bytes);
  if (r && written && (!r->written || (r->begin == from && r->end == to))) return;
  if (written) memory.widen(from, to);
  if (!memory.add(from, to - from, written, false)) throw std::bad_alloc();
}

void forget(const void* begin) { machine().memory.remove(number(begin), false); }
void forget_all() { machine().memory.clear(); }

void* allocate(size_t bytes) {
  char* p = static_cast<char*>(aligned_alloc(256, (bytes + 2 * kRedZone + 255) / 256 * 256));
  if (!p) return nullptr;
  memset(p, 0xee, bytes + 2 * kRedZone);
  if (!machine().memory.add(number(p + kRedZone), bytes ? bytes : 1, false, true)) return nullptr;
  return p + kRedZone;
}

bool release(void* p) {
  if (!machine().memory.remove(number(p), true)) return refuse("cudaFree", number(p));
  free(static_cast<char*>(p) - kRedZone);
  return true;
}

bool copy(void* to, const void* from, size_t bytes, bool from_device, bool to_device) {
  if (bytes == 0) return true;
  Memory& memory = machine().memory;
  const Region* source = memory.holding(number(from), bytes);
  Region* target = memory.holding(number(to), bytes);
  if (from_device && !source) return refuse("cudaMemcpy from", number(from));
  if (to_device && !target) return refuse("cudaMemcpy to", number(to));
  // less than 16 bytes may be padding of a struct
  const size_t unwritten = source ? memory.longest_unwritten(*source, number(from), bytes) : 0;
  if (unwritten == bytes || unwritten >= 16) {
    machine().error = "cudaMemcpy of memory that nobody wrote";
    return false;
  }
  memcpy(to, from, bytes);
  if (target) memory.mark_written(*target, number(to), bytes);
  return true;
}

bool fill(void* to, int value, size_t bytes) {
  if (bytes == 0) return true;
  Region* target = machine().memory.holding(number(to), bytes);
  if (!target) return refuse("cudaMemset", number(to));
  memset(to, value, bytes);
  machine().memory.mark_written(*target, number(to), bytes);
  return true;
}

}  // namespace simt
