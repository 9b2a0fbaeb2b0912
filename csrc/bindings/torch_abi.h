// What differs between the torch versions that one build serves, 2.10 and newer: how Python tensors
// are handed over, and where the current CUDA stream comes from. Both are looked up at run time.
#pragma once

#include <Python.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>

#include <string>

// The check that repeats torch's own words came with torch 2.13.
#if !defined(STABLE_TORCH_ERROR_CODE_CHECK)
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

namespace detcore {

using torch::stable::Tensor;

// Looks up what this torch offers. Called once, while the module is imported: a lookup behind a
// function-local static could deadlock, because importing releases the GIL.
void find_handover();
// "stable ABI", "torch._C._aoti", or "" if this torch has no way to hand over Python tensors; then
// the registered operators are the only way into the kernels.
const char* handover();

// All of these need the GIL, and a handover that was found.
bool is_tensor(PyObject*);
Tensor tensor_from_python(PyObject*);       // of a torch.Tensor
PyObject* tensor_to_python(const Tensor&);  // a new reference

// Whether a tensor lies in memory as kernels read it: strided, on a CPU or GPU, and there at all
// (torch has tensors of zeros without memory). Others are the operators' to take or refuse.
bool kernels_can_read(const Tensor&);

// What torch says of the call to it that has just failed; torch before 2.13 keeps that to itself.
std::string words_of_torch();

void* current_cuda_stream(int32_t device_index);

}  // namespace detcore
