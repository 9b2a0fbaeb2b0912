"""Checkpoints: weights in safetensors, and a JSON beside them that says what they are.

``last.safetensors`` holds the weights, and in its header a copy of ``last.json``; so one rename
brings weights and configuration together, and a run killed between two renames leaves a
checkpoint that loads. Nothing is unpickled.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from detcore import models
from detcore.checkpoints.header import FORMAT, CheckpointError, CheckpointInfo, parse_header
from detcore.utils.atomic_write import atomic, unwritten, write_text
from detcore.utils.errors import DataError
from detcore.utils.user_files import read_text

__all__ = ["CheckpointError", "CheckpointInfo", "find", "load", "read", "save"]

_NAMES = ("best", "last")

log = logging.getLogger(__name__)


def save(path: Path, model: nn.Module, info: CheckpointInfo) -> None:
    """Write ``path`` (``.safetensors``) and the JSON beside it, each whole or not at all.

    Args:
        path: where to; its folder must exist.
        model: its `state_dict` is written, in its own dtypes.
        info: goes into the JSON and into the header of the weights.
    """
    text = json.dumps({"format": FORMAT, **vars(info)}, indent=2)
    write_tensors(path, model.state_dict(), {"detcore": text})
    write_text(path.with_suffix(".json"), text + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
    """Write tensors and the header's texts, whole or not at all; WriteError where that fails."""
    with atomic(path) as aside:
        try:
            save_file(unshared(tensors), str(aside), metadata=texts)
        except SafetensorError as error:  # which is no OSError where the disk is full
            raise unwritten(path, error) from error


def load(path: str | Path, **options: Any) -> tuple[nn.Module, CheckpointInfo]:
    """Build the model that a checkpoint describes and fill in its weights.

    Args:
        path: a ``.safetensors`` file, or a run folder, whose ``best`` checkpoint is taken, or else
            its ``last``.
        options: arguments of the model's class, which override those it was saved with.

    Returns:
        The model on the CPU, in evaluation mode, and what is known of it.

    Raises:
        CheckpointError: there is no checkpoint, the file is truncated or foreign, or its tensors
            do not fit the model that its configuration describes.
    """
    file = find(path)
    info, tensors = read(file)
    _check_fit(file, _planned(file, info.model), tensors)
    try:
        model = models.create(**info.model | options)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: its model can't be built ({error})") from error
    if options:
        _check_fit(file, model, tensors)
    with torch.no_grad():
        model.load_state_dict(tensors)
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
    info = parse_header(file, embedded, len(tensors))
    beside = file.with_suffix(".json")
    if beside.is_file() and not _says(beside, embedded):
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


def _says(file: Path, text: str) -> bool:
    try:
        return read_text(file).strip() == text.strip()
    except DataError:
        return False


def _planned(file: Path, config: dict[str, Any]) -> nn.Module:
    """The model without memory for its weights, which costs nothing however large they would be."""
    try:
        with torch.device("meta"):
            return models.create(**config)
    except Exception as error:  # whatever senseless options make a constructor stumble over
        raise CheckpointError(f"{file}: its model can't be built ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__


def _check_fit(file: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless names, shapes and kinds of number are the model's."""
    wanted = model.state_dict()
    faults = [f"{n} is missing" for n in wanted if n not in tensors]
    faults += [f"{n} is unknown" for n in tensors if n not in wanted]
    faults += [
        f"{n} must be {list(wanted[n].shape)}, got {list(t.shape)}"
        for n, t in tensors.items()
        if n in wanted and wanted[n].shape != t.shape
    ]
    faults += [
        f"{n} must be of {'real' if wanted[n].is_floating_point() else 'whole'} numbers, "
        f"got {t.dtype}"
        for n, t in tensors.items()
        if n in wanted
        and (wanted[n].is_floating_point(), False) != (t.is_floating_point(), t.is_complex())
    ]
    faults += [f"{n} holds NaN or infinity" for n, t in tensors.items() if not _is_finite(t)]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(
            f"{file}: weights don't fit their model: {'; '.join(faults[:3])}{more}"
        )


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
