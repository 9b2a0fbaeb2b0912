"""SSD: default boxes on every cell of several maps, classified and moved in one pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detcore.ops import decode_dense
from detcore.parts.anchors import centred, default_boxes, grid_anchors
from detcore.parts.backbone import DEFAULT_BACKBONE, as_backbone
from detcore.parts.box_coder import BoxCoder
from detcore.parts.heads import SSDHead, dense_to_rows
from detcore.parts.losses import ssd_loss
from detcore.parts.matcher import ArgmaxMatcher
from detcore.parts.neck import ExtraLevels
from detcore.parts.postprocess import Postprocess
from detcore.parts.preprocess import FitWithin, ImageBatch, Preprocess
from detcore.parts.targets import Target, check_box_targets, check_classes, check_images

from .config import keeps_config


@keeps_config("ssd")
class SSD(nn.Module):
    """Single shot detector (Liu et al., ECCV 2016), with norms in its heads to train from scratch.

    Args:
        num_classes: classes, the background (0) counted: labels are 1..num_classes - 1.
        backbone: timm name, mapping of `Backbone`'s arguments, or a module to share.
        image_size: length of an image's longer side inside the model, pixels.
        extra_levels: channels of each further map beyond the backbone's.
        anchor_scale: side of a level's smallest default box, in its cells.
        aspect_ratios: of the default boxes beside the squares, each with its inverse.
        head_width: channels of the convolution before the predictions; None: the paper's bare ones.
        score_threshold, iou_threshold, candidates_per_class, max_detections: see `Postprocess`.
        pretrained: load timm's weights into a backbone given by name or mapping.

    forward(images, targets): images: list of float [3, H, W] in 0..1; targets, in training: list of
    dicts with boxes float [n, 4] (xyxy, pixels) and labels int64 [n]. Gives in training a dict of
    loss_class and loss_box; in evaluation a list of dicts with boxes [K, 4] in the given image's
    pixels, scores [K] descending and labels [K]. Raises ValueError for what does not fit.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str | Mapping[str, Any] | nn.Module = DEFAULT_BACKBONE,
        image_size: int = 320,
        extra_levels: Sequence[int] = (256,),
        anchor_scale: float = 3.0,
        aspect_ratios: Sequence[float] = (2.0,),
        head_width: int | None = 128,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.45,
        candidates_per_class: int = 400,
        max_detections: int = 100,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        check_classes(num_classes)
        self.num_classes = num_classes
        self.backbone = as_backbone(backbone, (8, 16, 32), pretrained=pretrained)
        self.neck = ExtraLevels(self.backbone.channels[-1], extra_levels)
        strides = list(self.backbone.strides)
        for _ in extra_levels:
            strides.append(strides[-1] * 2)
        self.strides = tuple(strides)

        for i, stride in enumerate(self.strides):
            size = anchor_scale * stride
            shape = centred(default_boxes(size, 2 * size, aspect_ratios), stride)
            self.register_buffer(f"anchors{i}", shape, persistent=False)
        self.head = SSDHead(
            (*self.backbone.channels, *extra_levels),
            [len(a) for a in self.anchors],
            num_classes,
            width=head_width,
        )
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.matcher = ArgmaxMatcher(0.5)
        self.preprocess = Preprocess(FitWithin(image_size, image_size))
        self.postprocess = Postprocess(
            score_threshold, iou_threshold, candidates_per_class, max_detections
        )

    @property
    def anchors(self) -> list[Tensor]:
        """Default boxes of each level's first cell: [A, 4] xyxy, pixels of the batch."""
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
        logits, deltas = self.head(self.neck(self.backbone(batch.images)))
        # in full precision from here on: a half cannot hold a pixel's place in a large image
        logits, deltas = [m.float() for m in logits], [m.float() for m in deltas]
        if self.training:
            assert targets is not None
            return self._losses(logits, deltas, batch, targets)
        return self._detect(logits, deltas, batch)

    def _losses(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        batch: ImageBatch,
        targets: Sequence[Target],
    ) -> dict[str, Tensor]:
        levels = zip(self.anchors, logits, self.strides, strict=True)
        anchors = torch.cat([grid_anchors(a, (m.shape[2], m.shape[3]), s) for a, m, s in levels])
        labels, wanted = [], []
        gt = batch.boxes_in([t["boxes"] for t in targets])
        for boxes, target in zip(gt, targets, strict=True):
            match = self.matcher.of_boxes(boxes, anchors)
            positive = torch.where(match >= 0)[0]
            label = torch.zeros_like(match)
            label[positive] = target["labels"][match[positive]]
            delta = torch.zeros_like(anchors)
            delta[positive] = self.coder.encode(boxes[match[positive]], anchors[positive])
            labels.append(label)
            wanted.append(delta)
        classes, box = ssd_loss(
            torch.cat([dense_to_rows(m, self.num_classes) for m in logits], dim=1),
            torch.cat([dense_to_rows(m, 4) for m in deltas], dim=1),
            torch.stack(labels),
            torch.stack(wanted),
        )
        return {"loss_class": classes, "loss_box": box}

    def _detect(
        self, logits: list[Tensor], deltas: list[Tensor], batch: ImageBatch
    ) -> list[dict[str, Tensor]]:
        levels = zip(deltas, self.anchors, self.strides, strict=True)
        boxes = [
            decode_dense(m, a, s, weights=self.coder.weights, clip=self.coder.clip)[0]
            for m, a, s in levels
        ]
        rows = torch.cat([dense_to_rows(m, self.num_classes) for m in logits], dim=1)
        scores = rows.softmax(dim=-1)[..., 1:]
        return self.postprocess.batch(torch.cat(boxes, dim=1), scores, batch)
