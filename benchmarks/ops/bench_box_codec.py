from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("box_codec")
def bench_box_codec(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
