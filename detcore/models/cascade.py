"""A detector that finds, and a classifier that names each crop."""

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcore.ops import clip_boxes_to_image, roi_align
from detcore.ops.roi_align import to_rois
from detcore.parts.input_checks import Target, check_box_targets, check_classes, check_images
from detcore.parts.processes import loss_normalizer

from .config import keeps_config


@keeps_config("cascade")
class Cascade(nn.Module):
    """A detector, and then a classifier on crops of the image at its own resolution.

    Args:
        num_classes: number of classes including the background (0): labels are
            1..num_classes - 1.
        detector: any model with the detectors' contract, of upright boxes. Training needs one of
            two classes, object and background; in evaluation it may have any number, and its own
            labels are passed on.
        classifier: a model of num_classes - 1 classes, single-label or multi-label. Crops are made
            at its image_size, which should be 64 or more: a batch may hold a single crop, and batch
            norm cannot learn from a single cell.
        margin: how much wider than its box a crop is on every side, as a share of the box. A crop
            ends at the image's border.
        jitter: how far a crop's corners move from the ground truth in training, as a share of the
            box, because the detector's boxes will be off too.
        crop_batch: number of crops that are classified at once in evaluation.

    forward(images, targets) follows the detectors' contract. In training it returns the detector's
    losses and loss_crop_class (a multi-label classifier learns each box's one label). In
    evaluation it returns a list of dicts, by descending score, with boxes [K, 4], scores [K] (the
    detector's times the crop's), labels [K], and

    - box_scores [K], box_labels [K]: as the detector gave them
    - crop_scores [K, num_classes - 1]: all of the classifier's scores, in its class order

    A label is the classifier's best class, counted from 1; also with a multi-label classifier,
    whose crop_scores tell what else the crop shows. Training draws the jitter from torch's global
    generator. Raises ValueError for input that does not fit.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        detector: nn.Module,
        classifier: nn.Module,
        margin: float = 0.1,
        jitter: float = 0.05,
        crop_batch: int = 128,
    ) -> None:
        super().__init__()
        check_classes(num_classes)
        if classifier.num_classes != num_classes - 1:
            raise ValueError(
                f"Cascade: classifier must have {num_classes - 1} classes, "
                f"got {classifier.num_classes}"
            )
        if getattr(detector, "oriented", False):
            raise ValueError(
                "Cascade: crops are upright; the detector must find upright boxes, got one with "
                "oriented=True"
            )
        if crop_batch < 1:
            raise ValueError(f"Cascade: crop_batch must be at least 1, got {crop_batch}")
        self.num_classes = num_classes
        self.detector = detector
        self.classifier = classifier
        self.margin = margin
        self.jitter = jitter
        self.crop_batch = crop_batch

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in evaluation: see the class."""
        check_images(images)
        if self.training:
            check_box_targets(images, targets, self.num_classes)
            assert targets is not None
            return self._losses(images, targets)
        return self._detect(images) if len(images) else []

    def _losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        classes = getattr(self.detector, "num_classes", None)
        if classes != 2:
            raise ValueError(
                "Cascade: in training the detector must have 2 classes, object and background, "
                f"got {classes}; another is for evaluation alone"
            )
        objects = [{**t, "labels": torch.ones_like(t["labels"])} for t in targets]
        losses = self.detector(images, objects)
        labels = torch.cat([t["labels"] for t in targets]) - 1
        if len(labels) == 0:
            # processes count their crops together, and wait for every weight's gradient
            loss_normalizer(0, labels.device)
            weights = [p.sum() for p in self.classifier.parameters() if p.requires_grad]
            return losses | {"loss_crop_class": 0 * torch.stack(weights).sum()}
        if getattr(self.classifier, "multilabel", False):
            wanted = [{"labels": hot} for hot in F.one_hot(labels, self.num_classes - 1)]
        else:
            wanted = [{"label": label} for label in labels]
        (crops,) = self._crops(images, [self._jittered(t["boxes"]) for t in targets], len(labels))
        return losses | {"loss_crop_class": self.classifier(crops, wanted)["loss_class"]}

    def _detect(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        found = self.detector(images)
        # the empty first row carries dtype and device where nothing was found
        rows = [found[0]["scores"].new_zeros((0, self.num_classes - 1))]
        for crops in self._crops(images, [one["boxes"] for one in found], self.crop_batch):
            rows.extend(named["scores"][None] for named in self.classifier(crops))
        split = torch.cat(rows).split([len(one["boxes"]) for one in found])
        result = []
        for one, crop_scores in zip(found, split, strict=True):
            best, label = crop_scores.max(dim=1)
            scores, order = (one["scores"] * best).sort(descending=True, stable=True)
            result.append(
                {
                    "boxes": one["boxes"][order],
                    "scores": scores,
                    "labels": label[order] + 1,
                    "box_scores": one["scores"][order],
                    "box_labels": one["labels"][order],
                    "crop_scores": crop_scores[order],
                }
            )
        return result

    def _crops(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor], at_once: int
    ) -> Iterator[list[Tensor]]:
        """At most `at_once` crops [3, S, S] at a time, in the order of the boxes.

        S is the classifier's image size.
        """
        size = cast(int, self.classifier.image_size)
        regions = [
            clip_boxes_to_image(self._widened(box), (image.shape[1], image.shape[2]))
            for image, box in zip(images, boxes, strict=True)
        ]
        batch = _stacked(images)
        rois = to_rois(batch, regions, "Cascade")
        for start in range(0, len(rois), at_once):
            yield list(roi_align(batch, rois[start : start + at_once], size, aligned=True))

    def _widened(self, boxes: Tensor) -> Tensor:
        extent = (boxes[:, 2:] - boxes[:, :2]) * self.margin
        return torch.cat((boxes[:, :2] - extent, boxes[:, 2:] + extent), dim=1)

    def _jittered(self, boxes: Tensor) -> Tensor:
        extent = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        return boxes + extent * self.jitter * (2 * torch.rand_like(boxes) - 1)


def _stacked(images: Sequence[Tensor]) -> Tensor:
    """[B, 3, H, W] with the images at the top left.

    A sample in the outer half of an image's last pixel also reads the pixel behind it. There that
    last one stands again, as ROI-align itself has it where a map ends: so a crop is the same
    whatever images lie beside its own.
    """
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    batch = images[0].new_zeros((len(images), 3, height, width))
    for row, image in zip(batch, images, strict=True):
        down, right = int(image.shape[1] < height), int(image.shape[2] < width)
        edged = F.pad(image[None], (0, right, 0, down), mode="replicate")[0]
        row[:, : edged.shape[1], : edged.shape[2]] = edged
    return batch
