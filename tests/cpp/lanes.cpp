// The lanes of one instruction set (SSE2, AVX2, AVX-512, NEON): vector arithmetic must give the
// same results as scalar arithmetic. Compiled once per instruction set, like the kernels.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "../../csrc/kernels/cpu/kernel.h"
#include "check.h"

using namespace detcore;

namespace {

constexpr int kSkipped = 77;  // ctest's exit code for a skipped test: this machine can't run it

// The distance between a result and the exact result, in units in the last place.
template <class T>
double units_off(T got, long double exact) {
  const T near = T(exact);
  if (got == near || (got != got && near != near)) return 0;
  const T next = std::nextafter(near, T(INFINITY));
  return double(std::fabs((long double)got - exact) / ((long double)next - (long double)near));
}

template <class T, class Lane, class Exact>
void functions_are_near(T low, T high, const Lane& lane, const Exact& exact) {
  constexpr int width = Lanes<T>::width;
  const int steps = 4000;
  double worst = 0;
  for (int i = 0; i < steps; i += width) {
    T x[width], y[width];
    for (int k = 0; k < width; ++k) x[k] = low + (high - low) * T(i + k) / T(steps);
    lane(Lanes<T>::load(x)).store(y);
    for (int k = 0; k < width; ++k) worst = std::fmax(worst, units_off(y[k], exact(x[k])));
  }
  CHECK(worst < 3);
}

template <class T>
void math_of_lanes() {
  using Long = long double;
  const auto exp_ = [](Lanes<T> x) { return lane_exp(x); };
  const auto log_ = [](Lanes<T> x) { return lane_log(x); };
  const auto atan_ = [](Lanes<T> x) { return lane_atan(x); };
  functions_are_near<T>(-80, 80, exp_, [](Long x) { return std::exp(x); });
  functions_are_near<T>(T(1e-3), 40, log_, [](Long x) { return std::log(x); });
  functions_are_near<T>(-30, 30, atan_, [](Long x) { return std::atan(x); });
}

template <class T>
void sums_and_verdicts() {
  constexpr int width = Lanes<T>::width;
  T x[width], y[width], out[width];
  for (int i = 0; i < width; ++i) x[i] = T(i) - 1, y[i] = T(width - i);
  const Lanes<T> a = Lanes<T>::load(x), b = Lanes<T>::load(y);
  (a / b + a * b).store(out);
  for (int i = 0; i < width; ++i) CHECK(out[i] == x[i] / y[i] + x[i] * y[i]);
  lane_select(a < b, lane_min(a, b), lane_max(a, b)).store(out);
  for (int i = 0; i < width; ++i) CHECK(out[i] == x[i]);
  uint32_t bits = 0;
  for (int i = 0; i < width; ++i) bits |= uint32_t(x[i] > y[i]) << i;
  CHECK(lane_bits(a > b) == bits);
  CHECK(lane_any(a > b) == (bits != 0));
  CHECK(!lane_any(a < a));
  T pairs[2 * width];
  zip_low(a, b).store(pairs), zip_high(a, b).store(pairs + width);
  for (int i = 0; i < width; ++i) CHECK(pairs[2 * i] == x[i] && pairs[2 * i + 1] == y[i]);
  const Lanes<T> low = Lanes<T>::load(pairs), high = Lanes<T>::load(pairs + width);
  even_lanes(low, high).store(out);
  CHECK(memcmp(out, x, sizeof x) == 0);
  odd_lanes(low, high).store(out);
  CHECK(memcmp(out, y, sizeof y) == 0);
}

// Converts every 16-bit number to float and back, as vectors and as scalars.
template <class Half>
void halves_return() {
  constexpr int width = Lanes<float>::width;
  for (int first = 0; first < 1 << 16; first += width) {
    Half from[width], to[width], alone[width];
    for (int i = 0; i < width; ++i) from[i].bits = uint16_t(first + i);
    store_lanes(load_lanes(from), to);
    for (int i = 0; i < width; ++i) {
      const float wide = widen(from[i]);
      narrow(wide, alone[i]);
      CHECK(to[i].bits == alone[i].bits);
      CHECK(wide != wide || to[i].bits == from[i].bits);
    }
  }
}

}  // namespace

int main() {
  constexpr Isa isa = Isa::DETCORE_ISA;
  if (best_isa() < isa) {
    std::printf("skipped: this machine has no %s\n", isa_name(isa));
    return kSkipped;
  }
  std::printf("%s: %d lanes of float32\n", isa_name(isa), Lanes<float>::width);
  math_of_lanes<float>();
  math_of_lanes<double>();
  sums_and_verdicts<float>();
  sums_and_verdicts<double>();
  halves_return<f16>();
  halves_return<bf16>();
  return failures != 0;
}
