from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("box_codec")
def bench_box_codec(benchmark: Any, case: Case, who: str) -> None:
    compare(benchmark, case, who)
