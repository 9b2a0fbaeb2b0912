"""A detector that finds, and a classifier that names each crop."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from detcore.ops import roi_align
from detcore.parts.targets import Target, check_box_targets, check_classes, check_images

from .config import keeps_config


@keeps_config("cascade")
class Cascade(nn.Module):
    """Detector first, then a classifier on crops of the image at its own resolution.

    Args:
        num_classes: classes, the background (0) counted: labels are 1..num_classes - 1.
        detector: a detector of two classes, object and background.
        classifier: a single-label classifier of num_classes - 1 classes; crops are made at its
            image_size, which is best 64 or more: a batch may hold a single crop, and batch norm
            cannot learn from a single cell.
        margin: how much wider than its box a crop is on every side, as a share of the box.
        jitter: how far a crop's corners stray from the ground truth in training, as a share of the
            box, because the detector's boxes will stray too.

    forward(images, targets): the detectors' contract. Gives in training the detector's losses and
    loss_crop_class; in evaluation boxes, scores (the detector's times the class's) and labels, in
    descending order of the score. Training draws the jitter from torch's global generator.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        detector: nn.Module,
        classifier: nn.Module,
        margin: float = 0.1,
        jitter: float = 0.05,
    ) -> None:
        super().__init__()
        check_classes(num_classes)
        if detector.num_classes != 2 or classifier.num_classes != num_classes - 1:
            raise ValueError(
                f"Cascade: detector and classifier must have 2 and {num_classes - 1} classes, "
                f"got {detector.num_classes} and {classifier.num_classes}"
            )
        self.num_classes = num_classes
        self.detector = detector
        self.classifier = classifier
        self.margin = margin
        self.jitter = jitter

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        check_images(images)
        if not self.training:
            return self._detect(images)
        check_box_targets(images, targets, self.num_classes)
        assert targets is not None
        objects = [{**t, "labels": torch.ones_like(t["labels"])} for t in targets]
        losses = self.detector(images, objects)
        labels = torch.cat([t["labels"] for t in targets]) - 1
        if len(labels) == 0:
            loss = torch.zeros((), device=labels.device)
        else:
            crops = self._crops(images, [self._jittered(t["boxes"]) for t in targets])
            loss = self.classifier(crops, [{"label": v} for v in labels])["loss_class"]
        return losses | {"loss_crop_class": loss}

    def _detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        found = self.detector(images)
        named = self.classifier(self._crops(images, [f["boxes"] for f in found]))
        result = []
        for one in found:
            count = len(one["boxes"])
            mine, named = named[:count], named[count:]
            # the empty first entry carries dtype and device where nothing was found
            labels = torch.cat([one["labels"][:0]] + [n["labels"] + 1 for n in mine])
            best = torch.cat([one["scores"][:0]] + [n["scores"].max()[None] for n in mine])
            scores, order = (one["scores"] * best).sort(descending=True, stable=True)
            result.append({"boxes": one["boxes"][order], "scores": scores, "labels": labels[order]})
        return result

    def _crops(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
        """One [3, S, S] a box, in the order of the boxes; S is the classifier's image size."""
        size = cast(int, self.classifier.image_size)
        crops: list[Tensor] = []
        for image, box in zip(images, boxes, strict=True):
            extent = (box[:, 2:] - box[:, :2]) * self.margin
            wide = torch.cat((box[:, :2] - extent, box[:, 2:] + extent), dim=1)
            crops.extend(roi_align(image[None], [wide.to(image.dtype)], size, aligned=True))
        return crops

    def _jittered(self, boxes: Tensor) -> Tensor:
        extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        return boxes + extent * self.jitter * (2 * torch.rand_like(boxes) - 1)
