// The device's storage types, and the dispatch from a run-time dtype to one of them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "detcore/box.h"
#include "detcore/dispatch.h"

namespace detcore {

// Calls f(S{}), where S is the device's storage type of `dtype`.
template <class F>
Status with_storage(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
    case DType::f16: return f(__half{});
    case DType::bf16: return f(__nv_bfloat16{});
  }
  return {"unknown dtype"};
}

DETCORE_HD float widen(float x) { return x; }
DETCORE_HD double widen(double x) { return x; }
DETCORE_HD float widen(__half x) { return __half2float(x); }
DETCORE_HD float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
DETCORE_HD void narrow(float x, float& out) { out = x; }
DETCORE_HD void narrow(double x, double& out) { out = x; }
DETCORE_HD void narrow(float x, __half& out) { out = __float2half_rn(x); }
DETCORE_HD void narrow(float x, __nv_bfloat16& out) { out = __float2bfloat16_rn(x); }

// a * b + c, rounded once. Don't use it for an IoU that is compared: it changes quotients.
DETCORE_HD float multiply_add(float a, float b, float c) { return ::fmaf(a, b, c); }
DETCORE_HD double multiply_add(double a, double b, double c) { return ::fma(a, b, c); }

}  // namespace detcore
