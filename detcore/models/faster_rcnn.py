"""Faster R-CNN: a region proposal network, then a head over the pooled proposals."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detcore.ops import decode_dense, multiscale_roi_align
from detcore.ops.roi_align import to_rois
from detcore.parts.anchors import cell_anchors, grid_anchors
from detcore.parts.assignment.iou_matcher import Matcher
from detcore.parts.assignment.sampler import BalancedSampler
from detcore.parts.backbones import DEFAULT_BACKBONE, as_backbone, in_channels
from detcore.parts.box_coder import BoxCoder
from detcore.parts.box_forms import enclosing, longer_side_first
from detcore.parts.heads import BoxHead, OrientingHead, RPNHead, dense_to_rows
from detcore.parts.input_checks import Target
from detcore.parts.losses import box_head_loss, orienting_loss, rpn_loss
from detcore.parts.necks import FPN
from detcore.parts.oriented_box_coder import OrientedBoxCoder, OrientingCoder
from detcore.parts.postprocess import Detections, Postprocess, ProposalSelector
from detcore.parts.preprocess import FitWithin, ImageBatch, Preprocess
from detcore.parts.rotated_pooling import multiscale_roi_align_rotated

from .config import keeps_config
from .detector import Detector

_POOLED_SIZE = 7
_ONE_MAP_OCTAVES = (0.5, 1.0, 2.0, 4.0)


class _Samples(NamedTuple):
    """The regions of a batch that a head learns from, R in all, P of them on an object."""

    regions: list[Tensor]  # of each image [R_i, 4 or 5]
    labels: Tensor  # int64 [R], 0: background
    positive: Tensor  # int64 [P]: which of the R
    gt_boxes: Tensor  # [P, 4 or 5]: the ground truth of each


@keeps_config("faster_rcnn")
class FasterRCNN(Detector):
    """Two-stage detector (Ren et al., 2015), on a feature pyramid (Lin et al., 2017) or one map.

    With `oriented` the second stage has two steps (Ding et al., RoI Transformer, CVPR 2019). The
    RPN stays upright and learns the upright boxes around the oriented ones. A first head turns each
    proposal into an oriented region, and what `roi_align_rotated` pools from that gives the second
    head its class and its oriented box in the region's frame.

    Args:
        num_classes: classes including the background (0): labels are 1..num_classes - 1.
        backbone: a name, a mapping of arguments, or a module to share: see `as_backbone`.
        image_size: largest length of an image's longer side inside the model, pixels.
        min_size: length of the shorter side, unless the longer one would exceed image_size; None:
            the longer side is resized to image_size.
        fpn_channels: channels of the pyramid; None: no pyramid, both stages use the backbone's map
            of stride 16.
        fpn_norm: batch norm in the pyramid; without it its convolutions have biases.
        anchor_scale: side of a level's anchors, in cells of the level; without a pyramid, times
            0.5, 1, 2 and 4.
        anchor_sizes: instead of anchor_scale, the sides of each level's anchors, pixels.
        aspect_ratios: height / width of the anchors, combined with each side.
        rpn_depth: convolutions before the RPN's predictions.
        head_convs, head_layers, head_width: 3x3 convolutions with batch norm in the box head, then
            fully connected layers, and their width; of an oriented model's two heads each.
        proposals: how many regions per image reach the box head; in training `box_samples` of them
            are used for the loss.
        oriented: targets and detections are boxes [n, 5] (cxcywhr) in degrees.
        rpn_samples: anchors per image that the RPN learns from.
        rpn_candidates, rpn_score_threshold: this many best anchors of each level, with at least
            this probability, enter the RPN's NMS.
        mean, std: of the images' channels; None: ImageNet's.
        score_threshold, iou_threshold, candidates_per_class, max_detections: see `Postprocess`.
        pretrained: load published weights into a backbone given by name or mapping.

    forward(images, targets): see `Detector`; the losses are loss_rpn_objectness, loss_rpn_box,
    loss_class and loss_box, with oriented loss_region_box and loss_region_angle too. Training
    draws samples with the seed in a target's sampling_seed (an int), or else from torch's global
    generator.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str | Mapping[str, Any] | nn.Module = DEFAULT_BACKBONE,
        image_size: int = 320,
        min_size: int | None = None,
        fpn_channels: int | None = 96,
        fpn_norm: bool = True,
        anchor_scale: float = 4.0,
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        rpn_depth: int = 1,
        head_convs: int = 0,
        head_layers: int = 2,
        head_width: int = 256,
        proposals: int = 200,
        rpn_candidates: int = 1000,
        rpn_score_threshold: float = 0.0,
        rpn_samples: int = 256,
        box_samples: int = 128,
        oriented: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        candidates_per_class: int = 400,
        max_detections: int = 100,
        pretrained: bool = False,
    ) -> None:
        super().__init__(num_classes)
        wanted = (16,) if fpn_channels is None else (8, 16, 32)
        self.backbone = as_backbone(backbone, wanted, pretrained=pretrained)
        channels, strides, self.neck = _neck(self.backbone, fpn_channels, fpn_norm)
        octaves = _ONE_MAP_OCTAVES if fpn_channels is None else (1.0,)
        scaled = [[anchor_scale * s * k for k in octaves] for s in strides]
        shapes = _anchor_shapes(anchor_sizes or scaled, len(strides), aspect_ratios)
        for i, shape in enumerate(shapes):
            self.register_buffer(f"anchors{i}", shape, persistent=False)
        self.levels = len(strides)

        self.rpn_head = RPNHead(channels, len(shapes[0]), rpn_depth)
        self.rpn_matcher = Matcher(0.7, 0.3, allow_low_quality=True)
        self.rpn_sampler = BalancedSampler(rpn_samples, 0.5)
        self.rpn_coder = BoxCoder()
        self.selector = ProposalSelector(
            rpn_candidates, proposals, score_threshold=rpn_score_threshold
        )

        self.pooled, self.pooled_scales = _pooled_maps(self.backbone.strides)
        self.oriented = oriented
        layers = {"convs": head_convs, "layers": head_layers, "width": head_width}
        self.box_values = 5 if oriented else 4
        self.box_head = BoxHead(
            channels, _POOLED_SIZE, num_classes, **layers, box_values=self.box_values
        )
        self.box_matcher = Matcher(0.5, 0.5)
        self.box_sampler = BalancedSampler(box_samples, 0.25)
        self.box_coder: BoxCoder | OrientedBoxCoder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        if oriented:
            self.orienting_head = OrientingHead(channels, _POOLED_SIZE, **layers)
            self.orienting_coder = OrientingCoder()
            self.box_coder = OrientedBoxCoder()

        self.preprocess = Preprocess(
            FitWithin(min_size or image_size, image_size),
            channels=in_channels(self.backbone),
            mean=mean,
            std=std,
        )
        self.postprocess = Postprocess(
            score_threshold, iou_threshold, candidates_per_class, max_detections
        )

    @property
    def anchors(self) -> list[Tensor]:
        """Anchors of each level's first cell: [A, 4] xyxy, pixels of the batch."""
        return [getattr(self, f"anchors{i}") for i in range(self.levels)]

    def losses(
        self, maps: list[Tensor], batch: ImageBatch, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        """Losses of the RPN and the box head, from the backbone's maps [B, C_i, H_i, W_i]."""
        maps = self.neck(maps)
        logits, deltas = self.predict_anchors(maps)
        boxes, counts = self.propose(logits, deltas, batch)
        proposals = [b[:n] for b, n in zip(boxes, counts.tolist(), strict=True)]
        # as the first step names boxes: the second one's regions are the ground truths too
        gt_boxes = [longer_side_first(b) for b in batch.boxes_in([t["boxes"] for t in targets])]
        gt_labels = [t["labels"] for t in targets]
        seeds = [t.get("sampling_seed") for t in targets]
        upright = [enclosing(b) for b in gt_boxes]
        losses = self._rpn_losses(logits, deltas, upright, batch, seeds)
        chosen = self._sample(proposals, upright, gt_boxes, gt_labels, seeds)
        if self.oriented:
            regions, more = self._orient(maps, chosen)
            losses |= more
            chosen = self._sample(regions, gt_boxes, gt_boxes, gt_labels, seeds)
        return losses | self._box_losses(maps, chosen)

    def detections(self, maps: list[Tensor], batch: ImageBatch) -> Detections:
        """Detections in fixed shapes, from the backbone's maps [B, C_i, H_i, W_i]."""
        maps = self.neck(maps)
        boxes, counts = self.propose(*self.predict_anchors(maps), batch)
        if not torch.compiler.is_compiling():
            # a graph of fixed shapes has to take all rows, eager work only those with proposals
            boxes = boxes[:, : max(counts.tolist())]
        images, rows = boxes.shape[:2]
        image = torch.arange(images, device=boxes.device, dtype=boxes.dtype).view(-1, 1, 1)
        rois = torch.cat((image.expand(images, rows, 1), boxes), dim=2).flatten(0, 1)
        if self.oriented:
            regions = self.orienting_coder.decode(self.predict_regions(maps, rois), rois[:, 1:])
            rois = torch.cat((rois[:, :1], regions), dim=1)
        logits, deltas = self.predict_boxes(maps, rois)
        # the number of classes by name: of no proposals at all it can't be inferred
        classes = logits.shape[1]
        moved = self.box_coder.decode(deltas, rois[:, 1:])
        moved = moved.view(images, rows, classes, self.box_values)
        scores = logits.softmax(dim=1).view(images, rows, classes)
        row = torch.arange(rows, device=boxes.device)[:, None]
        scores = scores.masked_fill(row >= counts[:, None, None], math.nan)
        return self.postprocess(moved[:, :, 1:], scores[..., 1:], batch)

    def predict_anchors(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The RPN's logits [B, A, H, W] and deltas [B, A * 4, H, W] of the neck's maps."""
        logits, deltas = self.rpn_head(maps)
        # in full precision from here on: a half cannot hold a pixel's place in a large image
        return [m.float() for m in logits], [m.float() for m in deltas]

    def propose(
        self, logits: list[Tensor], deltas: list[Tensor], batch: ImageBatch
    ) -> tuple[Tensor, Tensor]:
        """Proposals [B, K, 4] and counts [B], see `ProposalSelector`."""
        levels = zip(deltas, self.anchors, strict=True)
        boxes = [
            decode_dense(m.detach(), a, _stride(m, batch), clip=self.rpn_coder.clip)[0]
            for m, a in levels
        ]
        rows = [dense_to_rows(m, 1)[..., 0] for m in logits]
        return self.selector(boxes, rows, batch.sizes)

    def predict_regions(self, maps: list[Tensor], rois: Tensor) -> Tensor:
        """An oriented model's first step: [R, 8] of the neck's maps, see `OrientingCoder`.

        rois: [R, 5] (image, x1, y1, x2, y2), pixels of the batch.
        """
        values: Tensor = self.orienting_head(self._pool(maps, rois))
        return values.float()

    def predict_boxes(self, maps: list[Tensor], rois: Tensor) -> tuple[Tensor, Tensor]:
        """The box head's logits [R, K] and deltas [R, K * 4] of the neck's maps.

        rois: [R, 5] (image, x1, y1, x2, y2), pixels of the batch. Of an oriented model
        deltas are [R, K * 5] and rois [R, 6] (image, cx, cy, width, height, degrees).
        """
        logits, deltas = self.box_head(self._pool(maps, rois))
        return logits.float(), deltas.float()

    def _pool(self, maps: list[Tensor], rois: Tensor) -> Tensor:
        pool = multiscale_roi_align_rotated if rois.shape[1] == 6 else multiscale_roi_align
        return pool([maps[i] for i in self.pooled], rois, _POOLED_SIZE, self.pooled_scales, 2)

    def _rpn_losses(
        self,
        logits: list[Tensor],
        deltas: list[Tensor],
        gt_boxes: list[Tensor],
        batch: ImageBatch,
        seeds: list[int | None],
    ) -> dict[str, Tensor]:
        levels = zip(self.anchors, logits, strict=True)
        anchors = torch.cat(
            [grid_anchors(a, (m.shape[2], m.shape[3]), _stride(m, batch)) for a, m in levels]
        )
        positives, negatives, wanted = [], [], []
        for i, (boxes, seed) in enumerate(zip(gt_boxes, seeds, strict=True)):
            match = self.rpn_matcher.of_boxes(boxes, anchors)
            # 1 positive, 0 background, -1 left out
            label = torch.where(match >= 0, 1, match + 1)
            positive, negative = self.rpn_sampler(label, seed)
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

    def _sample(
        self,
        proposals: list[Tensor],
        gt_as_proposals: list[Tensor],
        gt_boxes: list[Tensor],
        gt_labels: list[Tensor],
        seeds: list[int | None],
    ) -> _Samples:
        """Proposals to learn from, each with its label and the ground truth that it overlaps.

        gt_as_proposals: the ground truths [n, 4 or 5] in the form of the proposals, in which they
        are matched; gt_boxes: as they are to be learned.
        """
        regions, labels, positives, own = [], [], [], []
        images = zip(proposals, gt_as_proposals, gt_boxes, gt_labels, seeds, strict=True)
        start = 0
        for boxes, alike, gt, gt_label, seed in images:
            # the ground truths are proposals too: at first the RPN finds nothing to learn from
            boxes = torch.cat((boxes, alike.to(boxes.dtype)))
            match = self.box_matcher.of_boxes(alike, boxes)
            label = torch.zeros_like(match)
            label[match >= 0] = gt_label[match[match >= 0]]
            positive, negative = self.box_sampler(label, seed)
            chosen = torch.cat((positive, negative))
            regions.append(boxes[chosen])
            labels.append(label[chosen])
            positives.append(torch.arange(len(positive), device=boxes.device) + start)
            own.append(gt[match[positive]])
            start += len(chosen)
        return _Samples(regions, torch.cat(labels), torch.cat(positives), torch.cat(own))

    def _orient(
        self, maps: list[Tensor], chosen: _Samples
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Oriented regions [R_i, 5] of each image's upright ones, and the losses of that step."""
        upright = torch.cat(chosen.regions)
        values = self.predict_regions(maps, to_rois(maps[0], chosen.regions, "FasterRCNN"))
        wanted = self.orienting_coder.encode(chosen.gt_boxes, upright[chosen.positive])
        box, angle = orienting_loss(values, chosen.positive, wanted, chosen.gt_boxes)
        regions = self.orienting_coder.decode(values.detach(), upright)
        split = list(regions.split([len(r) for r in chosen.regions]))
        return split, {"loss_region_box": box, "loss_region_angle": angle}

    def _box_losses(self, maps: list[Tensor], chosen: _Samples) -> dict[str, Tensor]:
        rois = to_rois(maps[0], chosen.regions, "FasterRCNN", self.box_values)
        logits, deltas = self.predict_boxes(maps, rois)
        own = self.box_coder.encode(chosen.gt_boxes, rois[chosen.positive, 1:])
        wanted = own.new_zeros(len(rois), *own.shape[1:])
        wanted[chosen.positive] = own
        classes, box = box_head_loss(logits, deltas, chosen.labels, wanted)
        return {"loss_class": classes, "loss_box": box}


def _neck(
    backbone: Any, channels: int | None, norm: bool
) -> tuple[int, tuple[int, ...], nn.Module]:
    """Channels and strides of what the RPN reads, and the neck that makes it."""
    if channels is not None:
        batch_norm = nn.BatchNorm2d if norm else None
        fpn = FPN(backbone.channels, channels, norm=batch_norm, pool_last=True)
        return channels, fpn.strides_of(backbone.strides), fpn
    if len(backbone.channels) != 1:
        raise ValueError(
            "FasterRCNN: without a pyramid the backbone must give one map, got maps of strides "
            f"{list(backbone.strides)}"
        )
    return backbone.channels[0], tuple(backbone.strides), nn.Identity()


def _anchor_shapes(
    sizes: Sequence[Sequence[float]], levels: int, aspect_ratios: Sequence[float]
) -> list[Tensor]:
    """Anchors [A, 4] of each level around the origin, as many on every level."""
    if len(sizes) != levels or len({len(s) for s in sizes}) != 1:
        raise ValueError(
            f"FasterRCNN: anchor_sizes must be {levels} lists, one per level, of one length, "
            f"got {sizes}"
        )
    return [cell_anchors(sides, aspect_ratios, rounded=True) for sides in sizes]


def _pooled_maps(strides: Sequence[int]) -> tuple[list[int], list[float]]:
    """Which of the backbone's levels regions are read from, and the scales of these."""
    # of maps of one stride a region reads the first: no size would fit the second better
    pooled = [i for i, s in enumerate(strides) if s not in strides[:i]]
    return pooled, [1 / strides[i] for i in pooled]


def _stride(m: Tensor, batch: ImageBatch) -> tuple[int, int]:
    """Whole pixels per cell, cut down as torchvision's AnchorGenerator does it."""
    height, width = batch.padded_size
    return height // m.shape[2], width // m.shape[3]
