#include "torch_abi.h"

#include <dlfcn.h>
#include <pybind11/pybind11.h>

#include <stdexcept>

// Declared here because the headers hide functions newer than the oldest torch we support. The
// symbols are weak, so they are null under torch 2.10 to 2.13, which lack them.
extern "C" {
__attribute__((weak)) AOTITorchError torch_tensor_from_pyobject(void*, AtenTensorHandle*);
__attribute__((weak)) AOTITorchError torch_tensor_to_pyobject(AtenTensorHandle, void*, void**);
__attribute__((weak)) const char* torch_exception_get_what_without_backtrace();
}

namespace detcore {
namespace {

namespace py = pybind11;

enum class Handover { none, stable, aoti } chosen = Handover::none;
// The module is never unloaded, so these references are never released.
PyObject* tensor_type = nullptr;
// The functions that torch 2.10 to 2.13 use to enter compiled graphs. They convert tensors to and
// from a capsule with an AtenTensorHandle.
PyObject* capsule_from_tensor = nullptr;
PyObject* tensor_from_capsule = nullptr;

}  // namespace

void find_handover() {
  tensor_type = py::object(py::module_::import("torch").attr("Tensor")).release().ptr();
  if (torch_tensor_from_pyobject && torch_tensor_to_pyobject) {
    chosen = Handover::stable;
    return;
  }
  const py::object torch_c = py::module_::import("torch._C");
  const py::object aoti = py::getattr(torch_c, "_aoti", py::none());
  const py::object from = py::getattr(aoti, "unsafe_alloc_void_ptr_from_tensor", py::none());
  const py::object to = py::getattr(aoti, "alloc_tensor_by_stealing_from_void_ptr", py::none());
  if (from.is_none() || to.is_none()) return;
  capsule_from_tensor = py::object(from).release().ptr();
  tensor_from_capsule = py::object(to).release().ptr();
  chosen = Handover::aoti;
}

const char* handover() {
  switch (chosen) {
    case Handover::stable: return "stable ABI";
    case Handover::aoti: return "torch._C._aoti";
    case Handover::none: break;
  }
  return "";
}

bool is_tensor(PyObject* object) {
  if (reinterpret_cast<PyObject*>(Py_TYPE(object)) == tensor_type) return true;
  const int subclass = PyObject_IsInstance(object, tensor_type);
  if (subclass < 0) throw py::error_already_set();
  return subclass == 1;
}

Tensor tensor_from_python(PyObject* python) {
  AtenTensorHandle handle = nullptr;
  if (chosen == Handover::stable) {
    STABLE_TORCH_ERROR_CODE_CHECK(torch_tensor_from_pyobject(python, &handle));
    return Tensor(handle);
  }
  if (chosen == Handover::none)
    throw std::runtime_error("detcore: this torch hands over no tensors; call torch.ops.detcore");
  const auto capsule =
      py::reinterpret_steal<py::object>(PyObject_CallOneArg(capsule_from_tensor, python));
  if (!capsule) throw py::error_already_set();
  handle = static_cast<AtenTensorHandle>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
  if (!handle) throw py::error_already_set();
  return Tensor(handle);  // Tensor deletes the handle; the capsule does not
}

PyObject* tensor_to_python(const Tensor& tensor) {
  if (chosen == Handover::stable) {
    void* python = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(torch_tensor_to_pyobject(tensor.get(), nullptr, &python));
    return static_cast<PyObject*>(python);
  }
  // Despite its name, the function takes its own reference, and we still own the handle.
  const auto capsule =
      py::reinterpret_steal<py::object>(PyCapsule_New(tensor.get(), nullptr, nullptr));
  if (!capsule) throw py::error_already_set();
  PyObject* python = PyObject_CallOneArg(tensor_from_capsule, capsule.ptr());
  if (!python) throw py::error_already_set();
  return python;
}

bool kernels_can_read(const Tensor& t) {
  static const int32_t strided = aoti_torch_layout_strided();
  int32_t layout = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_layout(t.get(), &layout));
  int64_t* sizes = nullptr;  // a nested tensor has no sizes
  return layout == strided && (t.is_cpu() || t.is_cuda()) &&
         aoti_torch_get_sizes(t.get(), &sizes) == TORCH_SUCCESS && (t.data_ptr() || t.numel() == 0);
}

std::string words_of_torch() {
  const char* words = torch_exception_get_what_without_backtrace
                          ? torch_exception_get_what_without_backtrace()
                          : nullptr;
  return words ? words : "";
}

void* current_cuda_stream(int32_t device_index) {
  using Current = AOTITorchError (*)(int32_t, void**);
  // It is in libtorch_cuda. The module does not link that, so that it can load under a torch
  // without CUDA.
  static const auto current = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? reinterpret_cast<Current>(dlsym(library, "aoti_torch_get_current_cuda_stream"))
                   : nullptr;
  }();
  if (!current) throw std::runtime_error("detcore: this torch has no CUDA streams");
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(current(device_index, &stream));
  return stream;
}

}  // namespace detcore
