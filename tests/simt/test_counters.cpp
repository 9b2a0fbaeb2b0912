// Transactions, bank conflicts and atomics of kernels whose counts can be computed by hand.
#include "device.h"

namespace {

constexpr int kThreads = 64;  // two warps

template <int stride>
__global__ void copy(const float* in, float* out) {
  out[threadIdx.x * stride] = in[threadIdx.x * stride];
}

__global__ void copy_shifted(const float* in, float* out) {
  out[threadIdx.x + 1] = in[threadIdx.x + 1];
}

__global__ void copy_halves(const __half* in, __half* out) { out[threadIdx.x] = in[threadIdx.x]; }

__global__ void copy_wide(const float* in, float* out) {
  float4 v;
  simt::load(&v, in + 4 * threadIdx.x, sizeof v);
  simt::store(out + 4 * threadIdx.x, &v, sizeof v);
}

__global__ void same_address(const float* in, float* out) { out[threadIdx.x] = in[0]; }

// Each lane loops as often as its number. An execution by fewer lanes still counts once.
__global__ void diverging(const float* in, float* out) {
  float sum = 0;
  for (unsigned i = 0; i <= threadIdx.x % 32; ++i) sum += in[i];
  out[threadIdx.x] = sum;
}

template <int stride, class T = float>
__global__ void shared_stride(float* out) {
  __shared__ T slots[32 * 33];
  slots[threadIdx.x * stride] = T(1);
  __syncthreads();
  out[threadIdx.x] = float(slots[threadIdx.x * stride]);
}

__global__ void shared_broadcast(float* out) {
  __shared__ float slot;
  if (threadIdx.x == 0) slot = 1;
  __syncthreads();
  out[threadIdx.x] = slot;
}

__global__ void atomics(int* count, float* sum) {
  atomicAdd(count, 1);
  if (threadIdx.x % 2) atomicAdd(sum, 1.0f);
}

// Lanes return from inside the loop: each ends in its own basic block and does not wait.
__global__ void leaving(const float* in, float* out) {
  for (unsigned i = 0; i < 32; ++i) {
    if (i == threadIdx.x % 32) {
      float sum = 0;
      for (unsigned k = 0; k < 32; ++k) sum += in[i + k];
      out[threadIdx.x] = sum;
      return;
    }
  }
}

// The same work after the loop, where all lanes meet.
__global__ void meeting(const float* in, float* out) {
  unsigned found = 0;
  for (unsigned i = 0; i < 32; ++i)
    if (i == threadIdx.x % 32) found = i;
  float sum = 0;
  for (unsigned k = 0; k < 32; ++k) sum += in[found + k];
  out[threadIdx.x] = sum;
}

__global__ void half_of_a_warp(const float* in, float* out) {
  if (threadIdx.x % 32 < 8)
    for (unsigned k = 0; k < 100; ++k) out[threadIdx.x] += in[k];
}

template <class Launch>
simt::Counters counted(const Launch& launch) {
  simt::count(true);
  CHECK(passes(launch()));
  simt::count(false);
  return simt::counters();
}

void test_global() {
  Device<float> in(4096, 1.0f), out(4096, 0.0f);
  const auto moves = [&](auto kernel) {
    return counted([&] { return go(kernel, 1, kThreads, in, out); });
  };
  simt::Counters c = moves(copy<1>);
  CHECK(c.global_loads == 2 && c.global_stores == 2);
  CHECK(c.load_sectors == 2 * 4 && c.store_sectors == 2 * 4);  // coalesced
  CHECK(c.load_bytes == 256 && c.store_bytes == 256 && c.launches == 1 && c.blocks == 1);
  c = moves(copy<2>);
  CHECK(c.load_sectors == 2 * 8 && c.load_bytes == 256);
  c = moves(copy<32>);
  CHECK(c.global_loads == 2 && c.load_sectors == 2 * 32 && c.store_sectors == 2 * 32);
  c = moves(copy_shifted);
  CHECK(c.load_sectors == 2 * 5);
  c = moves(copy_wide);
  CHECK(c.global_loads == 2 && c.load_sectors == 2 * 16 && c.load_bytes == 1024);
  c = moves(same_address);
  CHECK(c.global_loads == 2 && c.load_sectors == 2 && c.load_bytes == 256);
  c = moves(diverging);
  CHECK(c.global_loads == 2 * 32 && c.load_sectors == 2 * 32 && c.global_stores == 2);
  Device<__half> halves(64, __float2half_rn(1.0f)), out_halves(64);
  c = counted([&] { return go(copy_halves, 1, kThreads, halves, out_halves); });
  CHECK(c.load_sectors == 2 * 2 && c.load_bytes == 128);
}

void test_shared() {
  Device<float> out(64);
  const auto conflicts = [&](auto kernel) {
    const simt::Counters c = counted([&] { return go(kernel, 1, 32, out); });
    CHECK(c.shared_accesses == 2 && c.barriers == 1);  // one store and one load
    return c.bank_conflicts / 2;
  };
  CHECK(conflicts(shared_stride<1>) == 0);
  CHECK(conflicts(shared_stride<2>) == 1);
  CHECK(conflicts(shared_stride<32>) == 31);
  CHECK(conflicts(shared_stride<33>) == 0);
  CHECK(conflicts(shared_broadcast) == 0);
  // The two halves of a warp are served one after the other
  CHECK(conflicts(shared_stride<1, double>) == 0);
  CHECK(conflicts(shared_stride<2, double>) == 2);
}

void test_atomics() {
  Device<int> count(1, 0);
  Device<float> sum(1, 0.0f);
  const simt::Counters c = counted([&] { return go(atomics, 3, 64, count, sum); });
  CHECK(c.int_atomics == 3 * 64 && c.float_atomics == 3 * 32 && c.blocks == 3);
}

void test_divergence() {
  Device<float> in(128, 1.0f), out(64, 0.0f);
  const auto lanes = [&](auto kernel, double& narrow) {
    const simt::Counters c = counted([&] { return go(kernel, 1, kThreads, in, out); });
    narrow = double(c.narrow_steps) / double(c.steps);
    return double(c.step_lanes) / double(c.steps);
  };
  double narrow;
  CHECK(lanes(copy<1>, narrow) == 32 && narrow == 0);
  CHECK(lanes(meeting, narrow) > 28 && narrow < 0.1);
  CHECK(lanes(leaving, narrow) < 4 && narrow > 0.9);
  const double few = lanes(half_of_a_warp, narrow);
  CHECK(few > 7.9 && few < 9 && narrow > 0.9);
}

}  // namespace

int main() {
  test_global();
  test_shared();
  test_atomics();
  test_divergence();
  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
