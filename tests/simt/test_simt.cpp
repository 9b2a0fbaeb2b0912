// The stand-in for the device, by kernels that are nothing but its parts.
#include <cuda_runtime.h>

#include <cstring>
#include <vector>

#include "check.h"

namespace {

template <class... P>
cudaError_t go(void (*kernel)(P...), unsigned blocks, unsigned threads, P... args) {
  void* pointers[] = {&args...};
  return cudaLaunchKernel(kernel, dim3(blocks), dim3(threads), pointers, 4096, nullptr);
}

__global__ void indices(int* out) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  out[i] = i * int(gridDim.x);
}

// A tree over shared memory needs each of its barriers.
__global__ void block_sum(const int* in, int* out) {
  __shared__ int part[128];
  part[threadIdx.x] = in[blockIdx.x * 128 + threadIdx.x];
  for (int step = 64; step > 0; step /= 2) {
    __syncthreads();
    if (int(threadIdx.x) < step) part[threadIdx.x] += part[threadIdx.x + step];
  }
  if (threadIdx.x == 0) out[blockIdx.x] = part[0];
}

__global__ void warp_functions(int* out) {
  const int lane = int(threadIdx.x % 32);
  int sum = lane;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  const unsigned odd = __ballot_sync(0xffffffffu, lane & 1);
  const double down = __shfl_down_sync(0xffffffffu, lane * 0.5, 3);
  const int up = __shfl_up_sync(0xffffffffu, lane, 1);
  const int first_of_four = __shfl_sync(0xffffffffu, lane, 0, 4);
  const bool right = sum == 496 && odd == 0xaaaaaaaau &&
                     down == (lane < 29 ? lane + 3 : lane) * 0.5 && up == (lane ? lane - 1 : 0) &&
                     first_of_four == lane / 4 * 4 && __any_sync(0xffffffffu, lane == 7) &&
                     !__all_sync(0xffffffffu, lane != 7) &&
                     __syncthreads_count(lane < 3) == 3 * int(blockDim.x / 32);
  out[blockIdx.x * blockDim.x + threadIdx.x] = right;
}

__global__ void atomics(int* sum, unsigned* most) {
  atomicAdd(sum, int(threadIdx.x));
  atomicMax(most, threadIdx.x + blockIdx.x);
}

__global__ void early_return_then_barrier(int* out) {
  if (threadIdx.x >= 40) return;  // those that have returned are not waited for
  __syncthreads();
  atomicAdd(out, 1);
}

__global__ void half_of_the_warp_never_comes(int* out) {
  if (threadIdx.x % 2) *out = int(__ballot_sync(0xffffffffu, 1));
  __syncthreads();
}

}  // namespace

int main() {
  std::vector<int> out(1024, -1), in(1024);
  CHECK(go(indices, 4, 256, out.data()) == cudaSuccess);
  for (int i = 0; i < 1024; ++i) CHECK(out[i] == 4 * i);

  for (int i = 0; i < 1024; ++i) in[i] = i % 37;
  CHECK(go(block_sum, 8, 128, static_cast<const int*>(in.data()), out.data()) == cudaSuccess);
  for (int b = 0; b < 8; ++b) {
    int sum = 0;
    for (int i = 0; i < 128; ++i) sum += in[b * 128 + i];
    CHECK(out[b] == sum);
  }

  CHECK(go(warp_functions, 3, 96, out.data()) == cudaSuccess);
  for (int i = 0; i < 3 * 96; ++i) CHECK(out[i] == 1);

  int sum = 0;
  unsigned most = 0;
  CHECK(go(atomics, 5, 64, &sum, &most) == cudaSuccess);
  CHECK(sum == 5 * 64 * 63 / 2 && most == 63 + 4);

  sum = 0;
  CHECK(go(early_return_then_barrier, 1, 64, &sum) == cudaSuccess && sum == 40);

  const cudaError_t stuck = go(half_of_the_warp_never_comes, 1, 32, &sum);
  CHECK(stuck != cudaSuccess && std::strncmp(cudaGetErrorString(stuck), "stuck", 5) == 0);
  CHECK(go(indices, 1, 1025, out.data()) != cudaSuccess);  // beyond a block's threads

  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
