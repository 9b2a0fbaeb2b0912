from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("nms_3d")
def bench_nms_3d(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
