from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("match_boxes")
def bench_match_boxes(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
