// Tests each feature of the simulator with a minimal kernel.
#define DETCORE_SM 80  // warp reductions need sm_80
#include "device.h"

namespace {

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
  if (threadIdx.x >= 40) return;  // the barrier does not wait for threads that have returned
  __syncthreads();
  atomicAdd(out, 1);
}

// The two halves of the warp take different branches and join again.
__global__ void partial_masks(int* out) {
  const int lane = int(threadIdx.x);
  const unsigned mine = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  int sum = lane;
  for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(mine, sum, step);
  if (lane < 16) __syncwarp(mine);
  const unsigned same = __match_any_sync(0xffffffffu, lane % 3);
  int all = 0;
  const unsigned matched = __match_all_sync(0xffffffffu, 5, &all);
  const bool reduced = __reduce_add_sync(mine, 1) == 16 &&
                       __reduce_max_sync(mine, lane) % 16 == 15 &&
                       __reduce_min_sync(0xffffffffu, -lane) == -31 &&
                       __reduce_or_sync(0xffffffffu, 1u << lane) == 0xffffffffu;
  const bool right = reduced && sum == (lane < 16 ? 120 : 376) &&
                     __popc(same) == (lane % 3 == 2 ? 10 : 11) && all && matched == 0xffffffffu;
  out[lane] = right;
}

template <class T>
__global__ void integer_atomics(T* out) {
  const T i = T(threadIdx.x);
  atomicAdd(out + 0, i), atomicSub(out + 1, i), atomicMax(out + 2, i), atomicMin(out + 3, i);
  atomicOr(out + 4, T(1) << (i % 8)), atomicAnd(out + 5, ~(T(1) << (i % 8))), atomicXor(out + 6, i);
  if (i == 7) atomicExch(out + 7, i);
  for (T seen = *static_cast<volatile T*>(out + 8), was;
       (was = atomicCAS(out + 8, seen, seen + 2)) != seen;)
    seen = was;
}

__global__ void ring_atomics(unsigned* out) { atomicInc(out + 0, 9), atomicDec(out + 1, 9); }

template <class T>
__global__ void float_atomics(T* sum) {
  atomicAdd(sum, T(1.0f));
}

__global__ void math(const float* in, int* out) {
  const float x = in[threadIdx.x];
  const bool right =
      __float_as_int(1.0f) == 0x3f800000 && __int_as_float(0x40000000) == 2.0f &&
      __fmul_rn(x, 2.0f) == x + x && __fdividef(x, 2.0f) == x / 2 && __frcp_rn(4.0f) == 0.25f &&
      __fsqrt_rn(9.0f) == 3.0f && rsqrtf(16.0f) == 0.25f && __expf(0.0f) == 1.0f &&
      __popc(255) == 8 && __clz(1) == 31 && __ffs(8) == 4 && __brev(1u) == 0x80000000u &&
      __funnelshift_l(0x80000000u, 1u, 1) == 3u && __funnelshift_r(2u, 1u, 1) == 0x80000001u &&
      __byte_perm(0x03020100u, 0x07060504u, 0x7531u) == 0x07050301u && max(3, 2u) == 3u &&
      min(-1, 2) == -1 && max(NAN, 1.0f) == 1.0f && umin(1u, 2u) == 1u &&
      __umulhi(1u << 31, 4u) == 2u && __float2int_rn(2.5f) == 2 && __float2int_rz(-1.9f) == -1 &&
      __float2int_rd(3e9f) == 0x7fffffff && __float2int_ru(NAN) == 0 && __saturatef(2.0f) == 1.0f;
  out[threadIdx.x] = right;
}

__global__ void vectors(const float4* in, float4* out) {
  const float4 v = __ldg(in + threadIdx.x);
  const float2 half = make_float2(v.x, v.w);
  __stcs(out + threadIdx.x, make_float4(half.y, v.z, v.y, half.x));
}

// Blocks take tickets; each waits for a flag of the one before, and the last resets the counter.
__global__ void tickets(int* counter, int* sums, volatile int* ready, int* total) {
  __shared__ int ticket;
  if (threadIdx.x == 0) ticket = atomicAdd(counter, 1);
  __syncthreads();
  const int mine = ticket;
  if (threadIdx.x == 0) {
    int before = 0;
    if (mine > 0) {
      while (!ready[mine - 1]) __nanosleep(20);
      __threadfence();
      before = sums[mine - 1];
    }
    sums[mine] = before + mine;
    __threadfence();
    ready[mine] = 1;
    if (mine == int(gridDim.x) - 1) *total = sums[mine], *counter = 0;
  }
}

// Warp 0 waits for a flag that warp 1 raises.
__global__ void flag_between_warps(int* data, volatile int* flag, int* out) {
  if (threadIdx.x >= 32) {
    data[threadIdx.x - 32] = int(threadIdx.x);
    __syncwarp();
    __threadfence_block();
    if (threadIdx.x == 32) *flag = 1;
  } else {
    while (*flag == 0) {
    }
    __threadfence_block();
    out[threadIdx.x] = data[31 - threadIdx.x];
  }
}

}  // namespace

template <class T>
void test_atomics() {
  Device<T> out(9, T(0));
  out.set({T(0), T(0), T(0), T(99), T(0), T(-1), T(0), T(1), T(0)});
  CHECK(passes(go(integer_atomics<T>, 1, 64, out)));
  CHECK(out.host() ==
        std::vector<T>({T(2016), T(-2016), T(63), T(0), T(255), T(~T(255)), T(0), T(7), T(128)}));
}

template <class T>
float float_sum() {
  Device<T> sum(1, T(0.0f));
  CHECK(passes(go(float_atomics<T>, 2, 64, sum)));
  return float(sum.host()[0]);
}

void test_indices_and_barriers() {
  Device<int> out(1024), in(1024);
  CHECK(passes(go(indices, 4, 256, out)));
  for (int i = 0; i < 1024; ++i) CHECK(out.host()[i] == 4 * i);

  std::vector<int> values(1024);
  for (int i = 0; i < 1024; ++i) values[i] = i % 37;
  in.set(values);
  for (unsigned seed : {0u, 1u, 2u, 3u, 4u}) {
    simt::set_seed(seed);
    CHECK(passes(go(block_sum, 8, 128, in, out)));
    for (int b = 0; b < 8; ++b) {
      int sum = 0;
      for (int i = 0; i < 128; ++i) sum += values[b * 128 + i];
      CHECK(out.host()[b] == sum);
    }
  }
  Device<int> sum(1, 0);
  CHECK(passes(go(early_return_then_barrier, 1, 64, sum)) && sum.host()[0] == 40);
}

void test_warps() {
  Device<int> out(3 * 96);
  CHECK(passes(go(warp_functions, 3, 96, out)));
  CHECK(out.host() == std::vector<int>(3 * 96, 1));
  Device<int> lanes(32);
  CHECK(passes(go(partial_masks, 1, 32, lanes)));
  CHECK(lanes.host() == std::vector<int>(32, 1));
}

void test_flags() {
  constexpr int blocks = 17;
  for (unsigned seed = 0; seed < 8; ++seed) {
    simt::set_seed(seed);
    Device<int> counter(1, 0), sums(blocks), ready(blocks, 0), total(1);
    CHECK(passes(go(tickets, blocks, 32, counter, sums, ready, total)));
    CHECK(total.host()[0] == blocks * (blocks - 1) / 2 && counter.host()[0] == 0);
    Device<int> data(32), flag(1, 0), out(32);
    CHECK(passes(go(flag_between_warps, 1, 64, data, flag, out)));
    for (int i = 0; i < 32; ++i) CHECK(out.host()[i] == 63 - i);
  }
}

int main() {
  test_indices_and_barriers();
  test_warps();
  test_flags();
  Device<int> sum(1, 0);
  Device<unsigned> most(1, 0u), rings(2, 0u);
  CHECK(passes(go(atomics, 5, 64, sum, most)));
  CHECK(sum.host()[0] == 5 * 64 * 63 / 2 && most.host()[0] == 63 + 4);
  CHECK(passes(go(ring_atomics, 1, 25, rings)) && rings.host() == std::vector<unsigned>({5, 5}));
  test_atomics<int>();
  test_atomics<unsigned>();
  test_atomics<unsigned long long>();
  CHECK(float_sum<float>() == 128 && float_sum<double>() == 128 && float_sum<__half>() == 128 &&
        float_sum<__nv_bfloat16>() == 128);

  Device<float> numbers(32, 1.5f);
  Device<int> right(32);
  CHECK(passes(go(math, 1, 32, numbers, right)) && right.host() == std::vector<int>(32, 1));
  Device<float4> in(32, make_float4(1, 2, 3, 4)), out(32);
  CHECK(passes(go(vectors, 1, 32, in, out)) && out.host()[5].x == 4 && out.host()[31].w == 1);

  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
