// The extension module: information about the build, and the registration of every binding.
#include "binding.h"
#include "detcore/cuda_device.h"

namespace detcore {
namespace {

py::dict build_facts() {
  py::dict facts;
  facts["compiler"] = "g++ " __VERSION__;
  facts["torch_target"] = DETCORE_TORCH_VERSION;
  facts["pybind11"] =
      std::to_string(PYBIND11_VERSION_MAJOR) + "." + std::to_string(PYBIND11_VERSION_MINOR);
  facts["instruction_sets"] = compiled_isas();
#if defined(DETCORE_WITH_CUDA)
  const int version = cuda_compiler_version();
  facts["cuda"] = std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  facts["cuda_targets"] = cuda_targets();
#else
  facts["cuda"] = py::none();
  facts["cuda_targets"] = "";
#endif
  return facts;
}

// None, or the driver's message if CUDA can't be used.
std::optional<std::string> cuda_error() {
#if defined(DETCORE_WITH_CUDA)
  const Status status = cuda_status();
  if (status) return {};
  return status.error;
#else
  return "this build of detcore has no CUDA kernels";
#endif
}

void set_isa(const std::string& name) {
  const int64_t isa = check_choice("set_isa", "name", name, {"baseline", "avx2", "avx512"});
  set_active_isa(Isa(isa));
}

}  // namespace
}  // namespace detcore

PYBIND11_MODULE(DETCORE_MODULE, m) {
  using namespace detcore;
  m.doc() = "detcore's native kernels; use them through detcore.ops";
  find_handover();
  m.def("build_facts", &build_facts);
  m.def("handover", &handover);
  m.def("was_refused", &was_refused);
  m.def("cuda_error", &cuda_error, py::call_guard<py::gil_scoped_release>());
  m.def("isa", [] { return isa_name(active_isa()); });
  m.def("set_isa", &set_isa);
  for (Registration* r = Registration::first; r; r = r->next) r->hook(m);
}
