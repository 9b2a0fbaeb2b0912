"""Checkpoints: weights in safetensors, and a JSON beside them that says what they are.

``last.safetensors`` holds the weights, and in its header a copy of ``last.json``; so one rename
brings weights and configuration together, and a run killed between two renames leaves a
checkpoint that loads. Nothing is unpickled.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from detcore.utils.atomic_write import atomic
from detcore.utils.errors import UserError

FORMAT = 1
_NAMES = ("best", "last")

log = logging.getLogger(__name__)


class CheckpointError(UserError):
    """A checkpoint can't be found, read or fitted to its model; the text names the file."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What is known of a checkpoint beside its weights.

    model: what `detcore.models.create` rebuilds the model from. classes: names without
    background. task: "detection" or "classification". data: how the training data was named and
    sized. training: the training arguments. metrics: of the evaluation at this step, if any.
    """

    model: dict[str, Any]
    classes: list[str]
    task: str = "detection"
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)


def save(path: Path, model: nn.Module, info: CheckpointInfo) -> None:
    """Write ``path`` (``.safetensors``) and the JSON beside it, each whole or not at all.

    Args:
        path: where to; its folder must exist.
        model: its `state_dict` is written, in its own dtypes.
        info: goes into the JSON and into the header of the weights.
    """
    text = json.dumps({"format": FORMAT, **vars(info)}, indent=2)
    tensors = unshared(model.state_dict())
    with atomic(path) as aside:
        save_file(tensors, str(aside), metadata={"detcore": text})
    with atomic(path.with_suffix(".json")) as aside:
        aside.write_text(text + "\n", encoding="utf-8")


def load(path: str | Path, **options: Any) -> tuple[nn.Module, CheckpointInfo]:
    """Build the model that a checkpoint describes and fill in its weights.

    Args:
        path: a ``.safetensors`` file, or a run's folder, of which ``best`` is taken and without
            it ``last``.
        options: of the model's constructor, over those it was saved with.

    Returns:
        The model on the CPU, in evaluation mode, and what is known of it.

    Raises:
        CheckpointError: nothing there, a truncated or foreign file, or tensors that don't fit
            the model that the configuration describes.
    """
    from detcore import models

    file = find(path)
    info, tensors = read(file)
    try:
        model = models.create(**info.model | options)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: its model can't be built ({error})") from error
    _fit(file, model, tensors)
    return model.eval(), info


def find(path: str | Path) -> Path:
    """The weights file for a file or a run's folder.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    if path.is_dir():
        for name in _NAMES:
            if (path / f"{name}.safetensors").is_file():
                return path / f"{name}.safetensors"
        raise CheckpointError(f"{path}: no checkpoint here (looked for best and last.safetensors)")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    return path


def read(file: Path) -> tuple[CheckpointInfo, dict[str, Tensor]]:
    """Configuration and tensors of a weights file, on the CPU.

    Raises:
        CheckpointError: the file is truncated, is no safetensors file or not one of detcore's.
    """
    try:
        metadata, tensors = stored(file)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: truncated, or no safetensors file ({error}); nothing was loaded"
        ) from error
    embedded = metadata.get("detcore", "")
    info = _parse(file, embedded)
    beside = file.with_suffix(".json")
    if beside.is_file() and beside.read_text(encoding="utf-8").strip() != embedded.strip():
        log.warning(
            "%s is not what these weights were saved with; using the copy inside %s",
            beside,
            file.name,
        )
    return info, tensors


def unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors; safetensors refuses two names for the same memory."""
    seen: set[int] = set()
    out = {}
    for name, tensor in state.items():
        tensor = tensor.detach().to("cpu").contiguous()
        out[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return out


def stored(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts in a safetensors file's header by key, and its tensors by name, on the CPU.

    Raises SafetensorError or OSError for a file that is none.
    """
    with safe_open(str(file), framework="pt") as opened:
        names = opened.keys()
        return opened.metadata() or {}, {name: opened.get_tensor(name) for name in names}


def _parse(file: Path, embedded: str) -> CheckpointInfo:
    try:
        fields = json.loads(embedded)
        form = fields.pop("format")
    except (ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(
            f"{file}: not a checkpoint of detcore, its header describes no model"
        ) from error
    if form != FORMAT:
        raise CheckpointError(f"{file}: written by another version of detcore (form {form})")
    return CheckpointInfo(**fields)


def _fit(file: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    wanted = model.state_dict()
    faults = [f"{n} is missing" for n in wanted if n not in tensors]
    faults += [f"{n} is unknown" for n in tensors if n not in wanted]
    faults += [
        f"{n} must be {list(wanted[n].shape)}, got {list(t.shape)}"
        for n, t in tensors.items()
        if n in wanted and wanted[n].shape != t.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(
            f"{file}: weights don't fit their model: {'; '.join(faults[:3])}{more}"
        )
    with torch.no_grad():
        model.load_state_dict(tensors)
