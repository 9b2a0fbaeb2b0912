// The boxes among which multiclass_nms suppresses, upright or rotated, with the scratch memory for
// it. Both have the same members:
//
//   Storage, numbers   of a box in memory
//   is_sound           whether a box may be a candidate
//   put                stores a box at its place: sorted by class, then by score
//   suppress           decides about the boxes of one class, in alive
#pragma once

#include "greedy_nms.h"
#include "greedy_nms_rotated.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

template <class S>
struct UprightCandidates {
  using Storage = S;
  using T = arithmetic_t<S>;
  static constexpr int64_t numbers = 4;

  RankedBoxes<T> boxes;  // [most]
  GreedyNmsScratch<T> scratch;
  bool* alive;  // [most]

  UprightCandidates(int64_t most, Arena& arena)
      : boxes{BoxArrays<T>::take(arena, most), most},
        scratch(most, arena),
        alive(arena.take<bool>(most)) {}
  static bool is_sound(const S* box) { return !has_nan(load_box(box)); }
  void put(int64_t at, const S* box) const { boxes.put(at, load_box(box)); }
  void suppress(int64_t begin, int64_t count, double threshold, const Executor& executor) const {
    GreedyNms<T>(boxes.from(begin, count), threshold, scratch.from(begin), alive + begin, executor)
        .run();
  }
};

template <class S>
struct RotatedCandidates {
  using Storage = S;
  static constexpr int64_t numbers = numbers_of(RotatedKind::image);

  RotatedNmsScratch<RotatedArrays> scratch;  // [most]
  bool* alive;                               // [most]

  RotatedCandidates(int64_t most, Arena& arena)
      : scratch(most, arena), alive(arena.take<bool>(most)) {}
  static bool is_sound(const S* box) { return all_finite(box, numbers); }
  void put(int64_t at, const S* box) const {
    scratch.put(at, measure_rotated_box(InPlane{}, RotatedKind::image, box, 0));
  }
  void suppress(int64_t begin, int64_t count, double threshold, const Executor& executor) const {
    RotatedNms<arithmetic_t<S>, RotatedArrays>(scratch, begin, count, threshold, alive + begin,
                                               executor)
        .run();
  }
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
