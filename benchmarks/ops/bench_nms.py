from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("nms")
def bench_nms(benchmark: Any, case: Case, who: str) -> None:
    compare(benchmark, case, who)


@contenders("batched_nms")
def bench_batched_nms(benchmark: Any, case: Case, who: str) -> None:
    compare(benchmark, case, who)
