// The messages of launch.cuh for errors that are caused by the build or the machine, not by the
// call.
#include <cstdio>
#include <string>

#include "check.h"
#include "launch.cuh"

int main() {
  using detcore::to_status;
  CHECK(to_status(cudaSuccess));
  const std::string driver = to_status(cudaErrorInsufficientDriver).error;
  CHECK(driver.find("driver of 580 or newer") != std::string::npos);
  CHECK(driver.find("CUDACXX=/path/to/nvcc pip install") != std::string::npos);
  const std::string target = to_status(cudaErrorNoKernelImageForDevice).error;
  CHECK(target.find("TORCH_CUDA_ARCH_LIST") != std::string::npos);
  CHECK(to_status(cudaErrorInvalidValue).error ==
        std::string(cudaGetErrorString(cudaErrorInvalidValue)));

  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
