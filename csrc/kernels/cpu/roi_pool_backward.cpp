// Backward: every gradient goes to the pixel that the forward named. A thread owns whole planes
// (channels-last: a block of channels of an image) and goes through the regions in order.
#include "detcore/roi_pool.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// Adds the gradients of all regions of one image to its channels [c0, c1).
template <class S>
void add_regions(const RoiPoolBackwardParams& b, int64_t image, int64_t c0, int64_t c1) {
  using T = arithmetic_t<S>;
  const RoiPoolParams& p = b.forward;
  const int64_t bins = int64_t(p.out_height) * p.out_width, plane = p.height * p.width;
  const int64_t channel = p.channels_last ? 1 : plane, pixel = p.channels_last ? p.channels : 1;
  T* to = static_cast<T*>(b.grad_input) + image * p.channels * plane + c0 * channel;
  const int64_t outer = p.channels_last ? plane : c1 - c0,
                inner = p.channels_last ? c1 - c0 : plane;
  for (int64_t i = 0; i < outer; ++i) {
    T* at = to + i * (p.channels_last ? p.channels : plane);
    for (int64_t k = 0; k < inner; ++k) at[k] = T(0);
  }
  // a place that the forward can't have named is passed over
  const auto add = [&](T* base, int32_t place, S grad) {
    if (uint32_t(place) < uint32_t(plane)) base[place * pixel] += widen(grad);
  };
  for (int64_t r = 0; r < p.n; ++r) {
    if (int64_t(roi_of<T>(p, r)[0]) != image) continue;
    const S* grads = static_cast<const S*>(b.grad_out) + r * p.channels * bins;
    const int32_t* places = p.argmax + r * p.channels * bins;
    if (p.channels_last) {
      for (int64_t bin = 0; bin < bins; ++bin)
        for (int64_t c = c0; c < c1; ++c)
          add(to + (c - c0), places[bin * p.channels + c], grads[bin * p.channels + c]);
    } else {
      for (int64_t c = c0; c < c1; ++c)
        for (int64_t bin = 0; bin < bins; ++bin)
          add(to + (c - c0) * plane, places[c * bins + bin], grads[c * bins + bin]);
    }
  }
}

}  // namespace

Status roi_pool_backward(const RoiPoolBackwardParams& b, const Executor& executor) {
  return with_storage(b.forward.dtype, [&](auto storage) {
    using S = decltype(storage);
    const RoiPoolParams& p = b.forward;
    // planes that stay in cache together; channels of a whole cache line
    constexpr int64_t kCache = 256 << 10, kMostPlanes = 8, kLine = 16;
    const int64_t plane = at_least(1, p.height * p.width * int64_t(sizeof(arithmetic_t<S>)));
    const int64_t per = p.channels_last ? kLine : at_least(1, at_most(kMostPlanes, kCache / plane));
    const int64_t blocks = divide_up(p.channels, per);
    parallel_for(executor, p.images * blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t c0 = unit % blocks * per;
        add_regions<S>(b, unit / blocks, c0, at_most(p.channels, c0 + per));
      }
    });
    return Status{};
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(roi_pool_backward, RoiPoolBackwardParams)
