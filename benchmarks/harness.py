"""One way for all benchmarks: results compared first, rivals interleaved, the ratio kept.

pytest-benchmark times its rounds one benchmark after the other, which on a shared machine compares
different minutes. So all contenders of a case are timed together, interleaved, and each benchmark
is then told its own runs: pytest-benchmark's table, its JSON and `pytest-benchmark compare` show
them in the group of the case. The ratios go into our extra_info.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, repeat
from typing import Any

import pytest

from detcore.bench import Case, Figures, Measurement, cases, devices, measure, open_case

# seconds a case, beyond which no rival runs more than three times; less for a trial of the suite
BUDGET = float(os.environ.get("DETCORE_BENCH_SECONDS", "2"))


class Clock:
    """Tells pytest-benchmark the seconds that were measured before."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def replay(self, times: list[float]) -> Callable[[], None]:
        """A function that takes, by this clock, the next of `times` at each call."""
        left = chain(times, repeat(0.0))

        def run() -> None:
            self.now += next(left)

        return run


CLOCK = Clock()


def contenders(op: str) -> Callable[..., Any]:
    """Parametrizes a benchmark over the op's cases, and over detcore and each rival."""
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
    """Benchmarks one contender of a case; ours also records the ratios."""
    if not benchmark.enabled:  # a run of the suite as tests
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


@lru_cache(maxsize=1)  # the contenders of a case come one after the other
def _measured(case: Case, device: str) -> tuple[Figures, Measurement]:
    return measure(case, BUDGET, device)
