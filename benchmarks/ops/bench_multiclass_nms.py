from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("multiclass_nms")
def bench_multiclass_nms(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
