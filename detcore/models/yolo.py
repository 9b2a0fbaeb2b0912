"""YOLO: every cell, or every anchor of a cell, answers for a box; with NMS behind it or without."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detcore.ops import box_convert, decode_dense
from detcore.parts.angle_coder import CODE_VALUES, AngleCoder, angle_loss
from detcore.parts.assignment.anchor_shape import AnchorAssigner, Anchors
from detcore.parts.assignment.iou_matcher import BETWEEN
from detcore.parts.assignment.simota import OneToOne, SimOTA, grid_centres
from detcore.parts.backbones import DEFAULT_BACKBONE, as_backbone, in_channels
from detcore.parts.heads import YOLOHead, dense_to_rows
from detcore.parts.input_checks import Target
from detcore.parts.losses import yolo_loss
from detcore.parts.necks import PAN
from detcore.parts.postprocess import Detections, Postprocess
from detcore.parts.preprocess import FitWithin, ImageBatch, Preprocess

from .config import keeps_config
from .detector import Detector

# of log width and height in cells or anchors, so that an exploding prediction stays a finite box
_LOG_SIZE_LIMIT = math.log(128.0)

# one image's: the ground truth of each prediction [N], below 0 for none, and the IoU with it [N]
_Assigned = tuple[Tensor, Tensor]


@keeps_config("yolo")
class YOLO(Detector):
    """A YOLO with PAN and a decoupled head: anchor-free or with anchors, with or without NMS.

    Without anchors it follows YOLOX (Ge et al., 2021) with SimOTA. With `anchors`, boxes and their
    assignment are YOLOv4's (Bochkovskiy et al., 2020), and YOLOv3's decoding if scale_xy is 1. With
    `one_to_one` a second head, in which every object has exactly one cell, is trained on the same
    maps, without passing gradients to them (YOLOv10, Wang et al., 2024). In evaluation only the
    second head runs, and no NMS is needed. With `oriented` boxes have an angle, learned as
    `AngleCoder` codes it, and assignment, losses and NMS compare boxes by the IoU of rotated ones.

    Args:
        num_classes: classes including the background (0): labels are 1..num_classes - 1. The head
            itself has no background class.
        backbone: a name, a mapping of arguments, or a module to share: see `as_backbone`.
        image_size: length of an image's longer side inside the model, pixels.
        anchors: None: anchor-free; or one list per level of (width, height) in pixels of the
            model's input, equally many on every level, since the levels share the head.
        scale_xy: with anchors, how far the centre's sigmoid is stretched; with more than 1 it can
            reach the cell's border, see `decode_dense`.
        one_to_one: train the second head, and evaluate with it and without NMS.
        oriented: targets and detections are boxes [n, 5] (cxcywhr) in degrees; not with anchors.
        neck_channels: channels of every map that the head reads.
        head_width, head_depth, typical_size: see `YOLOHead`; the second head is one deeper.
        box_weight: weight of the box loss relative to the others.
        mean, std: of the images' channels; None: ImageNet's.
        score_threshold, iou_threshold, candidates_per_class, max_detections: see `Postprocess`; the
            second and third are not used with one_to_one.
        pretrained: load published weights into a backbone given by name or mapping.

    forward(images, targets): see `Detector`; the losses are loss_box, loss_objectness, loss_class
    and with oriented loss_angle, with one_to_one also each as ``loss_one_to_one_...``
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str | Mapping[str, Any] | nn.Module = DEFAULT_BACKBONE,
        image_size: int = 320,
        anchors: Anchors | None = None,
        scale_xy: float = 1.1,
        one_to_one: bool = False,
        oriented: bool = False,
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
        if oriented and anchors is not None:
            raise ValueError("YOLO: oriented boxes are found without anchors, got both")
        self.oriented = oriented
        self.backbone = as_backbone(backbone, (8, 16, 32), pretrained=pretrained)
        self.strides = tuple(self.backbone.strides)
        self.neck = PAN(self.backbone.channels, neck_channels)
        self.scale_xy = scale_xy
        self.anchor_assigner = None if anchors is None else AnchorAssigner(anchors, self.strides)
        self.assigner = SimOTA()
        self.one_to_one_assigner = OneToOne()

        def head(depth: int) -> YOLOHead:
            return YOLOHead(
                neck_channels,
                num_classes - 1,
                anchors_per_cell=None if anchors is None else _same_count(anchors),
                width=head_width,
                depth=depth,
                typical_size=typical_size,
                oriented=oriented,
            )

        self.head = head(head_depth)
        # deeper, since a cell must see further to know that it is a neighbour's turn to answer
        self.one_to_one_head = head(head_depth + 1) if one_to_one else None
        self.box_weight = box_weight
        self.preprocess = Preprocess(
            FitWithin(image_size, image_size),
            channels=in_channels(self.backbone),
            mean=mean,
            std=std,
        )
        self.postprocess = Postprocess(
            score_threshold,
            None if one_to_one else iou_threshold,
            candidates_per_class,
            max_detections,
        )

    def detections(self, maps: list[Tensor], batch: ImageBatch) -> Detections:
        """Detections in fixed shapes, from the backbone's maps [B, C_i, H_i, W_i]."""
        head = self.head if self.one_to_one_head is None else self.one_to_one_head
        boxes, scores = self._decode(_run(head, self.neck(maps)))
        return self.postprocess(boxes, scores, batch)

    def _decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [B, N, 4] (xyxy, pixels of the batch) and scores [B, N, num_classes - 1].

        Of an oriented model boxes are [B, N, 5] (cxcywhr).
        """
        levels: Sequence[Tensor | None] = [None] * len(maps)
        if self.anchor_assigner is not None:
            levels = self.anchor_assigner.anchors
        codec = "grid" if self.anchor_assigner is None else "yolo"
        boxes, scores = [], []
        for m, anchors, stride in zip(maps, levels, self.strides, strict=True):
            upright = m[:, :-CODE_VALUES] if self.oriented else m
            box, score = decode_dense(
                upright, anchors, stride, codec, clip=_LOG_SIZE_LIMIT, scale_xy=self.scale_xy
            )
            assert score is not None
            if self.oriented:
                angle = AngleCoder().decode(dense_to_rows(m[:, -CODE_VALUES:], CODE_VALUES))
                box = torch.cat((box_convert(box, "xyxy", "cxcywh"), angle[..., None]), dim=-1)
            boxes.append(box)
            scores.append(score)
        return torch.cat(boxes, dim=1), torch.cat(scores, dim=1)

    def losses(
        self, maps: list[Tensor], batch: ImageBatch, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Box, objectness and class loss, from the backbone's maps [B, C_i, H_i, W_i]."""
        maps = self.neck(maps)
        sizes = [(m.shape[2], m.shape[3]) for m in maps]
        like = batch.images.new_empty((), dtype=torch.float32)
        grids = [grid_centres(n, (s, s), like) for n, s in zip(sizes, self.strides, strict=True)]
        # all anchors of a cell stand in its middle
        centres, strides = (
            torch.cat(values).repeat_interleave(self.head.anchors, dim=0)
            for values in zip(*grids, strict=True)
        )
        by_shape = self.anchor_assigner

        def one_to_many(boxes: Tensor, scores: Tensor, gt: Tensor, labels: Tensor) -> _Assigned:
            if by_shape is not None:
                return by_shape(boxes, gt, sizes)
            return self.assigner(boxes, scores.sqrt(), centres, strides, gt, labels)

        def one_to_one(boxes: Tensor, scores: Tensor, gt: Tensor, labels: Tensor) -> _Assigned:
            return self.one_to_one_assigner(boxes, scores.sqrt(), centres, strides, gt, labels)

        losses = self._head_losses(_run(self.head, maps), one_to_many, batch, targets)
        if self.one_to_one_head is not None:
            # its gradient stays out of the maps: they are shaped by the many
            own = _run(self.one_to_one_head, [m.detach() for m in maps])
            more = self._head_losses(own, one_to_one, batch, targets)
            losses |= {name.replace("loss_", "loss_one_to_one_"): v for name, v in more.items()}
        return losses

    def _head_losses(
        self,
        maps: list[Tensor],
        assign: Callable[[Tensor, Tensor, Tensor, Tensor], _Assigned],
        batch: ImageBatch,
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        values = 4 + self.num_classes
        each = values + CODE_VALUES if self.oriented else values
        rows = torch.cat([dense_to_rows(m, each) for m in maps], dim=1)
        boxes, scores = self._decode(maps)
        cells, ignored, gt_boxes, gt_labels, quality = [], [], [], [], []
        for i, gt in enumerate(batch.boxes_in([t["boxes"] for t in targets])):
            labels = targets[i]["labels"] - 1
            match, iou = assign(boxes[i], scores[i], gt, labels)
            positive = torch.where(match >= 0)[0]
            cells.append(positive + i * len(match))
            ignored.append(torch.where(match == BETWEEN)[0] + i * len(match))
            gt_boxes.append(gt[match[positive]])
            gt_labels.append(labels[match[positive]])
            quality.append(iou[positive])
        box, objectness, classes = yolo_loss(
            boxes.flatten(0, 1),
            rows[..., 4].flatten(),
            rows[..., 5:values].flatten(0, 1),
            torch.cat(gt_boxes),
            torch.cat(gt_labels),
            torch.cat(cells),
            torch.cat(quality),
            torch.cat(ignored),
        )
        losses = {
            "loss_box": self.box_weight * box,
            "loss_objectness": objectness,
            "loss_class": classes,
        }
        if self.oriented:
            codes = rows[..., values:].flatten(0, 1)[torch.cat(cells)]
            losses["loss_angle"] = angle_loss(codes, torch.cat(gt_boxes))
        return losses


def _run(head: YOLOHead, maps: list[Tensor]) -> list[Tensor]:
    # in full precision from here on: a half cannot hold a pixel's place in a large image
    return [m.float() for m in head(maps)]


def _same_count(anchors: Anchors) -> int:
    counts = {len(level) for level in anchors}
    if len(counts) != 1:
        raise ValueError(
            "anchors must be as many on every level, which share a head, "
            f"got {[len(level) for level in anchors]}"
        )
    return counts.pop()
