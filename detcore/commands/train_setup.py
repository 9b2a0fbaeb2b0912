"""What a training run is made of: model options, augmentation, validation data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from detcore.commands.model_data import check_classes, open_data
from detcore.data import AnyDataset, DataError
from detcore.data.loading.transforms import Augment
from detcore.utils.errors import UsageError
from detcore.utils.text import Say


def model_options(
    given: Sequence[str], backbone: str | None, image_size: int | None, pretrained: bool
) -> dict[str, Any]:
    """Keyword arguments for `detcore.models.create`; `given` are NAME=JSON, bare words strings."""
    options: dict[str, Any] = {"backbone": backbone, "image_size": image_size}
    options = {k: v for k, v in options.items() if v is not None}
    if pretrained:
        options["pretrained"] = True
    for entry in given:
        name, sign, text = entry.partition("=")
        if not sign:
            raise UsageError(f"--option must be NAME=JSON, got {entry!r}")
        try:
            options[name] = json.loads(text)
        except json.JSONDecodeError:
            options[name] = text
    return options


def cascade_parts(model: str, detector: str | None, classifier: str | None) -> dict[str, str]:
    """The options of a cascade that name its parts; UsageError for another model."""
    parts = {"detector": detector, "classifier": classifier}
    given = {name: spec for name, spec in parts.items() if spec is not None}
    if given and model != "cascade":
        raise UsageError(f"--{next(iter(given))} is for --model cascade, got --model {model}")
    return given


def augmentation(
    net: nn.Module,
    dataset: AnyDataset,
    wanted: Augment | None,
    *,
    mosaic: float = 0.0,
    crops: float = 0.0,
) -> Augment:
    """What is asked for, less what the data forbids, at the size that the model works at.

    mosaic, crops: as in `Augment`, with or without the rest of it; UsageError where the data has
    no boxes.
    """
    if (mosaic or crops) and dataset.task != "detection":
        raise UsageError(f"--mosaic and --crops need boxes, the data is for {dataset.task}")
    chosen = wanted or Augment(mirror=0.0, colour=0.0, scale=(1.0, 1.0))
    chosen = replace(chosen, mosaic=mosaic, crops=crops)
    if not dataset.mirror:
        chosen = replace(chosen, mirror=0.0, upside_down=0.0)
    config: Any = getattr(net, "config", {})
    size = config.get("image_size")
    if size and dataset.task != "detection":
        size *= 2  # a classifier stretches to a square: its short side must not lose pixels
    return replace(chosen, longest=size)


def validation_data(
    dataset: AnyDataset, val_data: str | None, chosen: dict[str, Any], say: Say
) -> AnyDataset | None:
    """The val split of `val_data`, or of the training data; None, and said why, without one."""
    spec = val_data or chosen["spec"]
    # data that is given for evaluation counts whole
    share = 1.0 if val_data else chosen.get("val_share")
    if val_data is None and dataset.whole:
        say(
            f"no evaluation: {Path(spec).name} is all training data; "
            f"give a second one with --val-data"
        )
        return None
    try:
        val = open_data(spec, "val", chosen, share)
    except DataError as error:
        if val_data:
            raise
        say(f"no evaluation: {error}")
        return None
    check_classes(val.classes, dataset.classes, spec)
    return val


def digits_as(task: str, size: int | None) -> dict[str, Any]:
    """How the built-in digits are made for a model: at the data's own size unless one is given.

    Enlarging small pictures only costs time.
    """
    return {"task": task, "size": size or (64 if task == "classification" else 128)}
