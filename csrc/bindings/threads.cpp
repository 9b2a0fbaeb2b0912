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

// Ranges per thread: enough that one who comes late leaves little undone, few enough that taking
// them costs nothing.
constexpr int64_t kRangesPerThread = 8;
// How often a thread looks again before it sleeps, about 20 microseconds: waking takes longer, and
// an op's next loop, or the end of another thread's range, is often as near.
constexpr int kLooks = 500;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// One call of run_on_threads, on its caller's stack.
struct Job {
  Executor::Body body;
  void* context;
  int64_t count, range;
  int wanted;                    // helpers that may still join; guarded by the pool's mutex
  std::atomic<int> helpers{0};   // that have joined and are not done
  std::atomic<int64_t> next{0};  // the first index that nobody has taken

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
    jobs.erase(std::find(jobs.begin(), jobs.end(), &job));  // from here on nobody joins
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
  std::vector<Job*> jobs;              // that may want helpers
  std::atomic<uint32_t> published{0};  // how many jobs there have been
  int size = 0;                        // helper threads

  // False where the system grants no more threads: then fewer, or the caller alone, do the work.
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
        // the caller may be gone as soon as the last helper has left
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

  // A job that wants help and has ranges left, with this thread counted in; null if there is none.
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

// Never destroyed: helpers sleep in it until the process ends.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
  // A child process has none of its parent's threads, and perhaps a mutex that stays locked.
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
