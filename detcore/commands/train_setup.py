"""What a training run is made of: model options, augmentation, validation data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from detcore.checkpoints.load_model import create_model, is_classifier
from detcore.commands.model_data import check_classes, open_data
from detcore.commands.run_folder import is_saved, saved_model
from detcore.data import AnyDataset, DataError, DetectionDataset
from detcore.data.loading.transforms import Augment
from detcore.data.splits import VAL_SHARE
from detcore.data.tiling import TiledDetection
from detcore.models import MODELS
from detcore.utils.errors import UsageError
from detcore.utils.text import Say


def size_of_digits(model: str, size: int | None) -> int:
    """The side of the built-in digits, which is the model's own size too unless one is given.

    Enlarging small pictures only costs time.
    """
    return size or (64 if is_classifier(model) else 128)


def data_facts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint keeps of a run's data: where it is, how it is divided, which digits."""
    facts: dict[str, Any] = {"spec": settings["data"], "seed": settings["seed"]}
    if settings["val_data"]:
        # all of --data is to learn from
        facts |= {"val_spec": settings["val_data"], "val_share": 0.0}
    elif settings["val_share"] != VAL_SHARE:
        facts["val_share"] = settings["val_share"]
    if settings["oriented"]:
        facts["oriented"] = True
    if settings["data"] == "digits":
        task = "classification" if is_classifier(settings["model"]) else "detection"
        facts |= {"task": task, "size": settings["image_size"]}
    return facts


def model_to_train(
    settings: Mapping[str, Any], dataset: AnyDataset, resume: Path | None
) -> nn.Module:
    """The model of a run that goes on in a folder, or a new one."""
    net = _model_of(settings, dataset, resume)
    if (
        isinstance(dataset, DetectionDataset)
        and getattr(net, "oriented", False) != dataset.oriented
    ):
        if dataset.oriented:
            able = " or ".join(name for name in MODELS if _takes_oriented(name))
            raise UsageError(f"--oriented is for --model {able}, got --model {settings['model']}")
        raise UsageError(f"{settings['weights']} holds a model of oriented boxes; give --oriented")
    return net


def _model_of(settings: Mapping[str, Any], dataset: AnyDataset, resume: Path | None) -> nn.Module:
    model, image_size = settings["model"], settings["image_size"]
    if resume and is_saved(resume):
        return saved_model(resume, model, dataset, settings["data"])
    if model == "cascade" and image_size and settings["data"] != "digits":
        raise UsageError(
            "--image-size: a cascade works at each picture's own size; give its parts' as "
            """in --option 'classifier={"image_size": 96}'"""
        )
    size = None if model == "cascade" else image_size
    options = model_options(
        settings["option"] or [], settings["backbone"], size, settings["pretrained"]
    )
    if settings["oriented"] and _takes_oriented(model):
        options["oriented"] = True
    options |= cascade_parts(model, settings["detector"], settings["classifier"])
    return create_model(
        model,
        dataset,
        options,
        settings["seed"],
        weights=settings["weights"],
        trunk=settings["trunk"],
    )


def _takes_oriented(model: str) -> bool:
    return model in MODELS and "oriented" in signature(MODELS[model]).parameters


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
    rotate: float = 0.0,
) -> Augment:
    """What is asked for, less what the data forbids, at the size that the model works at.

    mosaic, crops, rotate: as in `Augment`, with or without the rest of it; UsageError where the
    data has no boxes, or no oriented ones to turn.
    """
    if rotate and not getattr(dataset, "oriented", False):
        raise UsageError("--rotate turns oriented boxes; give --oriented")
    if (mosaic or crops) and dataset.task != "detection":
        raise UsageError(f"--mosaic and --crops need boxes, the data is for {dataset.task}")
    chosen = wanted or Augment(mirror=0.0, colour=0.0, scale=(1.0, 1.0))
    chosen = replace(chosen, mosaic=mosaic, crops=crops, rotate=rotate)
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
    # a set that is cut for training is measured on such pictures too
    tiles = {"tile": dataset.tiles} if isinstance(dataset, TiledDetection) else {}
    try:
        val = open_data(spec, "val", {**chosen, **tiles}, share)
    except DataError as error:
        if val_data:
            raise
        say(f"no evaluation: {error}")
        return None
    check_classes(val.classes, dataset.classes, spec)
    return val
