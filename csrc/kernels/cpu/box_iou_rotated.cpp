// box_iou_rotated and box3d_iou. The boxes are measured once, into one array per number. Each row
// of a tile is then compared with a vector of columns at a time.
#include "detcore/box_iou_rotated.h"

#include "rotated_arrays.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

using L = Lanes<double>;

constexpr int64_t kRows = 16;      // rows that share one tile of columns
constexpr int64_t kColumns = 256;  // ten arrays of so many fit the L1 cache
constexpr int64_t kMeasureGrain = 512;

template <class Geometry>
struct Workspace {
  using Arrays = typename ArraysOf<Geometry>::type;
  Arrays rows, columns;
  Workspace(const BoxIouRotatedParams& p, Arena& arena)
      : rows(Arrays::take(arena, p.batch * p.n)), columns(Arrays::take(arena, p.batch * p.m)) {}
};

template <class Geometry, class S, class Arrays>
void measure(RotatedKind kind, const void* boxes, int64_t count, const Arrays& out,
             const Executor& executor) {
  parallel_for(executor, count, kMeasureGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      out.put(i, measure_rotated_box(Geometry{}, kind, static_cast<const S*>(boxes), i));
  });
  // what lies behind the last box is read, but never used
  for (int64_t i = count; i < count + L::width; ++i) out.put(i, {});
}

// Measures the boxes of both sets.
template <class Geometry, class S>
Workspace<Geometry> measured(const BoxIouRotatedParams& p, const Executor& executor) {
  Arena arena{static_cast<char*>(p.workspace)};
  const Workspace<Geometry> w(p, arena);
  measure<Geometry, S>(p.kind, p.boxes1, p.batch * p.n, w.rows, executor);
  measure<Geometry, S>(p.kind, p.boxes2, p.batch * p.m, w.columns, executor);
  return w;
}

constexpr uint32_t kEveryLane = (1u << L::width) - 1;

template <class Wide>
DETCORE_HD L overlap_if_near(const Wide& a, const Wide& b) {
  if (lane_bits(are_apart(a, b)) == kEveryLane) return L(0.0);
  return rotated_overlap(a, b);
}

template <class T, class Geometry>
void forward(const BoxIouRotatedParams& p, const Workspace<Geometry>& w, const Executor& executor) {
  const int64_t row_tiles = divide_up(p.n, kRows), column_tiles = divide_up(p.m, kColumns);
  parallel_for(executor, p.batch * row_tiles * column_tiles, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t batch = unit / (row_tiles * column_tiles);
      const int64_t row0 = unit / column_tiles % row_tiles * kRows;
      const int64_t column0 = unit % column_tiles * kColumns;
      const int64_t columns = at_most(kColumns, p.m - column0);
      for (int64_t i = row0; i < at_most(p.n, row0 + kRows); ++i) {
        const auto row = w.rows.in_all_lanes(batch * p.n + i);
        T* out = static_cast<T*>(p.out) + (batch * p.n + i) * p.m + column0;
        int64_t j = 0;
        for (; j + L::width <= columns; j += L::width)
          store_as(overlap_if_near(row, w.columns.lanes(batch * p.m + column0 + j)), out + j,
                   L::width);
        if (j < columns)
          store_as(overlap_if_near(row, w.columns.lanes(batch * p.m + column0 + j)), out + j,
                   columns - j);
      }
    }
  });
}

// Adds the gradients of `own` for `count` others. Lanes behind them must not reach the sum.
template <class Wide, class WideGrad>
DETCORE_HD void add_gradient(const Wide& own, const Wide& other, L grad, int64_t count,
                             WideGrad& sum) {
  if (lane_bits(are_apart(own, other)) == kEveryLane) return;
  WideGrad part{};
  rotated_overlap_backward(own, other, grad, part);
  const L zero(0.0);
  const auto inside = lane_indices<double>() < L(double(count));
  each_number(sum, part, [&](L& to, L value) { to = to + lane_select(inside, value, zero); });
}

// The gradients of boxes1: one box per row of grad_out. Each lane sums along the row, then the
// lanes are added as a tree.
template <class T, class Geometry>
void backward_rows(const BoxIouRotatedBackwardParams& p, const Workspace<Geometry>& w,
                   const Executor& executor) {
  const BoxIouRotatedParams& f = p.forward;
  parallel_for(executor, f.batch * f.n, 1 + 512 / (f.m + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto own = w.rows.in_all_lanes(i);
      const T* grad = static_cast<const T*>(p.grad_out) + i * f.m;
      typename Geometry::template Grad<L> sum{};
      for (int64_t j = 0; j < f.m; j += L::width) {
        const int64_t count = at_most(L::width, f.m - j);
        add_gradient(own, w.columns.lanes(i / f.n * f.m + j), load_as_double(grad + j, count),
                     count, sum);
      }
      typename Geometry::template Grad<double> all{};
      each_number(all, sum, [](double& to, L value) { to = lane_sum(value); });
      store_gradient(f.kind, all, static_cast<T*>(p.grad_boxes1) + numbers_of(f.kind) * i);
    }
  });
}

// The gradients of boxes2: one box per lane, which sums along its column of grad_out.
template <class T, class Geometry>
void backward_columns(const BoxIouRotatedBackwardParams& p, const Workspace<Geometry>& w,
                      const Executor& executor) {
  const BoxIouRotatedParams& f = p.forward;
  const int64_t strips = divide_up(f.m, L::width);
  parallel_for(executor, f.batch * strips, 1 + 128 / (f.n + 1), [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t batch = unit / strips, column0 = unit % strips * L::width;
      const int64_t count = at_most(L::width, f.m - column0), first = batch * f.m + column0;
      const auto own = w.columns.lanes(first);
      const T* grad = static_cast<const T*>(p.grad_out) + batch * f.n * f.m + column0;
      typename Geometry::template Grad<L> sum{};
      for (int64_t i = 0; i < f.n; ++i)
        add_gradient(own, w.rows.in_all_lanes(batch * f.n + i),
                     load_as_double(grad + i * f.m, count), count, sum);
      store_gradients<Geometry>(f.kind, sum,
                                static_cast<T*>(p.grad_boxes2) + numbers_of(f.kind) * first, count);
    }
  });
}

}  // namespace

Status box_iou_rotated(const BoxIouRotatedParams& p, const Executor& executor) {
  if (p.batch * p.n * p.m == 0) return {};
  return with_geometry(p.kind, [&](auto geometry) {
    return with_storage(p.dtype, [&](auto storage) {
      using S = decltype(storage);
      forward<arithmetic_t<S>>(p, measured<decltype(geometry), S>(p, executor), executor);
      return Status{};
    });
  });
}

Status box_iou_rotated_backward(const BoxIouRotatedBackwardParams& p, const Executor& executor) {
  return with_geometry(p.forward.kind, [&](auto geometry) {
    return with_storage(p.forward.dtype, [&](auto storage) {
      using S = decltype(storage);
      const auto w = measured<decltype(geometry), S>(p.forward, executor);
      backward_rows<arithmetic_t<S>>(p, w, executor);
      backward_columns<arithmetic_t<S>>(p, w, executor);
      return Status{};
    });
  });
}

}  // namespace DETCORE_ISA

#if defined(DETCORE_ISA_IS_BASELINE)
size_t box_iou_rotated_workspace_cpu(const BoxIouRotatedParams& params) {
  baseline::Arena arena{nullptr};
  (void)baseline::with_geometry(params.kind, [&](auto geometry) {
    (void)baseline::Workspace<decltype(geometry)>(params, arena);
    return Status{};
  });
  return arena.used;
}
#endif

}  // namespace detcore

DETCORE_CPU_ENTRY(box_iou_rotated, BoxIouRotatedParams)
DETCORE_CPU_ENTRY(box_iou_rotated_backward, BoxIouRotatedBackwardParams)
