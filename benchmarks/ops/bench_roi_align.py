from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("roi_align")
def bench_roi_align(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
