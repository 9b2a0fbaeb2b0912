// Selects the level of a feature pyramid for a box. torchvision's rule is converted to the least
// area of each level, so that the choice is a few comparisons and the same on every device. Host
// code only.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace detcore {

// True if a box of this area belongs to level k or a later one: floor(canonical_level +
// log2(sqrt(area) / canonical_scale) + 1e-6) >= k. Rounds to T after each operation, as torchvision
// does on the CPU (on CUDA torch divides by a reciprocal, and may differ in the last bit).
template <class T>
bool reaches_level(T area, int64_t k, double canonical_scale, int64_t canonical_level) {
  const T size = std::sqrt(area) / T(canonical_scale);
  // log2 in double, so that the result for float is rounded once
  const T level = T(canonical_level) + T(std::log2(double(size)));
  return std::floor(level + T(1e-6)) >= T(k);
}

// The least area that reaches level k; infinity if none does.
template <class T>
double level_from(int64_t k, double canonical_scale, int64_t canonical_level) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "float or double");
  const auto reaches = [&](T area) {
    return reaches_level(area, k, canonical_scale, canonical_level);
  };
  // the rule is monotonic, and its steps are near powers of two
  const double exact =
      std::ldexp(canonical_scale * canonical_scale, int(2 * (k - canonical_level)));
  T low = T(exact * (1 - 1e-5)), high = T(exact * (1 + 1e-5));
  if (reaches(low) || !(low < std::numeric_limits<T>::max())) low = T(0);
  if (!reaches(high)) high = std::numeric_limits<T>::max();
  if (!reaches(high)) return std::numeric_limits<double>::infinity();
  for (;;) {
    const T middle = low + (high - low) / 2;
    if (!(middle > low && middle < high)) return high;
    (reaches(middle) ? high : low) = middle;
  }
}

}  // namespace detcore
