"""Faster R-CNN: a region proposal network, then a head over the pooled proposals."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detcore.ops import MultiScaleRoIAlign, decode_dense
from detcore.parts.anchors import cell_anchors, grid_anchors
from detcore.parts.backbone import DEFAULT_BACKBONE, as_backbone
from detcore.parts.box_coder import BoxCoder
from detcore.parts.heads import BoxHead, RPNHead, dense_to_rows
from detcore.parts.losses import box_head_loss, rpn_loss
from detcore.parts.matcher import Matcher
from detcore.parts.neck import FPN
from detcore.parts.postprocess import Postprocess, ProposalSelector
from detcore.parts.preprocess import FitWithin, ImageBatch, Preprocess
from detcore.parts.sampler import BalancedSampler
from detcore.parts.targets import Target, check_box_targets, check_classes, check_images

from .config import keeps_config

_POOLED_SIZE = 7


@keeps_config("faster_rcnn")
class FasterRCNN(nn.Module):
    """Two-stage detector (Ren et al., 2015) on a feature pyramid (Lin et al., 2017).

    Args:
        num_classes: classes, the background (0) counted: labels are 1..num_classes - 1.
        backbone: timm name, mapping of `Backbone`'s arguments, or a module to share.
        image_size: length that an image's longer side may have inside the model, pixels.
        min_size: length of the shorter side, unless the longer would pass image_size; None: the
            longer side is brought to image_size.
        fpn_channels, head_width: channels of the pyramid; width of the box head's layers.
        anchor_scale: side of a level's anchors, in its cells. aspect_ratios: height / width.
        proposals: how many regions an image reach the box head; in training `box_samples` of them
            are learnt from. rpn_samples: anchors an image that the RPN learns from.
        score_threshold, iou_threshold, candidates_per_class, max_detections: see `Postprocess`.
        pretrained: load timm's weights into a backbone given by name or mapping.

    forward(images, targets): images: list of float [3, H, W] in 0..1; targets, in training: list of
    dicts with boxes float [n, 4] (xyxy, pixels) and labels int64 [n]. Gives in training a dict of
    loss_rpn_objectness, loss_rpn_box, loss_class and loss_box; in evaluation a list of dicts with
    boxes [K, 4] in the given image's pixels, scores [K] descending and labels [K]. Raises
    ValueError for what does not fit. Training draws samples from torch's global generator.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str | Mapping[str, Any] | nn.Module = DEFAULT_BACKBONE,
        image_size: int = 320,
        min_size: int | None = None,
        fpn_channels: int = 96,
        head_width: int = 256,
        anchor_scale: float = 4.0,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        proposals: int = 200,
        rpn_samples: int = 256,
        box_samples: int = 128,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        candidates_per_class: int = 400,
        max_detections: int = 100,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        check_classes(num_classes)
        self.num_classes = num_classes
        self.backbone = as_backbone(backbone, (8, 16, 32), pretrained=pretrained)
        self.neck = FPN(self.backbone.channels, fpn_channels, pool_last=True)
        self.strides = self.neck.strides_of(self.backbone.strides)
        for i, stride in enumerate(self.strides):
            shape = cell_anchors((anchor_scale * stride,), aspect_ratios)
            self.register_buffer(f"anchors{i}", shape, persistent=False)

        self.rpn_head = RPNHead(fpn_channels, len(aspect_ratios))
        self.rpn_matcher = Matcher(0.7, 0.3, allow_low_quality=True)
        self.rpn_sampler = BalancedSampler(rpn_samples, 0.5)
        self.rpn_coder = BoxCoder()
        self.selector = ProposalSelector(after_nms=proposals)

        pooled_maps = [str(i) for i in range(len(self.backbone.strides))]
        self.pool = MultiScaleRoIAlign(pooled_maps, _POOLED_SIZE, 2)
        self.box_head = BoxHead(fpn_channels, _POOLED_SIZE, num_classes, width=head_width)
        self.box_matcher = Matcher(0.5, 0.5)
        self.box_sampler = BalancedSampler(box_samples, 0.25)
        self.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))

        self.preprocess = Preprocess(FitWithin(min_size or image_size, image_size))
        self.postprocess = Postprocess(
            score_threshold, iou_threshold, candidates_per_class, max_detections
        )

    @property
    def anchors(self) -> list[Tensor]:
        """Anchors of each level's first cell: [A, 4] xyxy, pixels of the batch."""
        return [getattr(self, f"anchors{i}") for i in range(len(self.strides))]

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        check_images(images)
        if self.training:
            check_box_targets(images, targets, self.num_classes)
        elif len(images) == 0:
            return []
        batch = self.preprocess(images)
        maps = self.neck(self.backbone(batch.images))
        logits, deltas = self.rpn_head(maps)
        # in full precision from here on: a half cannot hold a pixel's place in a large image
        logits, deltas = [m.float() for m in logits], [m.float() for m in deltas]
        proposals = self._propose(logits, deltas, batch)
        if not self.training:
            return self._detect(maps, proposals, batch)

        assert targets is not None
        gt_boxes = batch.boxes_in([t["boxes"] for t in targets])
        gt_labels = [t["labels"] for t in targets]
        losses = self._rpn_losses(logits, deltas, gt_boxes)
        return losses | self._box_losses(maps, proposals, gt_boxes, gt_labels, batch)

    def _propose(
        self, logits: list[Tensor], deltas: list[Tensor], batch: ImageBatch
    ) -> list[Tensor]:
        with torch.no_grad():
            levels = zip(deltas, self.anchors, self.strides, strict=True)
            boxes = [decode_dense(m, a, s, clip=self.rpn_coder.clip)[0] for m, a, s in levels]
            rows = [dense_to_rows(m, 1)[..., 0] for m in logits]
        return [
            self.selector([b[i] for b in boxes], [r[i] for r in rows], size)
            for i, size in enumerate(batch.sizes)
        ]

    def _rpn_losses(
        self, logits: list[Tensor], deltas: list[Tensor], gt_boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        levels = zip(self.anchors, logits, self.strides, strict=True)
        anchors = torch.cat([grid_anchors(a, (m.shape[2], m.shape[3]), s) for a, m, s in levels])
        positives, negatives, wanted = [], [], []
        for i, boxes in enumerate(gt_boxes):
            match = self.rpn_matcher.of_boxes(boxes, anchors)
            # 1 positive, 0 background, -1 left out
            label = torch.where(match >= 0, 1, match + 1)
            positive, negative = self.rpn_sampler(label)
            wanted.append(self.rpn_coder.encode(boxes[match[positive]], anchors[positive]))
            positives.append(positive + i * len(anchors))
            negatives.append(negative + i * len(anchors))
        objectness, box = rpn_loss(
            torch.cat([dense_to_rows(m, 1) for m in logits], dim=1).flatten(),
            torch.cat([dense_to_rows(m, 4) for m in deltas], dim=1).flatten(0, 1),
            torch.cat(positives),
            torch.cat(negatives),
            torch.cat(wanted),
        )
        return {"loss_rpn_objectness": objectness, "loss_rpn_box": box}

    def _box_losses(
        self,
        maps: list[Tensor],
        proposals: list[Tensor],
        gt_boxes: list[Tensor],
        gt_labels: list[Tensor],
        batch: ImageBatch,
    ) -> dict[str, Tensor]:
        regions, labels, wanted = [], [], []
        for boxes, gt, gt_label in zip(proposals, gt_boxes, gt_labels, strict=True):
            # the ground truths are proposals too: at first the RPN finds nothing to learn from
            boxes = torch.cat((boxes, gt.to(boxes.dtype)))
            match = self.box_matcher.of_boxes(gt, boxes)
            label = torch.zeros_like(match)
            label[match >= 0] = gt_label[match[match >= 0]]
            positive, negative = self.box_sampler(label)
            chosen = torch.cat((positive, negative))
            delta = boxes.new_zeros(len(chosen), 4)
            delta[: len(positive)] = self.box_coder.encode(gt[match[positive]], boxes[positive])
            regions.append(boxes[chosen])
            labels.append(label[chosen])
            wanted.append(delta)
        logits, deltas = self._box_predictions(maps, regions, batch)
        classes, box = box_head_loss(logits, deltas, torch.cat(labels), torch.cat(wanted))
        return {"loss_class": classes, "loss_box": box}

    def _detect(
        self, maps: list[Tensor], proposals: list[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        logits, deltas = self._box_predictions(maps, proposals, batch)
        boxes = self.box_coder.decode(deltas, torch.cat(proposals)).view(*logits.shape, 4)
        scores = logits.softmax(dim=1)
        counts = [len(p) for p in proposals]
        return self.postprocess.batch(
            boxes[:, 1:].split(counts), scores[:, 1:].split(counts), batch
        )

    def _box_predictions(
        self, maps: list[Tensor], regions: list[Tensor], batch: ImageBatch
    ) -> tuple[Tensor, Tensor]:
        named = {str(i): m for i, m in enumerate(maps)}
        # the padded size tells the pooler each map's true scale, an image's own would not
        sizes = [batch.padded_size] * len(regions)
        logits, deltas = self.box_head(self.pool(named, regions, sizes))
        return logits.float(), deltas.float()
