from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("box_iou_rotated")
def bench_box_iou_rotated(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
