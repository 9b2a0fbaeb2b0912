from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("soft_nms")
def bench_soft_nms(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
