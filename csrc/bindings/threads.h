// The threads that CPU kernels run on. Knows no torch, so that the C++ tests can run it alone.
#pragma once

#include "detcore/core.h"

namespace detcore {

// Calls body over disjoint ranges that cover [0, count), each at least `grain` long but the last,
// on the calling thread and up to `threads` - 1 others.
//
// The caller begins at once and takes range after range; the others take what is left when they get
// to run. So it waits for those alone that are in the middle of a range. OpenMP's parallel loops,
// which torch uses, wait for their whole team: on a machine where other programs keep the cores
// busy, each loop then waits for a thread that the system lets run some milliseconds later.
//
// Any thread may call it, several at a time, also from inside a body. After a fork the child starts
// threads of its own.
void run_on_threads(int threads, int64_t count, int64_t grain, Executor::Body body, void* context);

}  // namespace detcore
