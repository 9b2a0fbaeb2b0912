// The threads of CPU kernels: each index is processed once, for any caller and any other load.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "../../csrc/bindings/threads.h"
#include "check.h"

namespace {

struct Seen {
  std::vector<int> times;
  int64_t grain;
  std::atomic<bool> short_range{false};
};

// True if each index was processed once, and every range except the last was at least a grain long.
bool covers(int threads, int64_t count, int64_t grain) {
  Seen seen{std::vector<int>(size_t(count), 0), grain};
  detcore::run_on_threads(
      threads, count, grain,
      [](void* context, int64_t begin, int64_t end) {
        auto& seen = *static_cast<Seen*>(context);
        if (end - begin < seen.grain && end != int64_t(seen.times.size())) seen.short_range = true;
        for (int64_t i = begin; i < end; ++i) ++seen.times[size_t(i)];
      },
      &seen);
  for (int times : seen.times)
    if (times != 1) return false;
  return !seen.short_range;
}

void test_ranges() {
  for (int threads : {0, 1, 2, 3, 8})
    for (int64_t count : {0, 1, 2, 7, 63, 64, 65, 1000, 4099})
      for (int64_t grain : {0, 1, 3, 64, 5000}) CHECK(covers(threads, count, grain));
}

void test_many_callers() {
  std::atomic<int> right{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i)
    callers.emplace_back([&right] {
      for (int call = 0; call < 500; ++call) right += covers(4, 997, 1);
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(right == 8 * 500);
}

void test_call_from_inside() {
  std::atomic<int> right{0};
  detcore::run_on_threads(
      3, 12, 1,
      [](void* context, int64_t begin, int64_t end) {
        for (; begin < end; ++begin) *static_cast<std::atomic<int>*>(context) += covers(3, 100, 1);
      },
      &right);
  CHECK(right == 12);
}

// The caller does all the work itself while no other thread can run: it does not wait for threads
// that have not begun. Here the only helper is blocked in a range of another call.
void test_caller_waits_for_no_one_else() {
  struct Gate {
    std::atomic<int> inside{0};
    std::atomic<bool> open{false};
  } gate;
  std::thread holder([&gate] {
    detcore::run_on_threads(
        2, 2, 1,
        [](void* context, int64_t, int64_t) {
          auto& gate = *static_cast<Gate*>(context);
          ++gate.inside;
          while (!gate.open) std::this_thread::yield();
        },
        &gate);
  });
  while (gate.inside < 2) std::this_thread::yield();  // the other call's caller and the helper
  CHECK(covers(2, 1000, 1));
  gate.open = true;
  holder.join();
}

void test_child_process() {
  if (std::getenv("DETCORE_EMULATED")) {
    std::puts("not tested: a child's threads, which qemu's user mode cannot start");
    return;
  }
  CHECK(covers(3, 1000, 1));  // starts the threads, which the child does not have
  const pid_t child = fork();
  if (child == 0) _exit(covers(3, 1000, 1) && covers(2, 500, 7) ? 0 : 1);
  int status = 1;
  for (int tenths = 0; tenths < 300 && waitpid(child, &status, WNOHANG) == 0; ++tenths)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace

int main() {
  test_caller_waits_for_no_one_else();
  test_ranges();
  test_many_callers();
  test_call_from_inside();
  test_child_process();
  std::printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
