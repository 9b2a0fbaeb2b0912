"""YOLO: one box a cell, no anchors; each ground truth picks the cells that answer for it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detcore.ops import decode_dense
from detcore.parts.assigner import SimOTA, grid_centres
from detcore.parts.backbone import DEFAULT_BACKBONE, as_backbone, in_channels
from detcore.parts.heads import YOLOHead, dense_to_rows
from detcore.parts.losses import yolo_loss
from detcore.parts.neck import PAN
from detcore.parts.postprocess import Detections, Postprocess
from detcore.parts.preprocess import FitWithin, ImageBatch, Preprocess
from detcore.parts.targets import Target

from .config import keeps_config
from .detector import Detector

# of log width and height in cells, so that an exploding prediction stays a finite box
_LOG_SIZE_LIMIT = math.log(128.0)


@keeps_config("yolo")
class YOLO(Detector):
    """An anchor-free YOLO after YOLOX (Ge et al., 2021): PAN, decoupled head, SimOTA.

    Args:
        num_classes: classes, the background (0) counted: labels are 1..num_classes - 1. The head
            itself has no background class.
        backbone: a name, a mapping of arguments, or a module to share: see `as_backbone`.
        image_size: length of an image's longer side inside the model, pixels.
        neck_channels: channels of every map that the head reads.
        head_width, head_depth, typical_size: see `YOLOHead`.
        box_weight: of the box loss against the others.
        score_threshold, iou_threshold, candidates_per_class, max_detections: see `Postprocess`.
        mean, std: of the images' channels; None: ImageNet's.
        pretrained: load published weights into a backbone given by name or mapping.

    forward(images, targets): see `Detector`; the losses are loss_box, loss_objectness and
    loss_class.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str | Mapping[str, Any] | nn.Module = DEFAULT_BACKBONE,
        image_size: int = 320,
        neck_channels: int = 64,
        head_width: int = 64,
        head_depth: int = 1,
        typical_size: float = 4.0,
        box_weight: float = 5.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.6,
        candidates_per_class: int = 400,
        max_detections: int = 100,
        pretrained: bool = False,
    ) -> None:
        super().__init__(num_classes)
        self.backbone = as_backbone(backbone, (8, 16, 32), pretrained=pretrained)
        self.strides = tuple(self.backbone.strides)
        self.neck = PAN(self.backbone.channels, neck_channels)
        self.head = YOLOHead(
            neck_channels,
            num_classes - 1,
            width=head_width,
            depth=head_depth,
            typical_size=typical_size,
        )
        self.assigner = SimOTA()
        self.box_weight = box_weight
        self.preprocess = Preprocess(
            FitWithin(image_size, image_size),
            channels=in_channels(self.backbone),
            mean=mean,
            std=std,
        )
        self.postprocess = Postprocess(
            score_threshold, iou_threshold, candidates_per_class, max_detections
        )

    def detections(self, maps: list[Tensor], batch: ImageBatch) -> Detections:
        boxes, scores = self._decode(self.predict(maps))
        return self.postprocess(boxes, scores, batch)

    def predict(self, maps: list[Tensor]) -> list[Tensor]:
        """The head's raw maps [B, 4 + 1 + C, H, W] of the backbone's."""
        # in full precision from here on: a half cannot hold a pixel's place in a large image
        return [m.float() for m in self.head(self.neck(maps))]

    def _decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [B, N, 4] (xyxy, pixels of the batch) and scores [B, N, num_classes - 1]."""
        boxes, scores = [], []
        for m, stride in zip(maps, self.strides, strict=True):
            box, score = decode_dense(m, None, stride, "grid", clip=_LOG_SIZE_LIMIT)
            assert score is not None
            boxes.append(box)
            scores.append(score)
        return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)

    def losses(
        self, maps: list[Tensor], batch: ImageBatch, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        maps = self.predict(maps)
        rows = torch.cat([dense_to_rows(m, m.shape[1]) for m in maps], dim=1)
        boxes, scores = self._decode(maps)
        grids = [
            grid_centres((m.shape[2], m.shape[3]), (s, s), boxes)
            for m, s in zip(maps, self.strides, strict=True)
        ]
        centres, strides = (torch.cat(values) for values in zip(*grids, strict=True))

        cells, gt_boxes, gt_labels, quality = [], [], [], []
        for i, gt in enumerate(batch.boxes_in([t["boxes"] for t in targets])):
            labels = targets[i]["labels"] - 1
            match, iou = self.assigner(boxes[i], scores[i].sqrt(), centres, strides, gt, labels)
            positive = torch.where(match >= 0)[0]
            cells.append(positive + i * len(match))
            gt_boxes.append(gt[match[positive]])
            gt_labels.append(labels[match[positive]])
            quality.append(iou[positive])
        box, objectness, classes = yolo_loss(
            boxes.flatten(0, 1),
            rows[..., 4].flatten(),
            rows[..., 5:].flatten(0, 1),
            torch.cat(gt_boxes),
            torch.cat(gt_labels),
            torch.cat(cells),
            torch.cat(quality),
        )
        return {
            "loss_box": self.box_weight * box,
            "loss_objectness": objectness,
            "loss_class": classes,
        }
