// The threads that CPU kernels run on. Doesn't use torch, so that the C++ tests can run it alone.
#pragma once

#include "detcore/core.h"

namespace detcore {

// Calls body for disjoint ranges that cover [0, count), each at least `grain` long except the last,
// on the calling thread and up to `threads` - 1 other threads.
//
// The caller begins at once and takes range after range; the other threads take ranges as soon as
// they run. So the caller waits only for threads that are processing a range. OpenMP's parallel
// loops, which torch uses, wait for all threads of the team: if other programs keep the cores busy,
// each loop may wait some milliseconds until the system runs the last thread.
//
// Any thread may call it, also at the same time or from inside a body. After a fork the child
// starts its own threads.
void run_on_threads(int threads, int64_t count, int64_t grain, Executor::Body body, void* context);

}  // namespace detcore
