#include "detcore/cuda_device.h"

#include "launch.cuh"

namespace detcore {

Status cuda_status() {
  int count = 0;
  return to_status(cudaGetDeviceCount(&count));
}

const char* cuda_targets() { return DETCORE_CUDA_TARGETS; }

int cuda_compiler_version() { return CUDART_VERSION; }

Status copy_to_host(void* to, const void* from, size_t bytes, Stream stream) {
  auto s = static_cast<cudaStream_t>(stream);
  Status status = to_status(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, s));
  return status ? to_status(cudaStreamSynchronize(s)) : status;
}

}  // namespace detcore
