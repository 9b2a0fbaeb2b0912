"""Timing of a device, with a fake device: a counter, on which calls take given times."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from detcore.bench import device


class FakeCuda:
    """torch.cuda as far as `device.py` knows it. A launch costs the device its own seconds, and the
    host a hundred microseconds more if it comes from Python."""

    def __init__(self) -> None:
        self.now = 0.0
        self.capturing: list[float] | None = None
        self.strict = False
        self.captured_calls = 0

    def launch(self, seconds: float) -> None:
        if self.capturing is not None:
            self.capturing.append(seconds)
        else:
            self.now += seconds + 100e-6

    def read_back(self) -> None:
        if self.strict:
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")

    # --- what torch.cuda offers ---
    def Event(self, enable_timing: bool) -> Any:
        event = SimpleNamespace(at=0.0, synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now)
        event.elapsed_time = lambda other: 1e3 * (other.at - event.at)
        return event

    def CUDAGraph(self) -> Any:
        graph = SimpleNamespace(nodes=[])
        graph.replay = lambda: setattr(self, "now", self.now + sum(graph.nodes))
        return graph

    @contextmanager
    def graph(self, graph: Any, stream: object) -> Iterator[None]:
        self.capturing = graph.nodes
        try:
            yield
        finally:
            self.capturing = None
            self.captured_calls = len(graph.nodes)

    def set_sync_debug_mode(self, mode: str | int) -> None:
        self.strict = mode == "error"

    def get_sync_debug_mode(self) -> int:
        return 0

    def synchronize(self) -> None:
        pass

    def current_stream(self) -> object:
        return object()


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(torch, "cuda", fake)
    return fake


def timed(function: Callable[[], Any], **options: Any) -> tuple[float, str]:
    measured, how = device.device_times({"op": function}, 0.01, "cuda", **options)
    return measured.seconds["op"], how["op"]


def test_what_waits_for_nothing_is_replayed(cuda: FakeCuda) -> None:
    seconds, how = timed(lambda: cuda.launch(5e-6))
    assert how == "graph" and seconds == pytest.approx(5e-6)
    assert cuda.captured_calls == 19  # two milliseconds of calls that take 105 microseconds


def test_a_long_call_is_captured_alone(cuda: FakeCuda) -> None:
    seconds, how = timed(lambda: cuda.launch(0.05))
    assert how == "graph" and seconds == pytest.approx(0.05) and cuda.captured_calls == 1


def test_what_torch_sees_reading_back_is_timed_by_events(cuda: FakeCuda) -> None:
    seconds, how = timed(lambda: (cuda.launch(5e-6), cuda.read_back()))
    assert how == "events" and seconds == pytest.approx(105e-6)
    assert cuda.captured_calls == 0 and not cuda.strict


def test_what_is_known_to_read_back_is_not_captured(cuda: FakeCuda) -> None:
    seconds, how = timed(lambda: cuda.launch(5e-6), waits=frozenset(["op"]))
    assert how == "events" and seconds == pytest.approx(105e-6) and cuda.captured_calls == 0


def test_a_capture_that_fails_leaves_events(cuda: FakeCuda) -> None:
    def hidden() -> None:
        cuda.launch(5e-6)
        if cuda.capturing is not None:
            raise RuntimeError("operation not permitted when stream is capturing")

    seconds, how = timed(hidden)
    assert how == "events" and seconds == pytest.approx(105e-6)


def test_a_slow_rival_is_not_run_again(cuda: FakeCuda) -> None:
    def never() -> None:
        raise AssertionError

    assert timed(never, slow={"op": 1.5}) == (1.5, "once")
