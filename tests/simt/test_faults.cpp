// Planted faults: each must be found with the right message, and its corrected twin must pass.
#include "device.h"

namespace {

// --- barriers and warps ------------------------------------------------------------------------

template <bool mended>
__global__ void barrier_in_branch(int* out) {
  if (mended || threadIdx.x < 16) {
    __syncthreads();
    out[threadIdx.x] = 1;
  } else {
    __syncthreads();
    out[threadIdx.x] = 2;
  }
}

__global__ void barrier_beside_exchange(int* out) {
  if (threadIdx.x % 2) *out = int(__ballot_sync(0xffffffffu, 1));
  __syncthreads();
}

template <bool mended>
__global__ void lanes_with_different_masks(int* out) {
  const unsigned mask = mended ? 0xffffffffu : threadIdx.x < 16 ? 0xffffffffu : 0xfffffffeu;
  out[threadIdx.x] = int(__ballot_sync(mask, 1));
}

template <bool mended>
__global__ void lane_outside_its_mask(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(mended ? 0xffffu : 0xfff0u, 1, 4);
}

__global__ void reads_lane_outside_mask(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}

template <bool mended>
__global__ void full_mask_after_return(int* out) {
  if (threadIdx.x >= 20) return;
  out[threadIdx.x] = __any_sync(mended ? 0xfffffu : 0xffffffffu, 1);
}

template <bool mended>
__global__ void different_intrinsics(int* out) {
  if (mended || threadIdx.x < 16)
    out[threadIdx.x] = __any_sync(0xffffffffu, 1);
  else
    out[threadIdx.x] = __all_sync(0xffffffffu, 1);
}

void test_barriers_and_warps() {
  Device<int> out(64, 0);
  CHECK(caught(go(barrier_in_branch<false>, 1, 32, out),
               "barrier in divergent flow: thread 0 waits at __syncthreads in test_faults.cpp:"));
  CHECK(passes(go(barrier_in_branch<true>, 1, 32, out)));
  CHECK(caught(go(barrier_beside_exchange, 1, 32, out), "barrier in divergent flow"));
  CHECK(caught(go(lanes_with_different_masks<false>, 1, 32, out),
               "warp intrinsic with a wrong mask"));
  CHECK(passes(go(lanes_with_different_masks<true>, 1, 32, out)));
  CHECK(caught(go(lane_outside_its_mask<false>, 1, 32, out), "which does not name it"));
  CHECK(passes(go(lane_outside_its_mask<true>, 1, 32, out)));
  CHECK(caught(go(reads_lane_outside_mask, 1, 32, out), "reads lane 20"));
  CHECK(caught(go(full_mask_after_return<false>, 1, 32, out), "returned"));
  CHECK(passes(go(full_mask_after_return<true>, 1, 32, out)));
  CHECK(caught(go(lanes_with_different_masks<true>, 1, 40, out), "which the block does not have"));
  CHECK(caught(go(different_intrinsics<false>, 1, 32, out), "different intrinsics"));
  CHECK(passes(go(different_intrinsics<true>, 1, 32, out)));
}

// --- races -------------------------------------------------------------------------------------

// The neighbour is in another warp, so the barrier is needed.
template <bool mended>
__global__ void exchange_between_warps(int* out) {
  __shared__ int slot[64];
  slot[threadIdx.x] = 0;
  __syncthreads();
  slot[threadIdx.x] = int(threadIdx.x);
  if (mended) __syncthreads();
  out[threadIdx.x] = slot[63 - threadIdx.x];
}

// The neighbour is in the same warp: __syncwarp() is enough. Relying on lockstep is not, since
// sm_70.
template <bool mended>
__global__ void exchange_within_warp(int* out) {
  __shared__ short slot[32];  // two lanes per word: races are checked per byte
  slot[threadIdx.x] = 0;
  __syncwarp();
  slot[threadIdx.x] = short(threadIdx.x);
  if (mended) __syncwarp();
  out[threadIdx.x] = slot[threadIdx.x ^ 1];
}

// The value is overwritten before all threads have read it.
template <bool mended>
__global__ void overwritten_too_early(int* out) {
  __shared__ int slot;
  for (int i = 0; i < 3; ++i) {
    if (threadIdx.x == 0) slot = i;
    __syncthreads();
    out[threadIdx.x] = slot;
    if (mended) __syncthreads();
  }
}

template <bool mended>
__global__ void sync_of_half_a_warp(int* out) {
  __shared__ int slot[32];
  slot[threadIdx.x] = 1;
  __syncwarp(threadIdx.x < 16 ? 0xffffu : 0xffff0000u);
  out[threadIdx.x] = slot[mended ? threadIdx.x ^ 1 : threadIdx.x ^ 16];
}

template <bool mended>
__global__ void histogram(int* out) {
  __shared__ int bins[4];
  if (threadIdx.x < 4) bins[threadIdx.x] = 0;
  __syncthreads();
  if (mended)
    atomicAdd(&bins[threadIdx.x % 4], 1);
  else
    bins[threadIdx.x % 4] += 1;
  __syncthreads();
  if (threadIdx.x < 4) out[threadIdx.x] = bins[threadIdx.x];
}

template <bool mended>
__global__ void atomic_and_plain(int* out) {
  atomicAdd(out, 1);
  if (mended) __syncthreads();
  if (threadIdx.x == 0) out[1] = out[0];
}

template <bool mended>
__global__ void sum_of_blocks(int* out) {
  if (threadIdx.x != 0) return;
  if (mended)
    atomicAdd(out, 1);
  else
    *out += 1;
}

// The last block to finish adds up the results of all blocks.
template <bool mended>
__global__ void last_block(int* parts, int* counter, int* out) {
  __shared__ bool last;
  parts[blockIdx.x * blockDim.x + threadIdx.x] = 1;
  if (mended) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(counter, 1) == int(gridDim.x) - 1;
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x * blockDim.x; ++i) sum += parts[i];
  *out = sum;
}

void test_races() {
  Device<int> out(64, 0);
  for (unsigned seed = 0; seed < 6; ++seed) {
    simt::set_seed(seed);
    CHECK(caught(go(exchange_between_warps<false>, 1, 64, out), "race on shared memory"));
    CHECK(passes(go(exchange_between_warps<true>, 1, 64, out)));
    CHECK(caught(go(exchange_within_warp<false>, 1, 32, out), "race on shared memory"));
    CHECK(passes(go(exchange_within_warp<true>, 1, 32, out)));
    CHECK(caught(go(overwritten_too_early<false>, 1, 64, out), "race on shared memory"));
    CHECK(passes(go(overwritten_too_early<true>, 1, 64, out)));
    CHECK(passes(go(sync_of_half_a_warp<true>, 1, 32, out)));
    CHECK(go(sync_of_half_a_warp<false>, 1, 32, out) != cudaSuccess);
    CHECK(caught(go(histogram<false>, 1, 64, out), "race on shared memory"));
    CHECK(passes(go(histogram<true>, 1, 64, out)));
    CHECK(caught(go(atomic_and_plain<false>, 1, 64, out), "race on global memory"));
    CHECK(passes(go(atomic_and_plain<true>, 1, 64, out)));
    CHECK(caught(go(sum_of_blocks<false>, 3, 32, out), "race on global memory"));
    CHECK(passes(go(sum_of_blocks<true>, 3, 32, out)));
    Device<int> parts(5 * 32), counter(1, 0);
    CHECK(caught(go(last_block<false>, 5, 32, parts, counter, out), "another block wrote"));
    counter.set({0});
    CHECK(passes(go(last_block<true>, 5, 32, parts, counter, out)) && out.host()[0] == 5 * 32);
  }
  simt::set_seed(1);
}

// --- bounds and unwritten memory ---------------------------------------------------------------

__global__ void read_at(const float* in, int64_t at, float* out) { *out = in[at]; }
__global__ void write_at(float* out, int64_t at) { out[at] = 1.0f; }
__global__ void read_wide(const float* in, int64_t at, float* out) {
  float4 v;
  simt::load(&v, in + at, sizeof v);
  simt::store(out, &v, sizeof v);
}
__global__ void local_of_another(float** shared_pointer, float* out) {
  float mine = float(threadIdx.x);
  if (threadIdx.x == 0) *shared_pointer = &mine;
  __syncthreads();
  *out = **shared_pointer + mine;
  __syncthreads();
}
__global__ void past_dynamic(int at) { static_cast<int*>(simt::dynamic_shared())[at] = 1; }

template <bool mended>
__global__ void unwritten_shared(int* out) {
  __shared__ int slot[32];
  if (mended || threadIdx.x != 7) slot[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = slot[31 - threadIdx.x];
}

// A block must not read shared memory that the block before it wrote.
__global__ void shared_of_the_block_before(int* out) {
  __shared__ int slot;
  if (blockIdx.x == 0) slot = 1;
  out[blockIdx.x] = slot;
}

struct Padded {
  double value;
  int index;
};
__global__ void padding(const Padded* in, Padded* out) {
  __shared__ Padded slot[32];
  slot[threadIdx.x].value = in[threadIdx.x].value, slot[threadIdx.x].index = int(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = slot[31 - threadIdx.x];
}

// A function result written directly to memory is a store too.
__device__ Padded padded(int i) { return {double(i), i}; }
__global__ void store_of_a_result(Padded* out) {
  __shared__ Padded slot[32];
  slot[threadIdx.x] = padded(int(threadIdx.x));
  __syncthreads();
  out[threadIdx.x] = slot[31 - threadIdx.x];
  out[threadIdx.x + 32] = padded(slot[threadIdx.x ^ 1].index);
}

void test_bounds() {
  Device<float> in(100, 2.0f), out(100);
  CHECK(passes(go(read_at, 1, 1, in, 99, out)) && passes(go(write_at, 1, 1, in, 0)));
  CHECK(caught(go(read_at, 1, 1, in, 100, out),
               "access outside an allocation: thread 0 reads 4 bytes, 0 bytes past the end of an "
               "allocation of 400 bytes"));
  CHECK(caught(go(read_at, 1, 1, in, 102, out), "8 bytes past the end"));
  CHECK(caught(go(write_at, 1, 1, in, -1), "4 bytes before an allocation of 400 bytes"));
  CHECK(caught(go(write_at, 1, 1, in, int64_t(1) << 40), "far from any"));
  CHECK(caught(go(write_at, 1, 1, nullptr, 0), "far from any"));
  CHECK(caught(go(write_at, 1, 1, in, 100), "kernel write_at, block (0, 0, 0), thread 0"));
  CHECK(passes(go(read_wide, 1, 1, in, 96, out)));
  CHECK(caught(go(read_wide, 1, 1, in, 97, out), "access outside an allocation"));
  CHECK(caught(go(read_wide, 1, 1, in, 2, out), "misaligned access"));
  float* freed = nullptr;
  CHECK(cudaMalloc(&freed, 400) == cudaSuccess && cudaFree(freed) == cudaSuccess);
  CHECK(caught(go(write_at, 1, 1, freed, 0), "access outside an allocation"));
  CHECK(cudaFree(freed) != cudaSuccess);
  Device<float*> pointer(1);
  CHECK(caught(go(local_of_another, 1, 2, pointer, out), "a local variable of thread 0"));
  CHECK(passes(go(past_dynamic, 1, 1, 1023)));
  CHECK(caught(go(past_dynamic, 1, 1, 1024),
               "past the end of an allocation of 4096 bytes of dynamic"));
  std::vector<float> host(101);
  CHECK(cudaMemcpy(host.data(), in, 404, cudaMemcpyDeviceToHost) != cudaSuccess);
  CHECK(cudaMemset(in, 0, 404) != cudaSuccess && cudaMemset(in, 0, 400) == cudaSuccess);
}

void test_unwritten() {
  Device<float> in(100), out(100);
  CHECK(caught(go(read_at, 1, 1, in, 5, out),
               "memory is read that nobody wrote: thread 0 reads 4 bytes of global memory at byte "
               "20 of an allocation of 400"));
  CHECK(passes(go(write_at, 1, 1, in, 5)) && passes(go(read_at, 1, 1, in, 5, out)));
  CHECK(caught(go(read_at, 1, 1, in, 4, out), "memory is read that nobody wrote"));
  CHECK(caught(go(read_wide, 1, 1, in, 4, out), "memory is read that nobody wrote"));
  std::vector<float> host(100);
  CHECK(cudaMemcpy(host.data(), in, 400, cudaMemcpyDeviceToHost) != cudaSuccess);
  CHECK(cudaMemset(in, 0, 400) == cudaSuccess && passes(go(read_wide, 1, 1, in, 4, out)));
  Device<int> ints(32);
  CHECK(caught(go(unwritten_shared<false>, 1, 32, ints), "of shared memory at slot + 28"));
  CHECK(passes(go(unwritten_shared<true>, 1, 32, ints)));
  CHECK(caught(go(shared_of_the_block_before, 2, 1, ints), "memory is read that nobody wrote"));
  Device<Padded> padded_in(32, Padded{1.0, 2}), padded_out(32);
  CHECK(passes(go(padding, 1, 32, padded_in, padded_out)));
  Device<Padded> twice(64);
  CHECK(passes(go(store_of_a_result, 1, 32, twice)) && twice.host()[32].index == 1);
}

// --- order, limits, progress -------------------------------------------------------------------

// A sum of floats depends on the order of the atomics; a sum of integers does not.
template <class T>
__global__ void sum_in_any_order(const float* in, T* out) {
  atomicAdd(out, T(in[threadIdx.x]));
}

// True if a launch gives the same result for every order of threads.
template <class T, class Launch>
bool same_for_all_seeds(const Launch& launch) {
  std::vector<T> first;
  bool same = true;
  for (unsigned seed = 0; seed < 16; ++seed) {
    simt::set_seed(seed);
    const std::vector<T> now = launch();
    if (seed == 0) first = now;
    same = same && now == first;
  }
  simt::set_seed(1);
  return same;
}

void test_order() {
  std::vector<float> values(64);
  for (int i = 0; i < 64; ++i) values[i] = float(1 << i % 25) * 1.37f;
  Device<float> in(64);
  in.set(values);
  const auto sum = [&](auto zero) {
    using T = decltype(zero);
    return same_for_all_seeds<T>([&] {
      Device<T> out(1, zero);
      CHECK(passes(go(sum_in_any_order<T>, 1, 64, in, out)));
      return out.host();
    });
  };
  CHECK(!sum(0.0f));
  CHECK(sum(0ull));
}

template <int bytes>
__global__ void static_shared(int* out) {
  __shared__ int slots[bytes / 4];
  slots[threadIdx.x] = 1;
  out[threadIdx.x] = slots[threadIdx.x];
}

__global__ void spins(volatile int* flag, int* out) {
  while (*flag == 0) {
  }
  *out = 1;
}

template <class... P>
cudaError_t go_with_shared(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                           simt_same<P>... args) {
  void* pointers[] = {&args...};
  return cudaLaunchKernel(kernel, grid, block, pointers, shared, nullptr);
}

void test_limits() {
  Device<int> out(1024);
  const auto launch = [&](dim3 grid, dim3 block, size_t shared) {
    return go_with_shared(static_shared<16384>, grid, block, shared, out);
  };
  CHECK(passes(launch(1, 1024, 32768)));
  CHECK(caught(launch(1, 1025, 0), "invalid configuration: 1025 threads per block"));
  CHECK(caught(launch(1, 0, 0), "invalid configuration: 0 threads per block"));
  CHECK(caught(launch(1, dim3(1, 1, 65), 0), "64 along z"));
  CHECK(caught(launch(1, 32, 49153), "49153 bytes of shared memory"));
  CHECK(caught(launch(1, 32, 32772), "16384 bytes of static and 32772 of dynamic shared memory"));
  const auto allow = [](int bytes) {
    return cudaFuncSetAttribute(static_shared<16384>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                bytes);
  };
  CHECK(caught(allow(65537), "65536 bytes of shared memory a block, not 65537"));
  CHECK(passes(allow(49152)));
  CHECK(passes(launch(1, 32, 49152)));
  CHECK(caught(launch(1, 32, 49153), "the kernel has asked for 49152"));
  CHECK(passes(allow(49156)));
  CHECK(caught(launch(1, 32, 49156), "sm_75 has 65536 a block"));
  CHECK(caught(launch(dim3(1, 65536), 32, 0), "1 x 65536 x 1 blocks"));
}

void test_progress() {
  Device<int> flag(1, 0), out(1);
  CHECK(caught(go(spins, 1, 32, flag, out), "no progress"));
  flag.set({1});
  CHECK(passes(go(spins, 1, 1, flag, out)));
}

}  // namespace

int main() {
  test_barriers_and_warps();
  test_races();
  test_bounds();
  test_unwritten();
  test_order();
  test_limits();
  test_progress();
  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
