"""Devices, precision and processes of a training run, through accelerate."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, distributed

from detcore.data.base import Target
from detcore.training.config import TrainConfig

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


def to_device(target: Target, device: torch.device) -> Target:
    """A target whose tensors are on `device`."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in target.items()}
