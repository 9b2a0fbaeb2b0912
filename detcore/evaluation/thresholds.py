"""The thresholds of a detector while it is measured, which are decided here alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from detcore.parts.postprocess import Postprocess
from detcore.utils.errors import UsageError
from detcore.utils.json_types import Json
from detcore.utils.text import counted

# average precision counts detections of all confidences: what is cut off can only cost recall
EVALUATION_SCORE = 0.001


@dataclass(frozen=True)
class Thresholds:
    """Which of its detections a detector returns.

    In what is asked for None stands for the model's own value, but for `score` only if the model
    is as it was published by torchvision: else it is `EVALUATION_SCORE`. In what was used `nms` is
    None for a model without NMS.

    Args:
        score: only scores above it, 0..1.
        nms: IoU above which one of two boxes of a class suppresses the other, 0..1.
        max_detections: at most so many per picture, over all classes; the surest.

    Raises:
        UsageError: a ValueError, for a value out of bounds.
    """

    score: float | None = None
    nms: float | None = None
    max_detections: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("score", self.score), ("nms", self.nms)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"Thresholds: {name} must be in 0..1, got {value}")
        if self.max_detections is not None and self.max_detections < 1:
            raise UsageError(
                f"Thresholds: max_detections must be at least 1, got {self.max_detections}"
            )

    def record(self) -> Json:
        """The three by name, as JSON holds them."""
        return asdict(self)


@contextmanager
def measured_with(model: nn.Module, wanted: Thresholds) -> Iterator[Thresholds | None]:
    """Give a detector its thresholds in evaluation; afterwards it has its own again.

    Args:
        model: any of detcore's, also inside a cascade or another wrapper that has it as `detector`:
            of a cascade the thresholds are those of its detector.

    Yields:
        The thresholds that are in force; None for a model that has none to set, a classifier or
        somebody else's detector.

    Raises:
        UsageError: something is wanted of a model that hasn't got it.
    """
    post = _postprocess_of(model)
    if post is None:
        if wanted != Thresholds():
            raise UsageError(
                "thresholds of score and NMS and a number of detections are for detcore's own "
                f"detectors, got {type(_inside(model)).__name__}"
            )
        yield None
        return
    if wanted.nms is not None and post.iou_threshold is None:
        raise UsageError("the model finds without NMS: it takes no NMS threshold")
    used = Thresholds(
        _first(wanted.score, post.score_threshold if post.published else EVALUATION_SCORE),
        _first(wanted.nms, post.iou_threshold),
        _first(wanted.max_detections, post.max_detections),
    )
    own = dict(vars(post))
    try:
        vars(post).update(
            score_threshold=used.score, iou_threshold=used.nms, max_detections=used.max_detections
        )
        yield used
    finally:
        vars(post).update(own)


def begin_training(model: nn.Module) -> None:
    """A model that is trained is measured as one of ours, whatever it was published with."""
    if (post := _postprocess_of(model)) is not None:
        post.published = False


def in_words(used: Json) -> str:
    """`Thresholds.record` of what was used, as people read it."""
    nms = "no NMS" if used["nms"] is None else f"NMS at IoU {used['nms']:g}"
    most = counted(used["max_detections"], "detection", "detections")
    return f"scores above {used['score']:g}, {nms}, at most {most} per picture"


def _postprocess_of(model: nn.Module) -> Postprocess | None:
    post = getattr(_inside(model), "postprocess", None)
    return post if isinstance(post, Postprocess) else None


def _inside(model: Any) -> Any:
    """The detector in a cascade or another wrapper; any other model itself."""
    while (detector := getattr(model, "detector", None)) is not None:
        model = detector
    return model


def _first(wanted: Any, own: Any) -> Any:
    return own if wanted is None else wanted
