#include "detcore/new_op.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kGrain = 4096;  // minimum of boxes per thread

}  // namespace

Status new_op(const NewOpParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    each_vector<T>(executor, p.n, kGrain, [&](int64_t i, int64_t count) {
      const auto box = load_boxes(static_cast<const S*>(p.boxes) + 4 * i, count);
      const auto value = box.x1 - box.x1;  // TODO
      value.store(static_cast<T*>(p.out) + i, count);
    });
    return Status{"its CPU kernel is still the skeleton's"};  // TODO: Status{}
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(new_op, NewOpParams)
