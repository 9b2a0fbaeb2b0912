from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("weighted_boxes_fusion")
def bench_weighted_boxes_fusion(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
