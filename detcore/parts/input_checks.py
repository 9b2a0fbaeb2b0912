"""The check of what a model is given: every model's, so that all refuse in the same words."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Target = Mapping[str, Any]


def check_classes(num_classes: int) -> None:
    """Raise ValueError unless a detector's num_classes leaves a class beside the background."""
    if num_classes < 2:
        raise ValueError(
            f"num_classes must be at least 2, the background being one, got {num_classes}"
        )


def check_images(images: Sequence[Tensor], channels: int = 3) -> None:
    """Raise ValueError unless images is a list of floating-point [channels, H, W], H, W >= 1."""
    if isinstance(images, Tensor) and images.dim() != 4:
        raise ValueError(f"images must be a list of [C, H, W], got a tensor {list(images.shape)}")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor):
            raise ValueError(f"images[{i}] must be a tensor, got {type(image).__name__}")
        if image.dim() != 3 or image.shape[0] != channels or 0 in image.shape:
            raise ValueError(f"images[{i}] must be [{channels}, H, W], got {list(image.shape)}")
        if not image.is_floating_point():
            raise ValueError(f"images[{i}] must be floating point in 0..1, got {image.dtype}")


def check_box_targets(
    images: Sequence[Tensor],
    targets: Sequence[Target] | None,
    num_classes: int,
    *,
    oriented: bool = False,
) -> None:
    """Raise ValueError unless targets fit a detector's training on these images.

    Wanted: one dict per image with `boxes` floating point [n, 4] (xyxy, pixels, finite, x2 > x1 and
    y2 > y1), with `oriented` [n, 5] (cxcywhr, finite, width and height above 0), and `labels` int64
    [n] in 1..num_classes - 1; n may be 0. The message names the image, what was wanted and what
    came.
    """
    numbers = 5 if oriented else 4
    targets = _one_each(images, targets)
    for i, target in enumerate(targets):
        boxes = _field(target, "boxes", i)
        labels = _field(target, "labels", i)
        if boxes.dim() != 2 or boxes.shape[1] != numbers:
            raise ValueError(f"targets[{i}]: boxes must be [n, {numbers}], got {list(boxes.shape)}")
        if not boxes.is_floating_point():
            raise ValueError(f"targets[{i}]: boxes must be floating point, got {boxes.dtype}")
        if labels.shape != boxes.shape[:1]:
            raise ValueError(
                f"targets[{i}]: labels must be [{len(boxes)}], one per box, "
                f"got {list(labels.shape)}"
            )
        _check_int64(labels, i, "labels")
    boxes = torch.cat([t["boxes"] for t in targets])
    labels = torch.cat([t["labels"] for t in targets])
    sides = boxes[:, 2:4] if oriented else boxes[:, 2:] - boxes[:, :2]
    proper = boxes.isfinite().all() & (sides > 0).all()
    # one read of the device for the whole batch; which target it was is worked out on failure
    if not bool(proper & ((labels >= 1) & (labels < num_classes)).all()):
        _explain(targets, num_classes)


def check_class_targets(
    images: Sequence[Tensor],
    targets: Sequence[Target] | None,
    num_classes: int,
    *,
    multilabel: bool,
) -> Tensor:
    """Raise ValueError unless targets fit a classifier's training; give the batch's targets.

    Wanted: one dict per image with `label`, an integer in 0..num_classes - 1 (int64 scalar tensor);
    with `multilabel`, `labels` [num_classes] of 0 and 1. Returns int64 [B], or float32
    [B, num_classes].
    """
    targets = _one_each(images, targets)
    if multilabel:
        rows = [_field(t, "labels", i) for i, t in enumerate(targets)]
        for i, row in enumerate(rows):
            if row.shape != (num_classes,):
                raise ValueError(
                    f"targets[{i}]: labels must be [{num_classes}] of 0 and 1, "
                    f"got {list(row.shape)}"
                )
        hot = torch.stack(rows).float()
        if not bool(((hot == 0) | (hot == 1)).all()):
            raise ValueError("targets: labels must be of 0 and 1, got other values")
        return hot
    labels = [_label(t, i) for i, t in enumerate(targets)]
    for i, label in enumerate(labels):
        if label.numel() != 1:
            raise ValueError(f"targets[{i}]: label must be a scalar, got {list(label.shape)}")
        _check_int64(label, i, "label")
    flat = torch.cat([label.reshape(1) for label in labels])
    wrong = (flat < 0) | (flat >= num_classes)
    if bool(wrong.any()):
        i = int(wrong.nonzero()[0])
        raise ValueError(f"targets[{i}]: label must be in 0..{num_classes - 1}, got {int(flat[i])}")
    return flat


def _one_each(images: Sequence[Tensor], targets: Sequence[Target] | None) -> Sequence[Target]:
    if targets is None:
        raise ValueError("targets must be given in training, got None")
    if len(images) == 0:
        raise ValueError("images must hold at least one image in training, got 0")
    if len(targets) != len(images):
        raise ValueError(f"targets must be one dict an image: {len(images)}, got {len(targets)}")
    return targets


def _field(target: Target, name: str, i: int) -> Tensor:
    if not isinstance(target, Mapping):
        raise ValueError(f"targets[{i}] must be a dict, got {type(target).__name__}")
    value = target.get(name)
    if not isinstance(value, Tensor):
        came = f"keys {sorted(target)}" if value is None else type(value).__name__
        raise ValueError(f"targets[{i}]: {name} must be a tensor, got {came}")
    return value


def _label(target: Target, i: int) -> Tensor:
    if isinstance(target, Mapping) and isinstance(target.get("label"), int):
        return torch.tensor(target["label"])
    return _field(target, "label", i)


def _check_int64(labels: Tensor, i: int, name: str) -> None:
    if labels.dtype != torch.int64:
        raise ValueError(f"targets[{i}]: {name} must be int64, got {labels.dtype}")


def _explain(targets: Sequence[Target], num_classes: int) -> None:
    for i, target in enumerate(targets):
        for box in target["boxes"].tolist():
            if not all(abs(v) < float("inf") for v in box):
                raise ValueError(f"targets[{i}]: boxes must be finite, got {box}")
            if len(box) == 5:
                proper, wanted = min(box[2:4]) > 0, "a width and height above 0 (cxcywhr)"
            else:
                proper = box[2] > box[0] and box[3] > box[1]
                wanted = "x2 > x1 and y2 > y1 (xyxy)"
            if not proper:
                raise ValueError(f"targets[{i}]: boxes must have {wanted}, got {box}")
        for label in target["labels"].tolist():
            if not 1 <= label < num_classes:
                raise ValueError(
                    f"targets[{i}]: labels must be in 1..{num_classes - 1} (0 is the background), "
                    f"got {label}"
                )
