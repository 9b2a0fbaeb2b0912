"""Data for a model, and what a model is asked to answer."""

from __future__ import annotations

from typing import Any

from torch import nn

from detcore.checkpoints.checkpoint import CheckpointInfo
from detcore.data import AnyDataset, load
from detcore.data.loading.registry import named
from detcore.data.splits import SPLITS, VAL_SHARE
from detcore.inference.tiles import Tiles
from detcore.utils.errors import UsageError


def open_data(
    spec: str, split: str, chosen: dict[str, Any], val_share: float | None = None
) -> AnyDataset:
    """Open data; `chosen` says of which task, size, seed and length the digits are to be.

    It also says of any data whether boxes are to be ``oriented``, and the side of a ``tile``.

    val_share: as in `detcore.data.load`; None: a fifth, of a part ``train`` too.
    """
    known = ("task", "size", "seed", "length") if spec == "digits" else ()
    known = (*known, "oriented", "tile")
    options = {k: chosen[k] for k in known if chosen.get(k) is not None}
    return load(spec, split, val_share=VAL_SHARE if val_share is None else val_share, **options)


def data_for(
    info: CheckpointInfo, data: str | None, split: str | None, length: int | None
) -> AnyDataset:
    """Data to use a model on, by default what it was validated on; UsageError for another task's.

    Other data than the run's counts whole where it isn't divided and no split is asked for.
    """
    spec = data or own_data(info)
    if not spec:
        raise UsageError("the model doesn't say what it was trained on; give --data")
    own = located(spec) == info.data.get("spec")
    share = info.data.get("val_share") if own else 1.0 if split is None else None
    oriented = bool(info.model.get("oriented"))
    chosen = {**info.data, "task": info.task, "length": length, "oriented": oriented}
    chosen["tile"] = 0  # answers are per picture, of the training split too
    dataset = open_data(spec, split or "val", chosen, share)
    if dataset.whole and split not in (None, "all", *SPLITS):
        raise UsageError(f"{spec} has no splits, got --split {split}")
    if dataset.task != info.task:
        raise UsageError(f"{spec} is for {dataset.task}, the model for {info.task}")
    return dataset


def own_data(info: CheckpointInfo) -> str | None:
    """What a run was validated on: its own --val-data, or the data that it was trained on."""
    return info.data.get("val_spec") or info.data.get("spec")


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


def check_views(info: CheckpointInfo) -> None:
    """UsageError unless the checkpoint is a detector's, whose views can be fused."""
    if info.task != "detection":
        raise UsageError(f"--tta is for detectors, the checkpoint is for {info.task}")
    if info.model.get("oriented"):
        raise UsageError("--tta fuses upright boxes, the checkpoint finds oriented ones")


def located(spec: str) -> str:
    """Data by its full path, so that a run knows it wherever it goes on."""
    if spec == "digits":
        return spec
    name, path = named(spec)
    return f"{name}:{path.resolve()}" if name else str(path.resolve())


def check_classes(there: list[str], wanted: list[str], spec: str) -> None:
    """Raise UsageError unless the data has exactly the model's classes, in the same order."""
    if there != wanted:
        raise UsageError(
            f"{spec} has the classes {', '.join(there)}, the model {', '.join(wanted)}"
        )
