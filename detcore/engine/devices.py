"""Devices, precision and processes of a training run, through accelerate."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, distributed, nn

from detcore.data.base import Target
from detcore.engine.config import TrainConfig

# The others wait while the first process evaluates; torch's own limit is ten minutes
_PATIENCE = timedelta(hours=3)


def accelerator(config: TrainConfig) -> Accelerator:
    """accelerate's view of this process: alone, or one of those that a launcher started."""
    gpu = config.device != "cpu" and torch.cuda.is_available()
    wanted: dict[str, Any] = {
        # several processes without a GPU meet through gloo only if that is said
        "cpu": config.device == "cpu" or (process_count() > 1 and not gpu),
        "mixed_precision": config.precision,
        "gradient_accumulation_steps": config.accumulate,
        "kwargs_handlers": [InitProcessGroupKwargs(timeout=_PATIENCE)],
    }
    try:
        made = Accelerator(**wanted)
    except ValueError:
        # accelerate holds one setting a process; a second run in it may want another
        AcceleratorState._reset_state(PartialState().num_processes == 1)
        made = Accelerator(**wanted)
    if made.num_processes != process_count():
        # each would train alone, and all write into one folder
        raise RuntimeError(
            f"{process_count()} processes were started, but accelerate joined {made.num_processes}"
        )
    return made


def is_main_process() -> bool:
    """Whether this process writes: it is alone, or the first of those that a launcher started."""
    return int(os.environ.get("RANK", "0")) == 0


def process_count() -> int:
    """How many processes a launcher started to train one model; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def disband() -> None:
    """Leave the group of processes that trained one model, if there is one, for good."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def fast_precision(device: str) -> str:
    """ "bf16" where the device computes in it natively, else "no".

    Elsewhere bfloat16 is emulated and slower than float32. device: "auto", "cpu" or "cuda...".
    """
    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    # no public name for it yet; without it the safe answer
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return "bf16" if native() else "no"


@contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """The model without accelerate's mixed precision: what is measured is what is saved."""
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.forward = wrapped


def to_device(target: Target, device: torch.device) -> Target:
    """A target whose tensors are on `device`."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in target.items()}


class StopSignal:
    """Ctrl-C and SIGTERM (a cluster that wants its machine back) end a run after a whole step.

    Used as a context manager. asked: whether one came. A second Ctrl-C raises KeyboardInterrupt at
    once, with nothing saved but what was. Outside the main thread, where no signals arrive, it
    does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
