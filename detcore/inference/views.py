"""Test-time augmentation: several views of an image, and one answer out of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcore.inference.predictor import Prediction, predict
from detcore.ops import clip_boxes_to_image, weighted_boxes_fusion

# the border that makes objects smaller: of 0..1, the grey that YOLO's letterboxes have
_GREY = 114 / 255
_KEYS = ("boxes", "scores", "labels")


@dataclass(frozen=True)
class View:
    """How a model is shown an image.

    mirrored: left and right exchanged. scale: how large objects are, compared to the image as it
    is, above 0 to 1. Models resize what they are given, so a view is made smaller by a grey border
    at its right and bottom.
    """

    mirrored: bool = False
    scale: float = 1.0

    def of(self, image: Tensor) -> Tensor:
        """The view of an image ``[3, H, W]``, uint8 or float in 0..1."""
        if self.mirrored:
            image = image.flip(-1)
        height, width = image.shape[-2:]
        border = (
            0,
            math.ceil(width / self.scale) - width,
            0,
            math.ceil(height / self.scale) - height,
        )
        grey = _GREY if image.is_floating_point() else round(_GREY * 255)
        return F.pad(image, border, value=grey)

    def back(self, found: Prediction, size: tuple[int, int]) -> Prediction:
        """What was found in the view, with boxes in pixels of the image of this (height, width).

        Boxes are clipped to the image; those that lie in the border are left out.
        """
        boxes = clip_boxes_to_image(found["boxes"], size)
        seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        if self.mirrored:
            left, top, right, bottom = boxes.unbind(1)
            boxes = torch.stack((size[1] - right, top, size[1] - left, bottom), 1)
        return {**{key: value[seen] for key, value in found.items()}, "boxes": boxes[seen]}


VIEWS = (View(), View(mirrored=True), View(scale=0.8), View(mirrored=True, scale=0.8))


def predict_views(
    model: nn.Module,
    images: Sequence[Tensor],
    *,
    views: Sequence[View] = VIEWS,
    iou_threshold: float = 0.55,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    score: float = 0.0,
) -> list[Prediction]:
    """Detect in several views of each image, and fuse what is found.

    By default the image as it is, mirrored, and both of these with objects of four fifths of their
    size. `weighted_boxes_fusion` makes one box of those that agree; its score is their mean, in
    which a view that missed the object counts as 0.

    Args:
        model: a detector, on `device`; its training mode is restored afterwards.
        images: ``[3, H, W]``, RGB, uint8 or float in 0..1; sizes may differ.
        views: at least one.
        iou_threshold: boxes of one class are taken for the same object above this IoU.
        device: where to compute.
        batch_size: images per forward pass.
        score: fused detections below this confidence are dropped.

    Returns:
        One prediction per image as `predict` returns it, by descending score.

    Raises:
        ValueError: a model that gives no boxes, or more than boxes, scores and labels, which can't
            be fused.

    Deterministic on one device.
    """
    of_views = []
    for view in views:
        shown = [view.of(image) for image in images]
        found = predict(model, shown, device=device, batch_size=batch_size)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        for one in found:
            _check(one)
        of_views.append([view.back(one, size) for one, size in zip(found, sizes, strict=True)])
    return [_fused(list(same), iou_threshold, score) for same in zip(*of_views, strict=True)]


def _check(found: Prediction) -> None:
    if "boxes" not in found:
        raise ValueError("predict_views: model must be a detector, got one that gives no boxes")
    if more := sorted(found.keys() - set(_KEYS)):
        raise ValueError(
            "predict_views: model must give boxes, scores and labels alone, which can be fused, "
            f"got also {', '.join(more)}"
        )


def _fused(views: list[Prediction], iou_threshold: float, score: float) -> Prediction:
    boxes, scores, labels = ([found[key] for found in views] for key in _KEYS)
    fused = weighted_boxes_fusion(boxes, scores, labels, iou_threshold=iou_threshold)
    keep = fused[1] >= score
    return {key: value[keep] for key, value in zip(_KEYS, fused, strict=True)}
