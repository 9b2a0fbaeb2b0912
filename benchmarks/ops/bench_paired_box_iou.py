from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("paired_box_iou")
def bench_paired_box_iou(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
