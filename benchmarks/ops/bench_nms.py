from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("nms")
def bench_nms(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)


@contenders("batched_nms")
def bench_batched_nms(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
