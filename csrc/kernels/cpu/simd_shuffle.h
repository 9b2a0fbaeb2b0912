// Shuffles: interleave and deinterleave two vectors, transpose a square. Compilers turn these
// patterns into shuffle instructions of the instruction set.
#pragma once

#include "simd.h"

namespace detcore {
inline namespace DETCORE_ISA {

// The numbers 0 to n - 1 as a parameter pack, because shuffle patterns must be constants. We can't
// use std::integer_sequence: no std template may be compiled with a wide instruction set.
template <int... i>
struct Indices {};
template <int n, int... i>
struct MakeIndices : MakeIndices<n - 1, n - 1, i...> {};
template <int... i>
struct MakeIndices<0, i...> {
  using type = Indices<i...>;
};
template <class T>
using AllLanes = typename MakeIndices<Lanes<T>::width>::type;

template <int begin, class T, int... i>
DETCORE_HD Lanes<T> zip(Lanes<T> a, Lanes<T> b, Indices<i...>) {
  return Lanes<T>(__builtin_shufflevector(a.v, b.v, (begin + i / 2 + i % 2 * Lanes<T>::width)...));
}
template <int begin, class T, int... i>
DETCORE_HD Lanes<T> every_second(Lanes<T> a, Lanes<T> b, Indices<i...>) {
  return Lanes<T>(__builtin_shufflevector(a.v, b.v, (begin + 2 * i)...));
}

// Interleaves (a0 b0 a1 b1 ...) the first halves of a and b, or their second halves.
template <class T>
DETCORE_HD Lanes<T> zip_low(Lanes<T> a, Lanes<T> b) {
  return zip<0>(a, b, AllLanes<T>{});
}
template <class T>
DETCORE_HD Lanes<T> zip_high(Lanes<T> a, Lanes<T> b) {
  return zip<Lanes<T>::width / 2>(a, b, AllLanes<T>{});
}
// The even lanes, or the odd lanes, of a followed by b.
template <class T>
DETCORE_HD Lanes<T> even_lanes(Lanes<T> a, Lanes<T> b) {
  return every_second<0>(a, b, AllLanes<T>{});
}
template <class T>
DETCORE_HD Lanes<T> odd_lanes(Lanes<T> a, Lanes<T> b) {
  return every_second<1>(a, b, AllLanes<T>{});
}

// Transposes a square in log2(width) perfect shuffles of all its elements.
template <class T>
DETCORE_HD void transpose(Lanes<T> (&rows)[Lanes<T>::width]) {
  constexpr int half = Lanes<T>::width / 2;
#pragma GCC unroll 4
  for (int done = 1; done < Lanes<T>::width; done *= 2) {
    Lanes<T> next[Lanes<T>::width];
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) {
      next[2 * i] = zip_low(rows[i], rows[i + half]);
      next[2 * i + 1] = zip_high(rows[i], rows[i + half]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < Lanes<T>::width; ++i) rows[i] = next[i];
  }
}

}  // namespace DETCORE_ISA
}  // namespace detcore
