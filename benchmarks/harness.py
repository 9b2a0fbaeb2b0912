"""Shared by all benchmarks: compares results first, interleaves libraries, saves the ratio.

pytest-benchmark runs one benchmark after the other, so on a shared machine it compares different
minutes. Therefore we time all libraries of a case together, interleaved, and then give each
benchmark its own runs: pytest-benchmark's table, its JSON and `pytest-benchmark compare` show them
in the group of the case. The ratios are in extra_info of our benchmark.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

import pytest

from detcore.bench import Case, Figures, Measurement, cases, devices, measure, open_case

# seconds per case, after which no library runs more than three times; less for a quick trial
BUDGET = float(os.environ.get("DETCORE_BENCH_SECONDS", "2"))


class Clock:
    """A clock that replays measured seconds for pytest-benchmark."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def replay(self, times: list[float]) -> Callable[[], None]:
        """A function whose calls take the next of `times` by this clock."""
        left = chain(times, repeat(0.0))

        def run() -> None:
            self.now += next(left)

        return run


CLOCK = Clock()


def contenders(op: str) -> Callable[..., Any]:
    """Parametrize a benchmark over the op's cases, and over detcore and the other libraries."""
    pairs = [
        pytest.param(case, device, who, id=f"{_title(case, device)}-{who}")
        for case in cases(op)
        for device in devices()
        for who in ("detcore", *case.rivals)
    ]
    parametrize = pytest.mark.parametrize(("case", "device", "who"), pairs)
    timer = pytest.mark.benchmark(timer=CLOCK)
    return lambda function: timer(parametrize(function))


def compare(benchmark: Any, case: Case, device: str, who: str) -> None:
    """Benchmark one library in a case; for ours, also record the ratios."""
    if not benchmark.enabled:  # run as a test
        if who == "detcore":
            open_case(case, device, slow_start=False)
        benchmark.pedantic(lambda: None)
        return
    row, measured = _measured(case, device)
    if who in row["skipped"]:
        pytest.skip(f"{who}: {row['skipped'][who]}")
    benchmark.group, benchmark.name = _title(case, device), who
    if who == "detcore":
        benchmark.extra_info |= row
    times = measured.samples[who]
    benchmark.pedantic(CLOCK.replay(times), rounds=len(times))


def _title(case: Case, device: str) -> str:
    return case.work if device == "cpu" else f"{case.work}, {device}"


@lru_cache(maxsize=1)  # the libraries of a case are consecutive
def _measured(case: Case, device: str) -> tuple[Figures, Measurement]:
    return measure(case, BUDGET, device)
