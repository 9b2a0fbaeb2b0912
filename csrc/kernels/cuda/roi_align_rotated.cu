// Forward of roi_align_rotated. A thread owns a bin for some channels, and goes through its
// samples: a sample's pixels and weights are computed once for these channels, and their values are
// all in flight before the first is used. With a sampling ratio of 2, which is what models use, the
// number of samples is a constant of the kernel.
#include "rotated_roi.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 128;

// The pixels and weights of a sample along one axis. The weight of a pixel beyond the last one is
// 0, and 0 times an infinite pixel is NaN. So such a tap uses its neighbour's pixel, and each gets
// half the weight.
template <class T>
struct AxisPair {
  T weight[2];
  int32_t pixel[2];

  __device__ explicit AxisPair(const Tap<T, int32_t>& tap) {
    const bool both = tap.far != T(0);
    weight[0] = both ? tap.near : T(0.5) * tap.near;
    weight[1] = both ? tap.far : T(0.5) * tap.near;
    pixel[0] = tap.low, pixel[1] = tap.low + both;
  }
};

// The channels of one thread: kAtOnce groups of kWide adjacent ones.
template <class S, int kAtOnce, int kWide>
struct Channels {
  const S* from[kAtOnce];
  arithmetic_t<S> sum[kAtOnce][kWide];
};

template <class S, int kAtOnce, int kWide>
__device__ void add_sample(const RoiAlignRotatedParams& p, arithmetic_t<S> x, arithmetic_t<S> y,
                           int64_t pixel_step, Channels<S, kAtOnce, kWide>& channels) {
  using T = arithmetic_t<S>;
  RotatedTap<T, int32_t> tap;
  const bool inside = make_tap(x, y, int32_t(p.width), int32_t(p.height), tap);
  const AxisPair<T> rows(tap.rows), columns(tap.columns);
  Wide<S, kWide> values[kAtOnce][2][2];
  for (int n = 0; n < kAtOnce; ++n)
    for (int j = 0; j < 2; ++j)
      for (int i = 0; i < 2; ++i)
        values[n][j][i] = load_wide<kWide>(
            channels.from[n] + (rows.pixel[j] * p.width + columns.pixel[i]) * pixel_step);
  for (int n = 0; n < kAtOnce; ++n)
    for (int k = 0; k < kWide; ++k) {
      T line[2];
      for (int j = 0; j < 2; ++j)
        line[j] = multiply_add(columns.weight[1], widen(values[n][j][1].v[k]),
                               columns.weight[0] * widen(values[n][j][0].v[k]));
      const T value = multiply_add(rows.weight[1], line[1], rows.weight[0] * line[0]);
      channels.sum[n][k] = inside ? channels.sum[n][k] + value : channels.sum[n][k];
    }
}

// A unit of work is a bin for the channels of a thread. For contiguous maps bins vary fastest, then
// channels, then regions; for channels-last maps channels, then bins. kRatio: of samples; 0: any.
template <class S, int kAtOnce, int kWide, int kRatio>
__global__ __launch_bounds__(kThreads) void forward_kernel(RoiAlignRotatedParams p,
                                                           const RotatedRoi<arithmetic_t<S>>* rois,
                                                           int64_t parts) {
  using T = arithmetic_t<S>;
  const int64_t bins = int64_t(p.out_height) * p.out_width, plane = p.height * p.width;
  const int64_t groups = p.channels / kWide, units = p.n * bins * parts;
  for (int64_t unit = global_thread(); unit < units; unit += all_threads()) {
    const int64_t r = unit / (bins * parts), rest = unit - r * (bins * parts);
    const int64_t bin = p.channels_last ? rest / parts : rest % bins;
    const int64_t first = (p.channels_last ? rest % parts : rest / bins) * kAtOnce;
    RotatedRoi<T> roi = rois[r];
    const bool any = roi.has_samples();
    if (kRatio > 0) roi.rows.samples = roi.columns.samples = kRatio;  // constants
    const int64_t image = any ? int64_t(static_cast<const T*>(p.rois)[6 * r]) : 0;

    const int64_t pixel_step = p.channels_last ? p.channels : 1;
    const int64_t map_step = p.channels_last ? kWide : kWide * plane;  // from group to group
    const int64_t out_step = p.channels_last ? kWide : kWide * bins;
    Channels<S, kAtOnce, kWide> channels;
    for (int n = 0; n < kAtOnce; ++n) {
      // a group past the end is replaced by the first, and not stored
      const int64_t group = first + n < groups ? first + n : first;
      channels.from[n] =
          static_cast<const S*>(p.map) + image * p.channels * plane + group * map_step;
      for (int k = 0; k < kWide; ++k) channels.sum[n][k] = T(0);
    }
    if (any)
      each_sample(roi, SampleArea<T>{T(-1), T(-1), T(p.width), T(p.height)}, bin / p.out_width,
                  bin % p.out_width, [&](T x, T y) { add_sample(p, x, y, pixel_step, channels); });
    const T weight = roi.weight();
    for (int n = 0; n < kAtOnce; ++n) {
      Wide<S, kWide> out;
      for (int k = 0; k < kWide; ++k) narrow(any ? weight * channels.sum[n][k] : T(0), out.v[k]);
      if (first + n < groups)
        store_wide(static_cast<S*>(p.out) + r * p.channels * bins + bin * pixel_step +
                       (first + n) * out_step,
                   out);
    }
  }
}

template <class S, int kAtOnce, int kWide>
Status run(const RoiAlignRotatedParams& p, Stream stream) {
  const int64_t groups = p.channels / kWide, parts = (groups + kAtOnce - 1) / kAtOnce;
  const int64_t units = p.n * p.out_height * p.out_width * parts;
  const auto* rois = static_cast<const RotatedRoi<arithmetic_t<S>>*>(p.workspace);
  const LaunchShape shape{blocks_for(units, kThreads), kThreads};
  return p.sampling_ratio == 2
             ? launch(forward_kernel<S, kAtOnce, kWide, 2>, shape, stream, p, rois, parts)
             : launch(forward_kernel<S, kAtOnce, kWide, 0>, shape, stream, p, rois, parts);
}

}  // namespace

size_t roi_align_rotated_workspace_cuda(const RoiAlignRotatedParams& p) {
  return p.n * (p.dtype == DType::f64 ? sizeof(RotatedRoi<double>) : sizeof(RotatedRoi<float>));
}

Status roi_align_rotated_cuda(const RoiAlignRotatedParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (p.channels == 0) return Status{};
    const Status status = compute_geometry<arithmetic_t<S>>(p, stream);
    if (!status) return status;
    constexpr int wide = 16 / sizeof(S), planes = sizeof(S) == 8 ? 2 : 4;
    const bool aligned = aligned_to_16(p.out) && aligned_to_16(p.map);
    return p.channels_last && p.channels % wide == 0 && aligned ? run<S, 1, wide>(p, stream)
                                                                : run<S, planes, 1>(p, stream);
  });
}

}  // namespace detcore
