// Division by a number that the host knows, as a multiplication and a shift on the device.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace detcore {

class Divider {
 public:
  explicit Divider(uint32_t divisor) : divisor_(divisor), shift_(31) {
    while (uint64_t(1) << (shift_ - 31) < divisor) ++shift_;
    magic_ = uint32_t(((uint64_t(1) << shift_) + divisor - 1) / divisor);
  }
  // The quotient and remainder of a number below 2^31. This is exact: magic_ is 2^shift_ / divisor,
  // rounded up by less than 1, which adds less than number / 2^shift_ < 1 / divisor to the
  // quotient.
  __device__ uint32_t operator()(uint32_t number, uint32_t& rest) const {
    const uint32_t quotient = uint32_t(uint64_t(number) * magic_ >> shift_);
    rest = number - quotient * divisor_;
    return quotient;
  }

 private:
  uint32_t divisor_, magic_, shift_;
};

}  // namespace detcore
