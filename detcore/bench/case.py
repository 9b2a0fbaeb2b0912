"""What a benchmark case is: inputs, ours, the rivals, what makes results equal, what must hold."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

Function = Callable[[], Any]
Same = Callable[..., bool]

# what a rival needs beyond torch and torchvision
MODULES = {
    "powerboxes": ("powerboxes",),
    "lsnms": ("lsnms",),
    "shapely": ("shapely",),
    "ensemble-boxes": ("ensemble_boxes",),
    "OpenVINO": ("openvino",),
    "ONNX Runtime": ("onnxruntime", "onnx"),
}


def missing(rival: str) -> bool:
    """Whether a rival's packages are not installed."""
    return any(find_spec(module) is None for module in MODULES.get(rival, ()))


@dataclass(frozen=True)
class Contender:
    """One way to do a case's work.

    prepare: takes the case's inputs, gives the function that is timed: what can be done once
        (conversions, building a model, compiling) is done there, to the rival's advantage.
    read: turns that function's result into ours' form, to compare them; not timed.
    same: the case's own test of equality if None.
    cpu_only: does not run on CUDA tensors.
    slow_start: seconds go by in prepare; left out of the quick table.
    waits: reads a number back from the device, so that no CUDA graph can hold it.
    """

    prepare: Callable[..., Function]
    read: Callable[[Any], Any] = field(default=lambda result: result)
    same: Same | None = None
    cpu_only: bool = False
    slow_start: bool = False
    waits: bool = False


def equal(ours: Tensor, theirs: Tensor, *_: Any) -> bool:
    """Whether two results are the same tensor, to the last bit."""
    return torch.equal(ours, theirs)


def tensors_once(inputs: tuple[Any, ...], result: Any) -> int:
    """Bytes that are moved if every input is read once and every result written once."""
    tensors = [t for t in tree_leaves((inputs, result)) if isinstance(t, Tensor)]
    # an output that is given is a result too
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Contender:
    """The contender that calls function(*inputs, *arguments, **options)."""
    return Contender(lambda *inputs: partial(function, *inputs, *arguments, **options))


@dataclass(frozen=True)
class Must:
    """A goal on the CPU with two threads. kind: what `least` and the further `aim` are.

    times: at least so many times faster than the peer; limit: at most so many times the limit's
    time; ms: at most so many milliseconds.
    """

    kind: Literal["times", "limit", "ms"]
    least: float
    aim: float

    def __str__(self) -> str:
        sign, unit = {"times": (">=", "x"), "limit": ("<=", "x limit"), "ms": ("<=", " ms")}[
            self.kind
        ]
        return f"{sign} {self.least:g}{unit}"

    def met(self, figure: float, *, aim: bool = False) -> bool:
        """Whether a measured figure reaches the least (or, with `aim`, the aim)."""
        goal = self.aim if aim else self.least
        return figure >= goal if self.kind == "times" else figure <= goal


@dataclass(frozen=True, eq=False)
class Case:
    """One op on one input. Nothing is made before `open`.

    inputs: makes the tensors. rivals: by name; the first is the peer that ratios are taken to.
    same(ours, theirs, *inputs): whether two results are equal.
    limit: writes with torch what ours writes, and nothing else.
    moved(inputs, result): bytes that ours can't do without moving.
    truth: what ours is compared with where the peer's own result is known to be wrong at times.
    new_pages: the result is beyond what malloc keeps (32 MiB), so that a program gets pages for it
        that were never touched, call after call; the measurement sees to that.
    quick: in the table of `detcore bench` without --full.
    """

    op: str
    work: str
    inputs: Callable[[], tuple[Any, ...]]
    ours: Contender
    rivals: dict[str, Contender]
    same: Same
    limit: Contender | None = None
    moved: Callable[[tuple[Any, ...], Any], int] = tensors_once
    truth: Contender | None = None
    must: Must | None = None
    new_pages: bool = False
    quick: bool = True

    def __str__(self) -> str:
        return self.work

    @property
    def peer(self) -> str:
        """The name of the first rival: the one that the ratios are taken against."""
        return next(iter(self.rivals))


@dataclass
class Contest:
    """A case with its inputs made and its results compared: what is left is to time it.

    first: seconds of each rival's first call. skipped: why a rival does not take part. bytes: the
    case's `moved`. differs: where the results were not equal and it was not to be an error.
    """

    case: Case
    device: str
    functions: dict[str, Function]
    first: dict[str, float]
    skipped: dict[str, str]
    limit: Function | None
    bytes: int = 0
    differs: str = ""


def open_case(
    case: Case, device: str = "cpu", *, slow_start: bool = True, strict: bool = True
) -> Contest:
    """Makes the inputs, prepares all contenders and compares their results with ours.

    A rival that is not installed, cannot be prepared or gives another result is skipped by name;
    the peer's other result (or the truth's, where the case has one) raises AssertionError, and if
    not strict is noted in the contest.
    """
    inputs = on_device(case, device)
    contest = Contest(case, device, {"detcore": case.ours.prepare(*inputs)}, {}, {}, None)
    result = contest.functions["detcore"]()
    contest.bytes = case.moved(inputs, result)
    ours = case.ours.read(result)
    if case.truth:
        theirs = case.truth.read(case.truth.prepare(*inputs)())
        if not case.same(ours, theirs, *inputs):
            _differ(contest, f"result differs: {_difference(ours, theirs)}", strict)
    for name, rival in case.rivals.items():
        reason = _unfit(name, rival, device, slow_start)
        if not reason:
            reason = _enter(contest, name, rival, ours, inputs, strict)
        if reason:
            contest.skipped[name] = reason
    if case.limit:
        contest.limit = case.limit.prepare(*inputs)
    return contest


def on_device(case: Case, device: str) -> tuple[Any, ...]:
    """A case's inputs, made anew."""
    return tuple(_on(device, x) for x in case.inputs())


def _on(device: str, input: Any) -> Any:
    if isinstance(input, list):
        return [_on(device, x) for x in input]
    return input.to(device) if isinstance(input, Tensor) else input


def _unfit(name: str, rival: Contender, device: str, slow_start: bool) -> str:
    if missing(name):
        return "not installed"
    if device != "cpu" and rival.cpu_only:
        return "CPU only"
    if rival.slow_start and not slow_start:
        return "prepares for long"
    return ""


def _enter(
    contest: Contest,
    name: str,
    rival: Contender,
    ours: Any,
    inputs: tuple[Any, ...],
    strict: bool,
) -> str:
    """Adds a rival to the contest, or says why not."""
    case = contest.case
    try:
        function = rival.prepare(*inputs)
        begin = time.perf_counter()
        result = function()
        _synchronize(contest.device)
        contest.first[name] = time.perf_counter() - begin
        theirs = rival.read(result)
    except Exception as error:  # a rival may fail in any way of its own
        if name == case.peer and strict:
            raise
        said = str(error).strip().splitlines()
        return f"failed: {type(error).__name__}: {said[0] if said else ''}"
    trusted = name == case.peer and case.truth is not None
    if not trusted and not (rival.same or case.same)(ours, theirs, *inputs):
        if name != case.peer:
            return f"differs: {_difference(ours, theirs)}"
        _differ(contest, f"result differs from {name}'s: {_difference(ours, theirs)}", strict)
    contest.functions[name] = function
    return ""


def _differ(contest: Contest, text: str, strict: bool) -> None:
    if strict:
        raise AssertionError(f"{contest.case}: {text}")
    contest.differs = contest.differs or text


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _difference(ours: Any, theirs: Any) -> str:
    if not (isinstance(ours, Tensor) and isinstance(theirs, Tensor)):
        return "another result"
    if ours.shape != theirs.shape:
        return f"{_shape(theirs)}, ours {_shape(ours)}"
    count = int((ours != theirs).sum())
    if not ours.is_floating_point():
        return f"{count:,} of {ours.numel():,} values"
    return f"up to {float((ours.double() - theirs.double()).abs().max()):.2g}"


def _shape(tensor: Tensor) -> str:
    return f"{len(tensor):,} kept" if tensor.dim() == 1 else str(list(tensor.shape))
