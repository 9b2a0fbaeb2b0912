from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("box3d_iou")
def bench_box3d_iou(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
