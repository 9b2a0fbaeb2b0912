"""What the commands of `detcore.cli` do, below the reading of arguments and above the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detcore.data import AnyDataset, DataError, load
from detcore.data.sources import named
from detcore.data.transforms import Augment
from detcore.engine import checkpoint, config_file, state
from detcore.engine.checkpoint import CheckpointInfo
from detcore.engine.config import RESUMABLE
from detcore.engine.plots import loss_curve
from detcore.engine.report import headline
from detcore.engine.tiles import Tiles
from detcore.engine.train import TrainResult
from detcore.errors import UserError
from detcore.weights import PUBLISHED

Say = Callable[[str], None]


class UsageError(UserError):
    """Arguments that don't go together; the text is meant for whoever gave them."""


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise UsageError unless `value` is allowed."""
    if value not in allowed:
        raise UsageError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")


def checked_device(name: str) -> str:
    """`name`, if it is auto, cpu or a CUDA device and torch has one; else UsageError."""
    one_of("--device", name.split(":")[0], ("auto", "cpu", "cuda"))
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here")
    return name


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


def open_data(spec: str, split: str, chosen: dict[str, Any]) -> AnyDataset:
    """Open data; `chosen` says of which task, size, seed and length the digits are to be."""
    known = ("task", "size", "seed", "length") if spec == "digits" else ()
    return load(spec, split, **{k: chosen[k] for k in known if chosen.get(k) is not None})


def validation_data(
    dataset: AnyDataset, val_data: str | None, chosen: dict[str, Any], say: Say
) -> AnyDataset | None:
    """The val split of `val_data`, or of the training data; None, and said why, without one."""
    spec = val_data or chosen["spec"]
    if val_data is None and dataset.whole:
        say(f"no evaluation: {Path(spec).name} is one split; name another with --val-data")
        return None
    try:
        val = open_data(spec, "val", chosen)
    except DataError as error:
        if val_data:
            raise
        say(f"no evaluation: {error}")
        return None
    _same_classes(val.classes, dataset.classes, spec)
    return val


def data_for(info: CheckpointInfo, data: str | None, split: str, length: int | None) -> AnyDataset:
    """Data to use a model on, by default what it was trained on; UsageError for another task's."""
    spec = data or info.data.get("spec")
    if not spec:
        raise UsageError("the model doesn't say what it was trained on; give --data")
    dataset = open_data(spec, split, {**info.data, "task": info.task, "length": length})
    if dataset.task != info.task:
        raise UsageError(f"{spec} is for {dataset.task}, the model for {info.task}")
    return dataset


def name_best(net: nn.Module, count: int) -> None:
    """Let a classifier name its `count` best classes; UsageError where it can't."""
    if not hasattr(net, "top_k"):
        raise UsageError("--top-k is for classifiers, the checkpoint is another model's")
    try:
        net.top_k = count  # type: ignore[assignment]
    except ValueError as error:
        raise UsageError(str(error)) from error


def name_above(net: nn.Module, score: float) -> None:
    """Let a classifier of several labels name all classes above a score; UsageError for others."""
    if not getattr(net, "multilabel", False):
        raise UsageError(
            "--score is for detectors and classifiers of several labels; this one names its best "
            "class, or of --top-k the best ones"
        )
    net.score_threshold = score  # type: ignore[assignment]


def tiles_for(info: CheckpointInfo, size: int, overlap: float) -> Tiles:
    """How to cut photos for a checkpoint's detector; UsageError for a classifier."""
    if info.task != "detection":
        raise UsageError(f"--tiles is for detectors, the checkpoint is for {info.task}")
    return Tiles(size, overlap)


def located(spec: str) -> str:
    """Data by its full path, so that a run knows it wherever it goes on."""
    if spec == "digits":
        return spec
    name, path = named(spec)
    return f"{name}:{path.resolve()}" if name else str(path.resolve())


def check_free(out: Path, overwrite: bool) -> None:
    """Raise UsageError if a folder holds a run that is not to be replaced."""
    # settings alone are of a run that ended before its first step
    held = any(out.glob("*.safetensors")) or (out / "log.csv").exists()
    if held and not overwrite:
        raise UsageError(
            f"{out} holds a run already; give another --out, --overwrite, or go on with --resume"
        )


def check_unchanged(folder: Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise UsageError if a flag given on resuming a run would make another run of it.

    saved: the run's settings. given: the flags that were named, by their settings' names.
    """
    for name, value in given.items():
        value = config_file.as_plain(value)
        if name not in RESUMABLE and value != saved.get(name):
            was = "not given" if saved.get(name) is None else saved[name]
            raise UsageError(
                f"--{name.replace('_', '-')} {value} would change the run in {folder}, where it is "
                f"{was}; leave it out, or begin a new run with --config {folder / config_file.NAME}"
            )


def is_saved(folder: Path) -> bool:
    """Whether a run was saved, and so goes on with a model of its own."""
    return (folder / state.NAME).is_file() and (folder / "last.safetensors").is_file()


def saved_model(folder: Path, model: str, dataset: AnyDataset, spec: str) -> nn.Module:
    """The model of a run that goes on; UsageError where it or its data's classes are others now."""
    net, info = checkpoint.load(folder / "last.safetensors")
    _same_classes(dataset.classes, info.classes, spec)
    if model not in PUBLISHED and model != info.model["model"]:
        raise UsageError(f"{folder} trains a model {info.model['model']}, its settings say {model}")
    return net


def digits_as(task: str, size: int | None) -> dict[str, Any]:
    """How the built-in digits are made for a model: at the data's own size unless one is given.

    Enlarging small pictures only costs time.
    """
    return {"task": task, "size": size or (64 if task == "classification" else 128)}


def begin_run(out: Path, settings: dict[str, Any]) -> None:
    """Write a new run's settings into its folder."""
    # or a run killed before its first save would be resumed from what an earlier one left here
    (out / state.NAME).unlink(missing_ok=True)
    config_file.write(out / config_file.NAME, {k: v for k, v in settings.items() if k != "out"})


def conclude(out: Path, result: TrainResult, say: Say) -> None:
    """Draw an ended run's curves, write its last figures, and say what came of it."""
    if (out / "log.csv").exists():  # not if it was ended before the first step
        loss_curve(out / "log.csv", out / "loss.png", out / "val.csv")
    if result.metrics:
        write_json(out / "metrics.json", result.metrics)
    ended = "done:"
    if result.stopped_early or result.interrupted:
        ended = "interrupted after" if result.interrupted else "no better any more after"
    long = result.seconds >= 90
    took = f"{result.seconds / 60:.1f} minutes" if long else f"{result.seconds:.1f} seconds"
    say(f"{ended} {result.steps} steps in {took}  {headline(result.metrics)}".rstrip())
    say(f"checkpoints, log.csv and loss.png are in {out}")
    if result.interrupted:
        say(f"go on with: detcore train --resume {out}")


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with checkpoint.atomic(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _same_classes(there: list[str], wanted: list[str], spec: str) -> None:
    if there != wanted:
        raise UsageError(
            f"{spec} has the classes {', '.join(there)}, the model {', '.join(wanted)}"
        )
