// Forward of roi_pool. A thread owns a bin for some channels, and goes through the pixels of the
// bin in order, two at a time: all values of two pixels are in flight before the first is compared.
#include "detcore/roi_pool.h"

#include "launch.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;

// Returns -1 if the image index is out of range.
template <class T>
__device__ int64_t image_of(const RoiPoolParams& p, const T* roi) {
  return roi[0] > T(-1) && roi[0] < T(p.images) ? int64_t(roi[0]) : -1;
}

// The pixels of a bin in row-major order.
struct Pixels {
  int32_t left, columns, count;
  int32_t at, column;  // of the next pixel: its offset in the plane, and its column in the bin
  int32_t to_next_row;

  template <class T>
  __device__ Pixels(const RoiPoolParams& p, const T* roi, int64_t bin, bool any) {
    const RoiBins<T> rows = row_bins(p, roi), across = column_bins(p, roi);
    const int64_t by = bin / p.out_width, bx = bin % p.out_width;
    const int64_t top = rows.begin(by), high = rows.end(by) - top;
    left = int32_t(across.begin(bx));
    columns = int32_t(across.end(bx)) - left;
    count = any && high > 0 && columns > 0 ? int32_t(high * columns) : 0;
    at = count > 0 ? int32_t(top * p.width) + left : 0;
    column = 0;
    to_next_row = int32_t(p.width) - columns;
  }
  __device__ void advance() {
    const bool row_ends = ++column == columns;
    column = row_ends ? 0 : column;
    at += row_ends ? to_next_row + 1 : 1;
  }
};

// The maxima of kAtOnce x kWide channels.
template <class S, int kAtOnce, int kWide>
struct Maxima {
  using T = arithmetic_t<S>;
  using Values = Wide<S, kWide>[kAtOnce];
  T value[kAtOnce][kWide];
  int32_t place[kAtOnce][kWide];

  __device__ Maxima() {
    for (int n = 0; n < kAtOnce; ++n)
      for (int k = 0; k < kWide; ++k) value[n][k] = T(kNoMaximum), place[n][k] = -1;
  }
  __device__ void see(const Values& others, int32_t at) {
    for (int n = 0; n < kAtOnce; ++n)
      for (int k = 0; k < kWide; ++k) {
        const T other = widen(others[n].v[k]);
        const bool more = other > value[n][k];
        value[n][k] = more ? other : value[n][k];
        place[n][k] = more ? at : place[n][k];
      }
  }
};

template <int kWide>
__device__ void store_places(int32_t* to, const int32_t (&places)[kWide]) {
  constexpr int together = kWide < 4 ? kWide : 4;  // 16 bytes
  for (int k = 0; k < kWide; k += together) {
    Wide<int32_t, together> some;
    for (int j = 0; j < together; ++j) some.v[j] = places[k + j];
    store_wide(to + k, some);
  }
}

// A unit of work is a bin for kAtOnce groups of kWide adjacent channels. For contiguous maps bins
// vary fastest, then channels, then regions; for channels-last maps channels, then bins.
template <class S, int kAtOnce, int kWide>
__global__ __launch_bounds__(kThreads) void forward_kernel(RoiPoolParams p, int64_t parts) {
  using T = arithmetic_t<S>;
  const int64_t bins = int64_t(p.out_height) * p.out_width, plane = p.height * p.width;
  const int64_t groups = p.channels / kWide, units = p.n * bins * parts;
  for (int64_t unit = global_thread(); unit < units; unit += all_threads()) {
    const int64_t r = unit / (bins * parts), rest = unit - r * (bins * parts);
    const int64_t bin = p.channels_last ? rest / parts : rest % bins;
    const int64_t first = (p.channels_last ? rest % parts : rest / bins) * kAtOnce;
    const T* roi = roi_of<T>(p, r);
    const int64_t image = image_of(p, roi);
    Pixels pixels(p, roi, bin, image >= 0);

    const int64_t pixel_step = p.channels_last ? p.channels : 1;
    const int64_t map_step = p.channels_last ? kWide : kWide * plane;  // from group to group
    const int64_t out_step = p.channels_last ? kWide : kWide * bins;
    const S* map = static_cast<const S*>(p.map) + (image < 0 ? 0 : image) * p.channels * plane;
    const S* from[kAtOnce];  // a group past the end is replaced by the first, and not stored
    for (int n = 0; n < kAtOnce; ++n)
      from[n] = map + (first + n < groups ? first + n : first) * map_step;

    Maxima<S, kAtOnce, kWide> best;
    for (int32_t k = 0; k < pixels.count; k += 2) {
      const int32_t here = pixels.at;
      pixels.advance();
      const int32_t next = k + 1 < pixels.count ? pixels.at : here;  // seen twice: changes nothing
      pixels.advance();
      Wide<S, kWide> values[2][kAtOnce];
      for (int n = 0; n < kAtOnce; ++n) {
        values[0][n] = load_wide<kWide>(from[n] + here * pixel_step);
        values[1][n] = load_wide<kWide>(from[n] + next * pixel_step);
      }
      best.see(values[0], here);
      best.see(values[1], next);
    }
    for (int n = 0; n < kAtOnce; ++n) {
      const int64_t at = r * p.channels * bins + bin * pixel_step + (first + n) * out_step;
      Wide<S, kWide> out;
      for (int k = 0; k < kWide; ++k) narrow(pixels.count > 0 ? best.value[n][k] : T(0), out.v[k]);
      if (first + n < groups) {
        store_wide(static_cast<S*>(p.out) + at, out);
        store_places(p.argmax + at, best.place[n]);
      }
    }
  }
}

template <class S, int kAtOnce, int kWide>
Status run(const RoiPoolParams& p, Stream stream) {
  const int64_t groups = p.channels / kWide, parts = (groups + kAtOnce - 1) / kAtOnce;
  const int64_t units = p.n * p.out_height * p.out_width * parts;
  return launch(forward_kernel<S, kAtOnce, kWide>, {blocks_for(units, kThreads), kThreads}, stream,
                p, parts);
}

}  // namespace

Status roi_pool_cuda(const RoiPoolParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    constexpr int wide = 16 / sizeof(S);
    const bool aligned = aligned_to_16(p.out) && aligned_to_16(p.map) && aligned_to_16(p.argmax);
    return p.channels_last && p.channels % wide == 0 && aligned ? run<S, 1, wide>(p, stream)
                                                                : run<S, 2, 1>(p, stream);
  });
}

}  // namespace detcore
