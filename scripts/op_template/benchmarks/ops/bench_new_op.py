from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("new_op")
def bench_new_op(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
