// Shared by all bindings: argument checks, allocation, calls on a device, and registration. Only
// the files of this folder use torch (its stable ABI) and pybind11.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "detcore/core.h"
#include "torch_abi.h"
#if defined(DETCORE_SIMT)
#include "simt.h"
#endif

namespace pybind11::detail {

template <>
struct type_caster<torch::stable::Tensor> {
  PYBIND11_TYPE_CASTER(torch::stable::Tensor, const_name("torch.Tensor"));

  bool load(handle source, bool) {
    // torch prints a backtrace if the object is not a tensor, so we test the type first
    if (!detcore::is_tensor(source.ptr())) return false;
    value = detcore::tensor_from_python(source.ptr());
    return detcore::kernels_can_read(value);
  }
  static handle cast(const torch::stable::Tensor& tensor, return_value_policy, handle) {
    return detcore::tensor_to_python(tensor);
  }
};

}  // namespace pybind11::detail

namespace detcore {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
namespace py = pybind11;

// --- words -------------------------------------------------------------------------------------

inline std::string text(const std::string& s) { return s; }
inline std::string text(const char* s) { return s; }
inline std::string text(int64_t x) { return std::to_string(x); }
std::string text(double x);
std::string shape_of(const std::vector<int64_t>&);  // "[7, 5]"
std::string shape_of(const Tensor&);
std::string dtype_of(const Tensor&);   // "float32"
std::string device_of(const Tensor&);  // "cuda:0"

// Throws a std::invalid_argument and stores its message for was_refused(). pybind11 turns it into a
// ValueError. So does torch's dispatcher up to 2.14; from 2.15 on it becomes a RuntimeError.
[[noreturn]] void refuse(const std::string& words);
// True if this was the last message of refuse() on this thread. With it, Python can tell the
// dispatcher's RuntimeError for wrong arguments from all others.
bool was_refused(const std::string& words);

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  refuse((text(parts) + ...));
}

// --- checks ------------------------------------------------------------------------------------

// Returns the dtype of a floating-point tensor; fails for other dtypes.
DType check_float(const char* op, const char* name, const Tensor&);
void check_same_dtype(const char* op, const char* a_name, const Tensor& a, const char* b_name,
                      const Tensor& b);
void check_same_device(const char* op, const char* a_name, const Tensor& a, const char* b_name,
                       const Tensor& b);
// check_rows: the shape must be [N, width]. check_last: it must be [..., width].
void check_rows(const char* op, const char* name, const Tensor&, int64_t width);
void check_last(const char* op, const char* name, const Tensor&, int64_t width);
void check_same_shape(const char* op, const char* a_name, const Tensor& a, const char* b_name,
                      const Tensor& b);

// Checks the gradient of a result: its sizes must be `wanted`, its device that of `like`.
void check_grad(const char* op, const Tensor& grad, const std::vector<int64_t>& wanted,
                const Tensor& like);
// Checks that the bytes of a tensor of these sizes fit 64 bits. Numbers given by the caller may
// make them huge.
void check_addressable(const char* op, const std::vector<int64_t>& sizes);
// Checks that a number is not NaN.
void check_number(const char* op, const char* name, double value);

// Returns the index of `value` in `names`; the error lists the names.
int64_t check_choice(const char* op, const char* name, const std::string& value,
                     std::initializer_list<const char*> names);

// --- tensors -----------------------------------------------------------------------------------

using Sizes = std::vector<int64_t>;
Sizes sizes_of(const Tensor&);
Tensor dense(const Tensor&);  // itself, or a copy that is contiguous and aligned for kernels
Tensor as_dtype(const Tensor&, ScalarType);
ScalarType scalar_of(DType);
// The dtype of IoU results: float64 for float64, else float32.
DType result_of(DType);
bool is_channels_last(const Tensor&);        // [N, C, H, W] is contiguous as NHWC, but not as NCHW
bool could_be_channels_last(const Tensor&);  // is contiguous as NHWC, and maybe also as NCHW

// The memory of a tensor, to pass to a kernel. In the simulator build this also registers the
// memory until run_on() returns; a kernel that touches other memory is stopped.
#if defined(DETCORE_SIMT)
void let_kernels_touch(const Tensor&, bool written);
#else
inline void let_kernels_touch(const Tensor&, bool) {}
#endif
template <class T = void>
T* data(const Tensor& t) {
  let_kernels_touch(t, true);
  return static_cast<T*>(t.data_ptr());
}

// Allocates an uninitialized tensor on the device of `like`. channels_last: 4 dimensions, in NHWC
// layout.
Tensor allocate(const Sizes&, ScalarType, const Tensor& like, bool channels_last = false);

// --- the way to the kernels --------------------------------------------------------------------

// An executor with the number of threads that torch.set_num_threads allows (see threads.h).
Executor torch_threads();

// True if CUDA kernels process this tensor. In the simulator build they process all tensors.
bool on_cuda(const Tensor&);

// Throws the error of a kernel, if any, as a RuntimeError.
void check_status(const char* op, Status);

// Calls cpu() or cuda(stream) while the tensor's device is current.
template <class Cpu, class Cuda>
void run_on(const char* op, const Tensor& where, const Cpu& cpu, const Cuda& cuda) {
  if (!on_cuda(where)) return check_status(op, cpu());
#if defined(DETCORE_SIMT)
  const Status status = cuda(Stream{});
  simt::forget_all();
  check_status(op, status);
#else
  const int32_t index = where.get_device_index();
  torch::stable::accelerator::DeviceGuard guard(index);
  check_status(op, cuda(current_cuda_stream(index)));
#endif
}

#if defined(DETCORE_WITH_CUDA)
#define DETCORE_RUN_AS(name, op, params, where)                                                    \
  run_on(                                                                                          \
      name, where, [&] { return op##_cpu(params, torch_threads()); },                              \
      [&](Stream stream) { return op##_cuda(params, stream); })
#else
#define DETCORE_RUN_AS(name, op, params, where)                                                    \
  run_on(                                                                                          \
      name, where, [&] { return op##_cpu(params, torch_threads()); },                              \
      [](Stream) { return Status{"this build of detcore has no CUDA kernels"}; })
#endif
#define DETCORE_RUN(op, params, where) DETCORE_RUN_AS(#op, op, params, where)

// --- registration ------------------------------------------------------------------------------

// A static object of each binding, whose hook module.cpp calls.
struct Registration {
  using Hook = void (*)(py::module_&);
  explicit Registration(Hook hook) : hook(hook), next(first) { first = this; }
  Hook hook;
  Registration* next;
  static Registration* first;
};

// Makes the function `op` a pybind11 entry of the module and the operator torch.ops.detcore.<op>.
#define DETCORE_ENTRY(op)                                                                          \
  static const Registration op##_entry(                                                            \
      [](py::module_& m) { m.def(#op, &op, py::call_guard<py::gil_scoped_release>()); })
#if defined(DETCORE_SIMT)  // only entries: the real operators are registered already
#define DETCORE_OP(op, schema) DETCORE_ENTRY(op)
#else
#define DETCORE_OP(op, schema)                                                                     \
  DETCORE_ENTRY(op);                                                                               \
  STABLE_TORCH_LIBRARY_FRAGMENT(detcore, m) { m.def(#op schema); }                                 \
  STABLE_TORCH_LIBRARY_IMPL(detcore, CPU, m) { m.impl(#op, TORCH_BOX(&op)); }                      \
  STABLE_TORCH_LIBRARY_IMPL(detcore, CUDA, m) { m.impl(#op, TORCH_BOX(&op)); }                     \
  static_assert(true, "")
#endif

}  // namespace detcore
