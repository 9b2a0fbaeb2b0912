"""SSD: default boxes on every cell of several maps, classified and moved in one pass."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from detcore.ops import decode_dense
from detcore.parts.anchors import centred, default_boxes, grid_anchors
from detcore.parts.assignment.iou_matcher import ArgmaxMatcher
from detcore.parts.backbones import DEFAULT_BACKBONE, as_backbone, in_channels
from detcore.parts.box_coder import BoxCoder
from detcore.parts.heads import SSDHead, dense_to_rows
from detcore.parts.input_checks import Target
from detcore.parts.layers import group_norm
from detcore.parts.losses import ssd_loss
from detcore.parts.necks import ExtraLevels, Level, VGGTop, extra_level
from detcore.parts.postprocess import Detections, Postprocess
from detcore.parts.preprocess import (
    FitWithin,
    ImageBatch,
    Preprocess,
    StretchTo,
)

from .config import keeps_config
from .detector import Detector

# SSDLite's own settings, which are TensorFlow's
_LITE_NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)


@keeps_config("ssd")
class SSD(Detector):
    """Single shot detector (Liu et al., ECCV 2016), with norms in its heads to train from scratch.

    Args:
        num_classes: classes including the background (0): labels are 1..num_classes - 1.
        backbone: a name, a mapping of arguments, or a module to share: see `as_backbone`.
        image_size: length of an image's longer side inside the model, pixels.
        stretch: bring every image to image_size x image_size, whatever its aspect ratio.
        vgg_top: as in the paper, L2-normalise the first map and pass the last one through VGG's
            dilated fully connected layers with this many channels; None: use the maps as they are.
        extra_levels: the maps that are added to the backbone's, see `ExtraLevels`.
        anchor_scale: side of a level's smallest default box, in cells of the level.
        anchor_sizes: instead of anchor_scale, that side for each level in pixels, and one more
            number for the last level's larger square. Then no box is longer than image_size.
        aspect_ratios: of the default boxes that are not squares, each also inverted; one list for
            all levels, or one list per level.
        strides: pixels per cell of each level; None: such that the map spans the image.
        head_width: channels of a convolution before the predictions; None: none, as in the paper.
        norm: group norm in the extra levels; without it they have biases, as in the paper.
        lite: SSDLite (Sandler et al., 2018): depthwise convolutions in extra levels and
            predictions, and batch norm; head_width and norm are ignored.
        mean, std: of the images' channels; None: ImageNet's.
        score_threshold, iou_threshold, candidates_per_class, max_detections: see `Postprocess`.
        pretrained: load published weights into a backbone given by name or mapping.

    forward(images, targets): see `Detector`; the losses are loss_class and loss_box.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str | Mapping[str, Any] | nn.Module = DEFAULT_BACKBONE,
        image_size: int = 320,
        stretch: bool = False,
        vgg_top: int | None = None,
        extra_levels: Sequence[Level] = (256,),
        anchor_scale: float = 3.0,
        anchor_sizes: Sequence[float] | None = None,
        aspect_ratios: Sequence[float] | Sequence[Sequence[float]] = (2.0,),
        strides: Sequence[float] | None = None,
        head_width: int | None = 128,
        norm: bool = True,
        lite: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.45,
        candidates_per_class: int = 400,
        max_detections: int = 100,
        pretrained: bool = False,
    ) -> None:
        super().__init__(num_classes)
        self.backbone = as_backbone(backbone, (8, 16, 32), pretrained=pretrained)
        channels, self.top = _top(self.backbone.channels, vgg_top)
        self.neck = _extra_levels(channels[-1], extra_levels, norm=norm, lite=lite)
        channels = (*channels, *(extra_level(level)[1] for level in extra_levels))
        self.strides = _strides(self.backbone.strides, len(channels), strides)
        self._given_strides = strides is not None
        scaled = [anchor_scale * s for s in self.strides]
        shapes = _shapes(anchor_sizes, scaled, aspect_ratios, image_size)
        for i, shape in enumerate(shapes):
            self.register_buffer(f"shapes{i}", shape, persistent=False)
        self.head = SSDHead(
            channels,
            [len(a) for a in shapes],
            num_classes,
            width=None if lite else head_width,
            depthwise_norm=_LITE_NORM if lite else None,
        )
        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.matcher = ArgmaxMatcher(0.5)
        self.preprocess = Preprocess(
            StretchTo(image_size, image_size) if stretch else FitWithin(image_size, image_size),
            divisor=1 if stretch else 32,
            channels=in_channels(self.backbone),
            mean=mean,
            std=std,
        )
        self.postprocess = Postprocess(
            score_threshold, iou_threshold, candidates_per_class, max_detections, min_size=0.0
        )

    def losses(
        self, maps: list[Tensor], batch: ImageBatch, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Class and box loss, from the backbone's maps [B, C_i, H_i, W_i]."""
        logits, deltas = self.predict(maps)
        grids = self.anchors(logits, batch)
        levels = zip(grids, logits, strict=True)
        anchors = torch.cat([grid_anchors(a, (m.shape[2], m.shape[3]), s) for (a, s), m in levels])
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

    def detections(self, maps: list[Tensor], batch: ImageBatch) -> Detections:
        """Detections in fixed shapes, from the backbone's maps [B, C_i, H_i, W_i]."""
        logits, deltas = self.predict(maps)
        levels = zip(deltas, self.anchors(deltas, batch), strict=True)
        boxes = [
            decode_dense(m, a, s, weights=self.coder.weights, clip=self.coder.clip)[0]
            for m, (a, s) in levels
        ]
        rows = torch.cat([dense_to_rows(m, self.num_classes) for m in logits], dim=1)
        return self.postprocess(torch.cat(boxes, dim=1), rows.softmax(dim=-1)[..., 1:], batch)

    def predict(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Class logits [B, A_i * num_classes, H, W] and deltas [B, A_i * 4, H, W] of each level."""
        logits, deltas = self.head(self.neck(self.top(maps)))
        # in full precision from here on: a half cannot hold a pixel's place in a large image
        return [m.float() for m in logits], [m.float() for m in deltas]

    def anchors(
        self, maps: Sequence[Tensor], batch: ImageBatch
    ) -> list[tuple[Tensor, tuple[float, float]]]:
        """Of each level the default boxes [A, 4] of its first cell, and its strides (y, x).

        xyxy, pixels of the batch.
        """
        height, width = batch.padded_size
        grids = []
        for i, m in enumerate(maps):
            stride = (height / m.shape[2], width / m.shape[3])
            if self._given_strides:
                stride = (self.strides[i], self.strides[i])
            grids.append((centred(getattr(self, f"shapes{i}"), stride), stride))
        return grids


def _top(channels: Sequence[int], width: int | None) -> tuple[Sequence[int], nn.Module]:
    """The maps' channels behind VGG's last layers, and these; as they are without a width."""
    if width is None:
        return channels, nn.Identity()
    top = VGGTop(channels, width)
    return top.channels, top


def _extra_levels(channels: int, levels: Sequence[Level], *, norm: bool, lite: bool) -> ExtraLevels:
    """The maps beyond the backbone's, whose last one has so many channels."""
    if lite:
        return ExtraLevels(channels, levels, norm=_LITE_NORM, activation=nn.ReLU6, depthwise=True)
    return ExtraLevels(channels, levels, norm=group_norm if norm else None)


def _strides(
    backbone: Sequence[int], levels: int, given: Sequence[float] | None
) -> tuple[float, ...]:
    """Of every level, those beyond the backbone's each twice the one before unless given."""
    if given is not None:
        if len(given) != levels:
            raise ValueError(f"SSD: strides must be {levels}, one per level, got {list(given)}")
        return tuple(given)
    strides: list[float] = list(backbone)
    while len(strides) < levels:
        strides.append(strides[-1] * 2)
    return tuple(strides)


def _shapes(
    sizes: Sequence[float] | None,
    scaled: Sequence[float],
    aspect_ratios: Sequence[float] | Sequence[Sequence[float]],
    image_size: int,
) -> list[Tensor]:
    """Default boxes [A, 4] of each level around the origin."""
    count = len(scaled)
    ratios: list[Any] = list(aspect_ratios)
    if not ratios or not isinstance(ratios[0], Sequence):
        ratios = [ratios] * count
    if len(ratios) != count:
        raise ValueError(
            f"SSD: aspect_ratios must be of {count} levels, got {len(ratios)} lists of them"
        )
    if sizes is None:
        return [default_boxes(s, 2 * s, r) for s, r in zip(scaled, ratios, strict=True)]
    if len(sizes) != count + 1:
        raise ValueError(
            f"SSD: anchor_sizes must be {count + 1}, one per level and one more, got {list(sizes)}"
        )
    triples = zip(sizes[:-1], sizes[1:], ratios, strict=True)
    return [default_boxes(s, t, r, largest=image_size) for s, t, r in triples]
