"""What a killed run needs to go on as if it had not been killed.

``last.state.safetensors`` lies beside ``last.safetensors``, the weights to use. It is one file,
and so whole or not there: weights in training, optimizer, average, random states, and in its
header as JSON where the run stands. Nothing is unpickled. It is written between two steps of the
optimizer, so there is never a half-accumulated gradient to keep; the position in the data is the
number of steps.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer

from detcore.checkpoints.checkpoint import CheckpointError, stored, write_tensors
from detcore.training.ema import Ema
from detcore.utils.json_types import Json

FORMAT = 1
NAME = "last.state.safetensors"

RandomState = dict[str, Any]


@dataclass
class Progress:
    """Where a run stands.

    step: steps of the optimizer done. seconds: spent so far. best: highest score, stale:
    evaluations since it rose. metrics: of the evaluation after step `evaluated_at`. pending: the
    log's rows that are not written yet.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    stale: int = 0
    evaluated_at: int = 0
    metrics: Json = field(default_factory=dict)
    pending: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Trainee:
    """The objects that a run changes. scaler: of fp16's gradients, or None."""

    model: nn.Module
    optimizer: Optimizer
    ema: Ema | None = None
    scaler: Any = None


def save(
    path: Path,
    trainee: Trainee,
    progress: Progress,
    randoms: list[RandomState],
    facts: dict[str, Any],
) -> None:
    """Write a run's state, whole or not at all.

    Args:
        path: where to. randoms: one per process, see `random_state`.
        facts: what a resumed run must have in common with this one; `load` compares them.
    """
    tensors = {f"model.{k}": v for k, v in trainee.model.state_dict().items()}
    rest: dict[str, Any] = {"format": FORMAT, "facts": facts, "progress": asdict(progress)}
    for index, entries in trainee.optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
    if trainee.ema:
        tensors |= {f"ema.{k}": v for k, v in trainee.ema.model.state_dict().items()}
        rest["ema_steps"] = trainee.ema.steps
    if trainee.scaler is not None:
        rest["scaler"] = trainee.scaler.state_dict()
    rest["randoms"] = []
    for rank, state in enumerate(randoms):
        tensors |= {f"random.{rank}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
        rest["randoms"].append({k: v for k, v in state.items() if not isinstance(v, Tensor)})
    write_tensors(path, tensors, {"detcore_state": json.dumps(rest)})


def load(path: Path, trainee: Trainee, facts: dict[str, Any]) -> tuple[Progress, list[RandomState]]:
    """Bring a run's objects to where they were when it was saved, in place.

    Returns:
        Where the run stands, and one random state per process.

    Raises:
        CheckpointError: the file is truncated or foreign, or is another run's: `facts` differ.
    """
    rest, tensors = _read(path)
    try:
        _same(path, rest["facts"], json.loads(json.dumps(facts)))
        return _taken_up(path, trainee, rest, tensors)
    except CheckpointError:
        raise
    except Exception as error:  # a header of another shape, tensors of another run
        said = f"{type(error).__name__}: {str(error)[:200]}"
        raise CheckpointError(f"{path}: no training state of this run ({said})") from error


def _taken_up(
    path: Path, trainee: Trainee, rest: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[Progress, list[RandomState]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, key = name.partition(".")
        groups.setdefault(kind, {})[key] = tensor
    try:
        trainee.model.load_state_dict(groups["model"])
        if trainee.ema:
            trainee.ema.model.load_state_dict(groups["ema"])
            trainee.ema.steps = rest["ema_steps"]
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: doesn't fit the run's model ({error})") from error
    _fill(trainee.optimizer, groups.get("optimizer", {}))
    if trainee.scaler is not None and "scaler" in rest:
        trainee.scaler.load_state_dict(rest["scaler"])
    randoms = rest["randoms"]
    for name, tensor in groups["random"].items():
        rank, _, key = name.partition(".")
        randoms[int(rank)][key] = tensor
    return Progress(**rest["progress"]), randoms


def random_state() -> RandomState:
    """The states of all generators that this process draws from: torch's, numpy's, Python's."""
    version, numbers, gauss = random.getstate()
    # detcore itself draws from neither, but a data set of the user's may
    legacy: Any = np.random.get_state()  # noqa: NPY002
    state: RandomState = {
        "torch": torch.get_rng_state(),
        "python": [version, list(numbers), gauss],
        "numpy": [legacy[0], legacy[1].tolist(), *legacy[2:]],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: RandomState) -> None:
    """Let the generators go on from `state`, see `random_state`."""
    torch.set_rng_state(state["torch"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *others = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *others))  # noqa: NPY002
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        metadata, tensors = stored(path)
        rest = json.loads(metadata.get("detcore_state", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: truncated, or no training state ({error})") from error
    if not isinstance(rest, dict):
        raise CheckpointError(f"{path}: no training state, its header is no mapping")
    if rest.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: no training state of this version of detcore (form {rest.get('format')})"
        )
    return rest, tensors


def _same(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if changed:
        faults = "; ".join(
            f"started with {k} {then.get(k)!r}, not {now.get(k)!r}: resume with {then.get(k)!r}"
            for k in changed
        )
        raise CheckpointError(f"{path}: {faults}")


def _fill(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        entries.setdefault(int(index), {})[key] = tensor
    # learning rates and the like come from the configuration, anew at every step
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
    for parameter, entry in optimizer.state.items():
        for key, value in entry.items():
            if value.shape == parameter.shape:
                # laid out in memory as the parameter: else a kernel may take another path, and
                # round otherwise
                entry[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
