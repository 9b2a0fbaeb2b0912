"""Interleaved timing of a case's contenders, and one row of figures of it."""

import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

import detcore

from .case import Case, Function, open_case

SLOW = 5.0  # seconds: a rival that needs more is run once

Figures = dict[str, Any]


@dataclass
class Measurement:
    """Seconds of each contender's runs, which were interleaved."""

    samples: dict[str, list[float]] = field(default_factory=dict)

    @property
    def seconds(self) -> dict[str, float]:
        """Medians."""
        return {name: statistics.median(times) for name, times in self.samples.items()}

    def spread(self, name: str) -> float | None:
        """Interquartile range over median; None for a single run."""
        times = self.samples[name]
        if len(times) < 2:
            return None
        low, _, high = statistics.quantiles(times, n=4)
        return (high - low) / statistics.median(times)

    def ratio(self, rival: str, ours: str = "detcore") -> float:
        """How many times faster ours is."""
        return self.seconds[rival] / self.seconds[ours]


def interleave(
    functions: dict[str, Function],
    budget: float = 1.0,
    *,
    first: dict[str, float] | None = None,
    synchronize: Callable[[], Any] | None = None,
    before: Callable[[], Any] | None = None,
) -> Measurement:
    """Times functions in turn, so that the machine's noise falls on all alike.

    budget: seconds in all, an equal share for each function, which decides how many of the rounds
    it takes part in: at least 3 (the first one 5). Those that need more than SLOW seconds by
    `first`, the seconds of a call made before, are not run again. Calls under 50 us are timed many
    at a time. synchronize ends each timed run, before is called ahead of it, untimed.
    """
    wait = synchronize or (lambda: None)
    measurement = Measurement({name: [] for name in functions})
    repeats, runs, brief = {}, {}, {}
    for place, (name, function) in enumerate(functions.items()):
        if first and first.get(name, 0.0) > SLOW:
            measurement.samples[name] = [first[name]]
            continue
        _timed(function, 1, wait)  # warm-up
        once = _timed(function, 1, wait)
        repeats[name] = max(1, min(200, int(50e-6 / max(once, 1e-7))))
        brief[name] = once < _BRIEF
        cost = once * (repeats[name] + brief[name]) + _PAUSE
        runs[name] = min(300, max(3 if place else 5, int(budget / len(functions) / cost)))
    rounds = max(runs.values(), default=0)
    for i in range(rounds):
        for name, n in runs.items():
            if (i + 1) * n // rounds == i * n // rounds:  # n of the rounds, evenly
                continue
            time.sleep(_PAUSE)
            if brief[name]:
                functions[name]()
            if before:
                before()
            measurement.samples[name].append(_timed(functions[name], repeats[name], wait))
    return measurement


def measure_cpu(
    case: Case, budget: float = 1.0, *, slow_start: bool = True
) -> tuple[Figures, Measurement]:
    """One case's figures, after its results were found equal, and the runs they come from.

    The figures: op, work, device, isa (instruction set), threads, peer; runs: by contender ms
    (median), spread and how many; times: by rival how many times faster ours is; skipped: by rival
    why it was not timed; where the case has them of_limit (ours over the limit's, in runs of
    the two alone) and limit_ms (ours over of_limit), must, aim and whether they are met.
    """
    contest = open_case(case, slow_start=slow_start)
    before = _give_pages_back if case.new_pages else None
    measured = interleave(contest.functions, budget, first=contest.first, before=before)
    row: Figures = {
        "op": case.op,
        "work": case.work,
        "device": "cpu",
        "isa": detcore.build_info()["isa"],
        "threads": torch.get_num_threads(),
        "peer": case.peer,
        "runs": {
            name: {"ms": 1e3 * seconds, "spread": measured.spread(name), "count": len(times)}
            for (name, seconds), times in zip(
                measured.seconds.items(), measured.samples.values(), strict=True
            )
        },
        "times": {name: measured.ratio(name) for name in measured.samples if name != "detcore"},
        "skipped": contest.skipped,
    }
    if contest.limit:
        # alone with ours: a rival's temporaries would decide whose output meets fresh pages
        both = {"detcore": contest.functions["detcore"], "limit": contest.limit}
        pair = interleave(both, budget / 2, before=before)
        row["of_limit"] = pair.ratio("detcore", ours="limit")
        # at the machine's pace of ours' own runs above, so that the three numbers go together
        row["limit_ms"] = row["runs"]["detcore"]["ms"] / row["of_limit"]
    if case.must:
        figure = {
            "times": row["times"].get(case.peer),
            "limit": row.get("of_limit"),
            "ms": row["runs"]["detcore"]["ms"],
        }[case.must.kind]
        if figure is None:
            return row, measured  # the peer is not installed: "skipped" says so
        row |= {"must": str(case.must), "must_kind": case.must.kind, "must_least": case.must.least}
        row |= {"aim": case.must.aim, "met": case.must.met(figure)}
        row["aim_met"] = case.must.met(figure, aim=True)
    return row, measured


def _give_pages_back() -> None:
    """Free memory goes back to the system, or a lucky call would write on pages of the last one."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim:
        trim(0)


def _timed(function: Function, n: int, wait: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    for _ in range(n):
        function()
    wait()
    return (time.perf_counter() - begin) / n


# Thread pools spin for a while after their work: the next contender waits until they sleep, and
# wakes its own by one call that is not timed, where that call is brief.
_PAUSE = 1e-3
_BRIEF = 10e-3
