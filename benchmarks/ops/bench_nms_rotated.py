from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("nms_rotated")
def bench_nms_rotated(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
