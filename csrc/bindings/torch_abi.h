// The differences between the torch versions that one build supports (2.10 and newer): how Python
// tensors are converted, and where the current CUDA stream comes from. Both are looked up at run
// time.
#pragma once

#include <Python.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>

#include <string>

// The check that includes torch's message is new in torch 2.13.
#if !defined(STABLE_TORCH_ERROR_CODE_CHECK)
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace detcore {

using torch::stable::Tensor;

// Looks up the functions that this torch has. It is called once, while the module is imported: a
// lookup in a function-local static could deadlock, because importing releases the GIL.
void find_handover();
// "stable ABI", "torch._C._aoti", or "" if this torch can't convert Python tensors. In that case
// only the registered operators can call the kernels.
const char* handover();

// These functions need the GIL, and a handover() that is not "".
bool is_tensor(PyObject*);
Tensor tensor_from_python(PyObject*);       // the object must be a torch.Tensor
PyObject* tensor_to_python(const Tensor&);  // returns a new reference

// True if kernels can read the tensor's memory: it is strided, on a CPU or GPU, and exists (torch
// has tensors of zeros without memory). The operators handle or refuse all other tensors.
bool kernels_can_read(const Tensor&);

// torch's message about the call that has just failed. torch before 2.13 has no such message.
std::string words_of_torch();

void* current_cuda_stream(int32_t device_index);

}  // namespace detcore
