from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("roi_align_rotated")
def bench_roi_align_rotated(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
