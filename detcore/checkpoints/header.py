"""What a checkpoint says of itself, checked before anything is built from it.

A checkpoint comes from anywhere. Its header may ask for a network of 1e12 classes, or for
weights to be fetched from a hub: the first is refused, the second passed over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from detcore.models import MODELS
from detcore.utils.errors import UserError

FORMAT = 1
_TASKS = ("detection", "classification")
_DEEP = 12  # mappings and lists in each other
_ENTRIES = 100_000  # of all that a header holds, but for the classes
_LONGEST = 1000  # list of a model's description
_LARGEST = 65_536  # of a number that sizes a model: pixels, channels, classes
_LAYERS = ("convs", "depth", "layers", "extra", "repeats", "stacked")  # ends of names that count
_HALF = 1e9  # greatest of a number with a fraction


class CheckpointError(UserError):
    """A checkpoint can't be found, read or fitted to its model; the text names the file."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint holds besides its weights.

    Attributes:
        model: the arguments with which `detcore.models.create` rebuilds the model.
        classes: class names without the background.
        task: "detection" or "classification".
        data: how the training data was named and sized.
        training: the training arguments.
        step: the optimizer step at which it was saved.
        metrics: figures of the evaluation at this step, if there was one.
    """

    model: dict[str, Any]
    classes: list[str]
    task: str = "detection"
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)


def parse_header(file: Path, embedded: str, tensors: int) -> CheckpointInfo:
    """A header as an object, after all of it was checked; tensors: how many the file has.

    Raises:
        CheckpointError: no header of detcore's, or one that makes no sense; the text says where.
    """
    try:
        said = json.loads(embedded)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or "format" not in said:
        raise CheckpointError(f"{file}: not a checkpoint of detcore, its header describes no model")
    form = said.pop("format")
    if form != FORMAT:
        raise CheckpointError(
            f"{file}: written by another version of detcore (form {str(form)[:40]})"
        )
    try:
        _check(said, tensors)
    except ValueError as error:
        raise CheckpointError(f"{file}: its header {error}") from error
    return CheckpointInfo(**{**said, "model": _at_home(said["model"])})


def _check(said: Mapping[str, Any], tensors: int) -> None:
    known = [f.name for f in fields(CheckpointInfo)]
    for key in said:
        if key not in known:
            raise ValueError(f"has an unknown key {key[:60]!r}")
    for key, kind in (("model", dict), ("classes", list), ("task", str)):
        if not isinstance(said.get(key), kind):
            raise ValueError(f"must have a {kind.__name__} {key!r}, got {_short(said.get(key))}")
    for key in ("data", "training", "metrics"):
        if not isinstance(said.get(key, {}), dict):
            raise ValueError(f"must have a dict {key!r}, got {_short(said[key])}")
    if said["task"] not in _TASKS:
        raise ValueError(f"must have task {' or '.join(_TASKS)}, got {_short(said['task'])}")
    step = said.get("step", 0)
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise ValueError(f"must have a step from 0, got {_short(step)}")
    wrong = [name for name in said["classes"] if not isinstance(name, str) or not name]
    if wrong or not said["classes"]:
        raise ValueError(f"must have names as classes, got {_short(wrong or said['classes'])}")
    left = [_ENTRIES]
    for key in ("data", "training", "metrics", "model"):
        _check_plain(said.get(key, {}), key, left)
    _check_model(said["model"], "model", tensors)
    _check_count(said)


def _check_plain(value: Any, where: str, left: list[int], deep: int = 0) -> None:
    left[0] -= 1
    if deep > _DEEP or left[0] < 0:
        raise ValueError(f"has too much in {where}")
    for key, inside in _inside(value):
        _check_plain(inside, f"{where}.{key}", left, deep + 1)


def _check_model(value: Any, where: str, tensors: int) -> None:
    """Refuse numbers that no model is made of: there is nothing to build or to wait for then."""
    name = where.rpartition(".")[2]
    if isinstance(value, int) and not isinstance(value, bool):
        most = max(tensors, 1) if name.endswith(_LAYERS) else _LARGEST
        if not -_LARGEST <= value <= most:
            raise ValueError(f"has {where} {_short(value)}, wanted a number up to {most}")
        if value < 1 and name in ("image_size", "num_classes", "in_chans"):
            raise ValueError(f"has {where} {value}, wanted a number from 1")
    elif isinstance(value, float) and not (math.isfinite(value) and abs(value) <= _HALF):
        raise ValueError(f"has {where} {value}, wanted a finite number")
    elif name in ("image_size", "num_classes", "in_chans") and value is not None:
        sizes = isinstance(value, list) and name == "image_size"
        if not sizes:
            raise ValueError(f"has {where} {_short(value)}, wanted a whole number")
    if isinstance(value, list) and len(value) > _LONGEST:
        raise ValueError(f"has {where} of {len(value)} entries, wanted up to {_LONGEST}")
    for key, inside in _inside(value):
        _check_model(inside, f"{where}.{key}", tensors)


def _check_count(said: Mapping[str, Any]) -> None:
    """The classes that are named are those that the model tells apart."""
    model, names = said["model"], len(said["classes"])
    kind = model.get("model")
    if not isinstance(kind, str):
        raise ValueError(f"names no model, got {_short(kind)}")
    if kind not in MODELS:
        return  # whoever builds it says which there are
    wanted = names + (kind != "classifier")  # detectors count the background
    if model.get("num_classes") != wanted:
        came = _short(model.get("num_classes"))
        raise ValueError(f"names {names} classes, so its model must have {wanted}, got {came}")


def _inside(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _at_home(model: Any) -> Any:
    """A model's description without any `pretrained`: the weights are in the file."""
    if isinstance(model, Mapping):
        return {key: _at_home(value) for key, value in model.items() if key != "pretrained"}
    return [_at_home(value) for value in model] if isinstance(model, list) else model


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
