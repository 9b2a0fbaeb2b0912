from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("points_in_boxes")
def bench_points_in_boxes(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
