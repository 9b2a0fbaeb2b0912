// Shared by the tests of the simulator: launches, and device memory that is freed at the end of its
// scope.
#pragma once

#include <cuda_runtime.h>

#include <cstring>
#include <string>
#include <vector>

#include "check.h"

template <class... P>
cudaError_t go(void (*kernel)(P...), unsigned blocks, unsigned threads, simt_same<P>... args) {
  void* pointers[] = {&args...};
  return cudaLaunchKernel(kernel, dim3(blocks), dim3(threads), pointers, 4096, nullptr);
}

template <class T>
class Device {
 public:
  explicit Device(size_t n) : n_(n) { CHECK(cudaMalloc(&p_, n * sizeof(T)) == cudaSuccess); }
  Device(size_t n, T value) : Device(n) { set(std::vector<T>(n, value)); }
  ~Device() { CHECK(cudaFree(p_) == cudaSuccess); }
  Device(const Device&) = delete;
  void set(const std::vector<T>& values) {
    CHECK(cudaMemcpy(p_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  operator T*() const { return p_; }
  std::vector<T> host() const {
    std::vector<T> values(n_);
    CHECK(cudaMemcpy(values.data(), p_, n_ * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }

 private:
  size_t n_;
  T* p_ = nullptr;
};

inline bool passes(cudaError_t error) {
  if (error != cudaSuccess) std::printf("unexpected: %s\n", cudaGetErrorString(error));
  return error == cudaSuccess;
}

// True if the launch was stopped with a message that contains these words.
inline bool caught(cudaError_t error, const std::string& words) {
  const std::string said = cudaGetErrorString(error);
  if (error != cudaSuccess && said.find(words) != std::string::npos) return true;
  std::printf("wanted: %s\n   got: %s\n", words.c_str(), said.c_str());
  return false;
}
