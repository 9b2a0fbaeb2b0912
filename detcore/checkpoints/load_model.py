"""Models to use or to train: fresh, of a run, published by torchvision, of Darknet's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detcore import models
from detcore.checkpoints import checkpoint
from detcore.checkpoints.checkpoint import CheckpointError, CheckpointInfo
from detcore.data import AnyDataset
from detcore.utils.arguments import checked_device, one_of
from detcore.utils.errors import UsageError
from detcore.utils.user_files import read_text
from detcore.weights import (
    PUBLISHED,
    WeightsError,
    class_names,
    kind_of,
    load_darknet,
    load_torchvision,
    load_trunk,
)

_SPEEDS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def open_model(
    run: Path | None,
    model: str | None = None,
    weights: str | None = None,
    names: Path | None = None,
    *,
    device: str = "cpu",
    speed: str = "no",
) -> tuple[nn.Module, CheckpointInfo]:
    """A model with its weights, on a device and in evaluation mode, and what is known of it.

    Args:
        run: a run's folder or a .safetensors file of ours; or None, and the other three:
        model: one of `PUBLISHED`, or a Darknet .cfg.
        weights: "torchvision" for the official file, or a path.
        names: a file of class names, one per line, in the order of the labels; None: the published
            model's own, and for Darknet COCO's where it has 80 classes.
        device: auto, cpu or cuda. speed: no, or fp32 or bf16 for `detcore.optimize` in that dtype.

    Raises UsageError where the arguments don't go together, CheckpointError or WeightsError for
    files that can't be used.
    """
    one_of("--optimize", speed, ("no", *_SPEEDS))
    chosen = checked_device(device)
    if chosen == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    if (run is None) == (model is None) or (model is None) != (weights is None):
        raise UsageError("give --checkpoint, or --model with --weights")
    if run is not None and names is not None:
        raise UsageError("--names is for --model; a checkpoint has its own class names")
    if run is not None:
        net, info = checkpoint.load(run)
    else:
        net, info = _published(str(model), str(weights), names)
    net = net.to(chosen)
    return (net if speed == "no" else models.optimize(net, dtype=_SPEEDS[speed])), info


def _published(model: str, weights: str, names: Path | None) -> tuple[nn.Module, CheckpointInfo]:
    if model.endswith(".cfg"):
        try:
            net: nn.Module = load_darknet(model, weights)
        except ValueError as error:
            raise UsageError(str(error)) from error
        known = [n for n in class_names("ssd300_vgg16") if n != "N/A"]
        config = {"model": "darknet"}
    elif model in PUBLISHED:
        net = load_torchvision(model, weights)
        known = class_names(model)
        config = dict(net.config)  # type: ignore[arg-type]
    else:
        raise UsageError(
            f"--model must be a Darknet .cfg or one of {', '.join(PUBLISHED)}, got {model!r}"
        )
    task = "classification" if isinstance(net, models.Classifier) else "detection"
    count = int(net.num_classes) - (task == "detection")  # type: ignore[arg-type]
    if names is not None:
        known = [line.strip() for line in read_text(names).split("\n") if line.strip()]
        if len(known) != count:
            raise UsageError(f"{names}: {count} names wanted, one per class, got {len(known)}")
    elif len(known) != count:
        known = [f"class {i + 1}" for i in range(count)]
    return net, CheckpointInfo(config, known, task)


def create_model(
    model: str,
    dataset: AnyDataset,
    options: dict[str, Any],
    seed: int,
    *,
    weights: str | None = None,
    trunk: Path | None = None,
) -> nn.Module:
    """A model to train on a data set, of as many classes.

    Args:
        model: one of ours, or with `weights` one of `PUBLISHED`.
        options: of the model's constructor. seed: of fresh weights.
        weights: to begin with; layers that name classes are fresh where the data has another number
            of them. Of a model of ours a run's folder or a .safetensors file, whose options count
            unless others are given; of a published one as `load_torchvision` takes them.
        trunk: for the backbone, see `load_trunk`.

    Raises UsageError where name, options or data don't fit, CheckpointError or WeightsError for a
    file that can't be used.
    """
    published = model in PUBLISHED
    if published and weights is None:
        raise UsageError(f"--model {model} needs --weights, torchvision or a file")
    detector = dataset.task == "detection"
    if detector == is_classifier(model):
        fitting = "faster_rcnn, ssd, yolo or cascade" if detector else "classifier"
        raise UsageError(
            f"the data is for {dataset.task}, which --model {model} doesn't do; take {fitting}"
        )
    if model == "cascade" and "backbone" in options:
        raise UsageError(
            "--backbone: a cascade has two; give each by its part, as in "
            """--option 'detector={"model": "ssd", "backbone": "resnet18"}'"""
        )
    if getattr(dataset, "multilabel", False):
        options = {"multilabel": True, **options}
    torch.manual_seed(seed)
    classes = len(dataset.classes) + detector  # detectors count the background as class 0
    try:
        if published:
            net = load_torchvision(model, str(weights), num_classes=classes, **options)
        elif weights is not None:
            net = _begun(model, Path(weights), classes, options)
        else:
            if model == "cascade":
                options = options | _parts(options, classes)
            net = models.create(model, classes, **options)
        if trunk is not None:
            load_trunk(net.backbone, trunk)  # type: ignore[arg-type]
    except WeightsError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(str(error)) from error
    return net


def model_of_run(weights: str) -> str | None:
    """The model that a run's folder or file holds; None where `weights` are of no run."""
    path = Path(weights)
    if not path.exists() or (path.is_file() and path.suffix != ".safetensors"):
        return None
    try:
        return str(checkpoint.read(checkpoint.find(path))[0].model["model"])
    except CheckpointError:
        return None  # whoever loads it says why


def _parts(options: dict[str, Any], classes: int) -> dict[str, nn.Module]:
    """The parts of a cascade that are given as runs; what they name as classes is fresh."""
    found = {}
    for role, kinds, count in (
        ("detector", ("ssd", "yolo", "faster_rcnn"), 2),
        ("classifier", ("classifier",), classes - 1),
    ):
        spec = options.get(role)
        if isinstance(spec, str) and spec not in models.MODELS:
            if not Path(spec).exists():
                raise UsageError(
                    f"--{role} must be a run's folder or one of {', '.join(kinds)}, got {spec!r}"
                )
            kind = model_of_run(spec)
            if kind is not None and kind not in kinds:
                raise UsageError(
                    f"--{role} {spec} holds a model {kind}, wanted {' or '.join(kinds)}"
                )
            found[role] = _begun(kind or kinds[0], Path(spec), count, {})
    return found


def _begun(model: str, path: Path, classes: int, options: dict[str, Any]) -> nn.Module:
    """A model of ours with the weights of an earlier run, those that name classes aside."""
    net, info = checkpoint.load(path, **options)
    if info.model["model"] != model:
        raise UsageError(f"{path} holds a model {info.model['model']}, got --model {model}")
    if classes == info.model["num_classes"]:
        return net
    fresh = models.create(**info.model | options | {"num_classes": classes})
    state = fresh.state_dict()
    state |= {k: v for k, v in net.state_dict().items() if v.shape == state[k].shape}
    fresh.load_state_dict(state)
    return fresh


def is_classifier(model: str) -> bool:
    """Whether a name, ours or torchvision's, is a classifier's."""
    return model == "classifier" or (model in PUBLISHED and kind_of(model) == "classifier")


def named_as(net: nn.Module, info: CheckpointInfo, dataset: AnyDataset) -> nn.Module:
    """The model with the data set's labels: itself, or one that finds those classes by name.

    A model of more classes than the data has may be used on it: what it calls otherwise is dropped.
    Raises UsageError where the data has a class that the model has not.
    """
    if info.classes == dataset.classes:
        return net
    lacking = [name for name in dataset.classes if name not in info.classes]
    if lacking or info.task != "detection":
        wanted = ", ".join(dataset.classes)
        raise UsageError(f"the data has the classes {wanted}, the model {', '.join(info.classes)}")
    return _Renamed(net, info.classes, dataset.classes)


class _Renamed(nn.Module):
    """A detector whose labels are another list's."""

    def __init__(self, detector: nn.Module, own: list[str], wanted: list[str]) -> None:
        super().__init__()
        self.detector = detector
        label_of = {name: i + 1 for i, name in enumerate(wanted)}
        self.labels = torch.tensor([0] + [label_of.get(name, 0) for name in own])

    def forward(self, images: Any) -> list[dict[str, Tensor]]:
        found = []
        for one in self.detector(images):
            labels = self.labels.to(one["labels"].device)[one["labels"]]
            kept = labels > 0
            rest = {k: v[kept] for k, v in one.items() if k != "labels"}
            found.append({**rest, "labels": labels[kept]})
        return found
