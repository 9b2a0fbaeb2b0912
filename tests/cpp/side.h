// Host or device memory, and calls of the entry for it, for test_launchers.cpp.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "detcore/core.h"
#include "detcore/cuda_device.h"

#if defined(DETCORE_SIMT)
#include "simt.h"
static int cudaMalloc(void** p, size_t bytes) { return (*p = simt::allocate(bytes)) == nullptr; }
static int cudaFree(void* p) { return p && !simt::release(p); }
static int cudaMemcpy(void* to, const void* from, size_t n, int) {
  return !simt::copy(to, from, n, false, false);
}
static int cudaStreamCreate(void** stream) { return *stream = nullptr, 0; }
#else
extern "C" {
int cudaMalloc(void** pointer, size_t bytes);
int cudaFree(void* pointer);
int cudaMemcpy(void* to, const void* from, size_t bytes, int any_direction);
int cudaStreamCreate(void** stream);
}
#endif

using namespace detcore;

namespace {

constexpr int kAnyDirection = 4;  // cudaMemcpyDefault

// If true, output memory on the device is not initialized, so that a tool can find reads of it.
bool bare = false;

// Which of a case's two entries is called, and where its memory is.
struct Side {
  bool cuda;       // false: the CPU entry
  bool on_device;  // false: host memory, for a launcher that fails before it reads it
  Stream stream;
  Status status;
  std::vector<double> results;
  std::vector<void*> blocks;

  Side(bool cuda, bool on_device, Stream stream)
      : cuda(cuda), on_device(on_device), stream(stream) {}
  ~Side() {
    for (void* p : blocks) on_device ? void(cudaFree(p)) : std::free(p);
  }
  Side(const Side&) = delete;

  void* bytes(size_t count, const void* from) {
    void* p = nullptr;
    if (on_device) {
      CHECK(cudaMalloc(&p, count + 64) == 0);
      if (from) CHECK(cudaMemcpy(p, from, count, kAnyDirection) == 0);
    } else {
      p = std::aligned_alloc(64, (count + 127) / 64 * 64);
      memcpy(p, from, count);
    }
    blocks.push_back(p);
    return p;
  }
  template <class T>
  const T* put(const std::vector<T>& values) {
    return static_cast<const T*>(bytes(values.size() * sizeof(T), values.data()));
  }
  // Allocates output memory, filled with a value that is never a result.
  template <class T = char>
  T* room(int64_t count) {
    if (bare && on_device) return static_cast<T*>(bytes(size_t(count) * sizeof(T), nullptr));
    const std::vector<char> junk(size_t(count) * sizeof(T), 0x5a);
    return static_cast<T*>(bytes(junk.size(), junk.data()));
  }
  template <class P>
  void run(Status (*cpu)(const P&, const Executor&), Status (*launcher)(const P&, Stream),
           const P& p) {
    status = cuda ? launcher(p, stream) : cpu(p, Executor{});
  }
  // Appends the written values to the results, if the entry succeeded.
  template <class T>
  void take(const T* from, int64_t count) {
    if (!status || (cuda && !on_device)) return;
    std::vector<T> values(count);
    if (on_device)
      CHECK(bool(copy_to_host(values.data(), from, count * sizeof(T), stream)));
    else
      memcpy(values.data(), from, count * sizeof(T));
    results.insert(results.end(), values.begin(), values.end());
  }
  // Does the same for a count, and returns it.
  int64_t take_count(const int64_t* from, int64_t most) {
    const size_t before = results.size();
    take(from, 1);
    if (results.size() == before) return 0;
    const double count = results.back();
    CHECK(count >= 0 && count <= double(most));  // it was written
    return count >= 0 && count <= double(most) ? int64_t(count) : 0;
  }
};

std::vector<float> floats(int64_t n, unsigned seed, float low = 0, float high = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> any(low, high);
  std::vector<float> out(n);
  for (float& x : out) x = any(random);
  return out;
}

std::vector<float> boxes(int64_t n, unsigned seed) {
  auto out = floats(4 * n, seed, 0, 60);
  for (int64_t i = 0; i < n; ++i)
    for (int k = 2; k < 4; ++k) out[4 * i + k] = out[4 * i + k - 2] + 1 + out[4 * i + k] / 2;
  return out;
}

}  // namespace
