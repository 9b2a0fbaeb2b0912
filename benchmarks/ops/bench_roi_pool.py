from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("roi_pool")
def bench_roi_pool(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
