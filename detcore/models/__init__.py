"""Four models and a cascade of two of them, and `create`, which makes any by its name."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from .cascade import Cascade
from .classifier import Classifier
from .detector import Detector, FixedShape
from .faster_rcnn import FasterRCNN
from .multitask import MultiTask
from .optimize import optimize
from .ssd import SSD
from .yolo import YOLO

__all__ = [
    "MODELS",
    "SSD",
    "YOLO",
    "Cascade",
    "Classifier",
    "Detector",
    "FasterRCNN",
    "FixedShape",
    "MultiTask",
    "create",
    "optimize",
]

MODELS: dict[str, type[nn.Module]] = {
    "faster_rcnn": FasterRCNN,
    "ssd": SSD,
    "yolo": YOLO,
    "classifier": Classifier,
    "cascade": Cascade,
}


def create(model: str, num_classes: int, **options: Any) -> nn.Module:
    """A new model by name, with fresh weights.

    Args:
        model: "faster_rcnn", "ssd", "yolo", "classifier" or "cascade".
        num_classes: number of classes; for detectors including the background, for a classifier
            without one.
        options: keyword arguments of the model's class. For a cascade, `detector` and `classifier`
            may also be a name or a mapping of arguments for `create`.

    Returns:
        The model, in training mode, float32, on the CPU. Its `config` is a dict that JSON can
        hold; `create(**config)` builds the same architecture.

    Raises:
        ValueError: for an unknown name or option.

    Example:
        >>> from detcore.models import create
        >>> create("ssd", num_classes=3, image_size=64).config["model"]
        'ssd'
    """
    if model not in MODELS:
        raise ValueError(f"create: model must be one of {', '.join(MODELS)}, got {model!r}")
    kind = MODELS[model]
    known = [name for name in inspect.signature(kind).parameters if name != "num_classes"]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"create: options of {model} are {', '.join(known)}, got {unknown}")
    if kind is Cascade:
        classifier = options.get("classifier", {"model": "classifier", "image_size": 64})
        options["detector"] = _member("detector", options.get("detector", "yolo"), "yolo", 2)
        options["classifier"] = _member("classifier", classifier, "classifier", num_classes - 1)
    return kind(num_classes, **options)


def _member(
    role: str, spec: str | Mapping[str, Any] | nn.Module, usual: str, num_classes: int
) -> nn.Module:
    if isinstance(spec, nn.Module):
        return spec
    if isinstance(spec, str):
        spec = {"model": spec}
    if not isinstance(spec, Mapping):
        # a config says None where a module was given that does not say how to build it
        raise ValueError(
            f"create: {role} of a cascade must be a name, a mapping or a module, got {spec}"
        )
    return create(**{"model": usual, "num_classes": num_classes, **spec})
