// Bit casts of floating-point numbers, and sort keys for scores.
#pragma once

#include <cstdint>
#include <cstring>

#include "detcore/box.h"

namespace detcore {
inline namespace DETCORE_ISA {

template <class To, class From>
DETCORE_HD To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast keeps the size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// Keys for radix sort and selection. They ascend when scores descend; -0 and +0 have the same key.
DETCORE_HD uint32_t descending_key(float score) {
  const uint32_t bits = bit_cast<uint32_t>(score + 0.0f);
  return ~(bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u));
}
DETCORE_HD uint64_t descending_key(double score) {
  const uint64_t bits = bit_cast<uint64_t>(score + 0.0);
  return ~(bits ^ (bits >> 63 ? ~uint64_t(0) : uint64_t(1) << 63));
}

}  // namespace DETCORE_ISA
}  // namespace detcore
