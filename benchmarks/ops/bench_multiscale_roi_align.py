from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("multiscale_roi_align")
def bench_multiscale_roi_align(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
