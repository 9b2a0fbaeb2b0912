"""One way for all benchmarks: results compared first, rivals interleaved, the ratio kept.

pytest-benchmark times its rounds one benchmark after the other, which on a shared machine compares
different minutes. So the ratio comes from our own interleaved runs and goes into extra_info;
pytest-benchmark's own table shows every contender in the group of its case.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import detcore
from detcore.engine.bench import Case, cases, measure


def contenders(op: str) -> Callable[..., Any]:
    """Parametrizes a benchmark over the op's cases, and over detcore and each rival."""
    pairs = [
        pytest.param(case, who, id=f"{case.work}-{who}")
        for case in cases(op)
        for who in ("detcore", *case.rivals)
    ]
    return pytest.mark.parametrize(("case", "who"), pairs)


def compare(benchmark: Any, case: Case, who: str) -> None:
    """Benchmarks one contender of a case; ours also records the interleaved ratio."""
    benchmark.group = str(case)
    if who == "detcore":
        benchmark.extra_info |= measure(case) | {
            "threads": torch.get_num_threads(),
            "isa": detcore.build_info()["isa"],
        }
        benchmark.pedantic(case.ours, rounds=10, warmup_rounds=1)
    else:
        benchmark.pedantic(case.rivals[who], rounds=3, warmup_rounds=1)
