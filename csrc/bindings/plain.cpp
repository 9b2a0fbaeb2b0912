// Tests whether a call needs nothing that torch's dispatcher adds (autograd, tracing, modes,
// subclasses). If so, it may enter the extension directly. This is in C because in Python the test
// took longer than most calls.
#include "binding.h"

namespace detcore {
namespace {

// The reference is kept until the process ends, because the module is never unloaded.
PyObject* look_up(const char* module, const char* name) {
  return py::object(py::module_::import(module).attr(name)).release().ptr();
}

// Objects of torch, looked up by name once, while the module is imported.
struct Names {
  PyObject* tensor = look_up("torch", "Tensor");
  PyObject* parameter = look_up("torch.nn", "Parameter");
  PyObject* function_modes = look_up("torch._C", "_len_torch_function_stack");
  PyObject* local_keys = look_up("torch._C", "_dispatch_tls_local_include_set");
  PyObject* forward_ad = py::module_::import("torch.autograd.forward_ad").release().ptr();
  PyObject* raw_repr = PyUnicode_InternFromString("raw_repr");
  PyObject* current_level = PyUnicode_InternFromString("_current_level");
  PyObject* requires_grad = PyUnicode_InternFromString("requires_grad");
  PyObject* is_neg = PyUnicode_InternFromString("is_neg");
};
const Names* names = nullptr;

// The thread-local dispatch keys outside all modes, and those in inference mode.
uint64_t plain_keys[2];

py::object checked(PyObject* result) {
  if (!result) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}
int64_t number(const py::object& object) {
  const long long value = PyLong_AsLongLong(object.ptr());
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  return value;
}

// This does not test the tensor's memory and layout: tensor_from_python() sees those.
bool plain_tensor(PyObject* tensor, bool grad) {
  if (grad && checked(PyObject_GetAttr(tensor, names->requires_grad)).ptr() == Py_True)
    return false;
  return checked(PyObject_CallMethodNoArgs(tensor, names->is_neg)).ptr() == Py_False;
}

// Tests tensors, including those in lists and tuples. Other arguments don't matter.
bool plain_arguments(PyObject* sequence, bool grad) {
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = PySequence_Fast_GET_ITEM(sequence, i);
    PyObject* type = reinterpret_cast<PyObject*>(Py_TYPE(item));
    if (type == names->tensor || type == names->parameter) {
      if (!plain_tensor(item, grad)) return false;
    } else if (PyFloat_CheckExact(item) || PyLong_CheckExact(item) || PyUnicode_CheckExact(item)) {
      continue;
    } else if (PyList_Check(item) || PyTuple_Check(item)) {
      if (!plain_arguments(item, grad)) return false;
    } else if (is_tensor(item)) {
      return false;  // a subclass
    }
  }
  return true;
}

// Dispatch modes, functorch levels and tracing change the keys. Function modes and dual levels have
// their own counters.
bool plain_surroundings() {
  const py::object keys = checked(PyObject_CallNoArgs(names->local_keys));
  const py::object bits = checked(PyObject_CallMethodNoArgs(keys.ptr(), names->raw_repr));
  const uint64_t raw = PyLong_AsUnsignedLongLongMask(bits.ptr());
  return (raw == plain_keys[0] || raw == plain_keys[1]) &&
         number(checked(PyObject_CallNoArgs(names->function_modes))) == 0 &&
         number(checked(PyObject_GetAttr(names->forward_ad, names->current_level))) < 0;
}

// plain(args: tuple) -> bool. It is not a pybind11 entry, because pybind11's call overhead is as
// long as the test.
PyObject* plain(PyObject*, PyObject* args) {
  try {
    const bool yes =
        plain_surroundings() && plain_arguments(args, aoti_torch_grad_mode_is_enabled());
    return PyBool_FromLong(yes);
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

const Registration plain_entry([](py::module_& m) {
  names = new Names;
  m.def("set_plain_keys", [](uint64_t outside, uint64_t in_inference_mode) {
    plain_keys[0] = outside, plain_keys[1] = in_inference_mode;
  });
  static PyMethodDef method{"plain", plain, METH_O, nullptr};
  m.attr("plain") = checked(PyCFunction_New(&method, nullptr));
});

}  // namespace
}  // namespace detcore
