from typing import Any

from benchmarks.harness import Case, compare, contenders


@contenders("decode_dense")
def bench_decode_dense(benchmark: Any, case: Case, device: str, who: str) -> None:
    compare(benchmark, case, device, who)
