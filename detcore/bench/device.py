"""Timing on a GPU: what the device needs, apart from what the call needs, and what memory allows.

A function that waits for nothing is captured into a CUDA graph, many calls in a row, and the graph
is replayed between two events: that is the device's own time, launches and all of Python left out.
One that reads a number back, as NMS does to size its result, is timed by events around each call.
Inputs are where the call before left them, small ones in the L2 cache; rivals' too.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

from .case import Case, Contest, Function, open_case
from .timing import Figures, Measurement, interleave

SLOW = 0.3  # seconds: a rival that needs more is run once
_CALLS = 20  # most that one graph holds
_SAMPLE = 2e-3  # seconds that one timed stretch lasts at least, where the calls are brief
_ROUNDS = (3, 40)


@cache
def bandwidth(device: str) -> float:
    """Bytes per second of a copy inside the device's memory, read and written; measured once."""
    count = 1 << 24
    if device != "cpu":  # 1 GiB, well beyond any cache, if so much is free
        count = min(1 << 28, torch.cuda.mem_get_info()[0] // 32)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    function = lambda: target.copy_(source)  # noqa: E731
    with on_stream(device):
        times = device_times({"copy": function}, 0.2, device)[0].samples["copy"]
    return 2 * source.nbytes / statistics.median(times)


@dataclass
class _Clock:
    """Runs one function `calls` times in a row and gives the seconds of one call."""

    run: Callable[[], float]
    how: str


def device_times(
    functions: dict[str, Function],
    budget: float,
    device: str,
    *,
    slow: dict[str, float] | None = None,
    waits: frozenset[str] = frozenset(),
) -> tuple[Measurement, dict[str, str]]:
    """Device seconds of each function, in turn, and how each was timed: graph, events, clock.

    budget: seconds in all, an equal share for each. slow: seconds of those that are not to be run
    again. waits: functions that are known to read something back, so that no capture is tried. On
    the CPU the clock's time.
    """
    measured, how = Measurement({name: [] for name in functions}), {}
    clocks, left = {}, {}
    for name, function in functions.items():
        if slow and name in slow:
            measured.samples[name], how[name] = [slow[name]], "once"
            continue
        clocks[name] = _clock(function, device, name not in waits)
        how[name] = clocks[name].how
        clocks[name].run()
        left[name] = budget / len(functions)
    for i in range(_ROUNDS[1]):
        for name, clock in clocks.items():
            if left[name] <= 0 and i >= _ROUNDS[0]:
                continue
            begin = time.perf_counter()
            measured.samples[name].append(clock.run())
            left[name] -= time.perf_counter() - begin
    return measured, how


def measure_device(
    case: Case, budget: float, device: str, *, strict: bool = True
) -> tuple[Figures, Measurement]:
    """One case's figures on a device, after its results were found equal, and their runs.

    Keys as `measure_cpu`'s, but for the goals, which are the CPU's. Of a run ms is the device's
    own time, how it was timed, and call_ms what a call takes with all that Python and the launch
    cost, in a row of calls; call_times are the ratios of these. bytes: what must be moved (see
    `Case.moved`); limit_ms: these at `bandwidth`, in bytes per second. If not strict a result that
    differs is no error, but what `differs` says.
    """
    with on_stream(device):  # a gradient runs on its forward's stream
        contest = open_case(case, device, slow_start=False, strict=strict)
        functions, slow = contest.functions, _slow(contest)
        waits = frozenset(["detcore"]) if case.ours.waits else frozenset()
        measured, how = device_times(functions, budget, device, slow=slow, waits=waits)
        wait = torch.cuda.synchronize if device != "cpu" else None
        swift = {name: f for name, f in functions.items() if name not in slow}
        calls = interleave(swift, budget / 2, synchronize=wait)
    calls.samples |= {name: [seconds] for name, seconds in slow.items()}
    seconds, rate = measured.seconds, bandwidth(device)
    rivals = [name for name in functions if name != "detcore"]
    row: Figures = {
        "op": case.op,
        "work": case.work,
        "device": device,
        "peer": case.peer,
        "runs": {
            name: {
                "ms": 1e3 * seconds[name],
                "spread": measured.spread(name),
                "count": len(measured.samples[name]),
                "how": how[name],
                "call_ms": 1e3 * calls.seconds[name],
            }
            for name in functions
        },
        "times": {name: measured.ratio(name) for name in rivals},
        "call_times": {name: calls.ratio(name) for name in rivals},
        "skipped": contest.skipped,
        "bytes": contest.bytes,
        "bandwidth": rate,
        "limit_ms": 1e3 * contest.bytes / rate,
        "of_limit": seconds["detcore"] * rate / max(contest.bytes, 1),
    }
    return row | ({"differs": contest.differs} if contest.differs else {}), measured


def _slow(contest: Contest) -> dict[str, float]:
    """Seconds of the rivals that are too slow to be run often; a first call may also load code."""
    slow = {}
    for name, seconds in contest.first.items():
        if seconds > SLOW and name in contest.functions:
            begin = time.perf_counter()
            contest.functions[name]()
            if contest.device != "cpu":
                torch.cuda.synchronize()
            slow[name] = time.perf_counter() - begin
    return {name: seconds for name, seconds in slow.items() if seconds > SLOW}


@contextmanager
def on_stream(device: str) -> Iterator[None]:
    """On a stream of its own: a graph can't be captured on the default one."""
    if device == "cpu":
        yield
        return
    with torch.cuda.stream(_own_stream()):
        yield
    torch.cuda.synchronize()


@cache
def _own_stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()


def _clock(function: Function, device: str, may_capture: bool) -> _Clock:
    if device == "cpu":
        return _Clock(lambda: _by_clock(function), "clock")
    function()  # what is made at the first call
    once = _by_events(function, 1)
    calls = max(1, min(_CALLS, int(_SAMPLE / max(once, 1e-7))))
    graph = _captured(function, calls) if may_capture and not _reads_back(function) else None
    if graph is None:
        return _Clock(lambda: _by_events(function, 1), "events")
    replays = max(1, int(_SAMPLE / max(_by_events(graph.replay, 1), 1e-7)))
    return _Clock(lambda: _by_events(graph.replay, replays) / calls, "graph")


def _by_clock(function: Function) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def _by_events(function: Callable[[], object], count: int) -> float:
    """Seconds of one call between two events on the current stream."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(count):
        function()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e-3 / count


def _reads_back(function: Function) -> bool:
    """Whether torch sees the function wait for the device; a failing capture would cost more."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        function()
    except RuntimeError:
        return True
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return False


def _captured(function: Function, calls: int) -> torch.cuda.CUDAGraph | None:
    """A graph of so many calls, or None where it can't be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            for _ in range(calls):
                function()
        graph.replay()
        torch.cuda.synchronize()
    except Exception:  # what waits, and what no graph can hold, fails in ways of its own
        return None
    return graph
