#include "threads.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace detcore {
namespace {

// Ranges per thread: enough that a thread which starts late leaves little work to wait for, and few
// enough that taking a range costs nothing.
constexpr int64_t kRangesPerThread = 8;
// How often a thread polls before it sleeps: about 20 microseconds. Waking takes longer, and the
// op's next loop, or the end of another thread's range, often comes within this time.
constexpr int kLooks = 500;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// One call of run_on_threads. It is on the stack of its caller.
struct Job {
  Executor::Body body;
  void* context;
  int64_t count, range;
  // Number of helpers that may still join; guarded by the pool's mutex
  int wanted;
  std::atomic<int> helpers{0};   // number that have joined and are not done
  std::atomic<int64_t> next{0};  // the first index that no thread has taken

  void work() {
    for (;;) {
      const int64_t begin = next.fetch_add(range, std::memory_order_relaxed);
      if (begin >= count) return;
      body(context, begin, std::min(count, begin + range));
    }
  }
};

class Pool {
 public:
  void run(Job& job) {
    const int helpers = job.wanted;
    {
      std::lock_guard<std::mutex> lock(mutex);
      while (size < helpers && start_helper()) continue;
      jobs.push_back(&job);
      published.fetch_add(1, std::memory_order_relaxed);
    }
    if (helpers == 1)
      wake.notify_one();
    else
      wake.notify_all();
    job.work();
    std::unique_lock<std::mutex> lock(mutex);
    jobs.erase(std::find(jobs.begin(), jobs.end(), &job));  // from here on no helper can join
    lock.unlock();
    for (int look = 0; look < kLooks; ++look) {
      if (job.helpers.load(std::memory_order_acquire) == 0) return;
      pause();
    }
    lock.lock();
    done.wait(lock, [&] { return job.helpers.load(std::memory_order_acquire) == 0; });
  }

 private:
  std::mutex mutex;
  std::condition_variable wake, done;
  std::vector<Job*> jobs;              // jobs that may need helpers
  std::atomic<uint32_t> published{0};  // number of jobs so far
  int size = 0;                        // number of helper threads

  // Returns false if the system allows no more threads. Then fewer threads, or only the caller, do
  // the work.
  bool start_helper() {
    try {
      std::thread helper([this] { help(); });
      pthread_setname_np(helper.native_handle(), "detcore");
      helper.detach();
    } catch (const std::system_error&) {
      return false;
    }
    ++size;
    return true;
  }

  [[noreturn]] void help() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      const uint32_t seen = published.load(std::memory_order_relaxed);
      if (Job* job = join()) {
        lock.unlock();
        job->work();
        lock.lock();
        // the job may be destroyed as soon as the last helper has left it
        if (job->helpers.fetch_sub(1, std::memory_order_release) == 1) done.notify_all();
        continue;
      }
      lock.unlock();
      for (int look = 0; look < kLooks && published.load(std::memory_order_relaxed) == seen; ++look)
        pause();
      lock.lock();
      if (published.load(std::memory_order_relaxed) == seen) wake.wait(lock);
    }
  }

  // Returns a job that needs help and has ranges left, and counts this thread as its helper.
  // Returns null if there is none.
  Job* join() {
    for (Job* job : jobs) {
      if (job->wanted == 0 || job->next.load(std::memory_order_relaxed) >= job->count) continue;
      --job->wanted;
      job->helpers.fetch_add(1, std::memory_order_relaxed);
      return job;
    }
    return nullptr;
  }
};

// Never destroyed, because helpers sleep in it until the process ends.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
  // After a fork the child has none of its parent's threads, and the mutex may stay locked, so it
  // gets a new pool.
  static const int once = pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
  (void)once;
  Pool* now = pool.load();
  if (now) return *now;
  Pool* made = new Pool;
  if (pool.compare_exchange_strong(now, made)) return *made;
  delete made;
  return *now;
}

}  // namespace

void run_on_threads(int threads, int64_t count, int64_t grain, Executor::Body body, void* context) {
  if (count <= 0) return;
  grain = std::max<int64_t>(grain, 1);
  const int64_t most = std::max(threads, 1) * kRangesPerThread;
  const int64_t range = std::max(grain, (count + most - 1) / most);
  const int64_t ranges = (count + range - 1) / range;
  const int helpers = int(std::min<int64_t>(threads, ranges)) - 1;
  if (helpers <= 0) return body(context, 0, count);
  Job job{body, context, count, range, helpers};
  the_pool().run(job);
}

}  // namespace detcore
