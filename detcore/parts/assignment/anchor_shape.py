"""Choosing the anchors of a YOLO that answer for a ground truth, by their shapes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detcore.ops import box_iou, match_boxes, paired_box_iou
from detcore.parts.assignment.iou_matcher import BELOW, BETWEEN

Anchors = Sequence[Sequence[Sequence[float]]]


class AnchorAssigner(nn.Module):
    """YOLOv4's assignment (Bochkovskiy et al., 2020, and its Darknet): by shape, then by place.

    A ground truth belongs to every anchor, on any level, whose shape IoU with it (both laid on one
    corner) is at least `shape_iou`, and in any case to the anchor of its best one (the lowest level
    and index of equal ones); at each, to the cell that holds its centre. A centre outside the map
    counts to the nearest cell. Where two ground truths want one anchor of one cell, it goes to the
    higher shape IoU, of equal ones to the lower index. Other predictions whose IoU with any ground
    truth exceeds `ignored_iou` are good boxes that nobody asked for: not taught as background.

    Args:
        anchors: one list per level of (width, height), pixels of the model's input.
        strides: pixels between the cells of each level.
        shape_iou, ignored_iou: see above.

    forward(boxes, gt_boxes, grid_sizes): predicted boxes [N, 4] and ground truths [M, 4] xyxy in
    pixels; (height, width) in cells of each level. N runs over levels, then rows, columns and
    anchors, as `decode_dense` gives them. Gives int64 [N]: each prediction's ground truth, -1
    (background) or -2 (neither: to be left out of the loss), and float [N]: the IoU with that
    ground truth or 0. No gradient; deterministic. Raises ValueError for anchors or boxes that do
    not fit the levels.
    """

    shapes: Tensor

    def __init__(
        self,
        anchors: Anchors,
        strides: Sequence[float],
        shape_iou: float = 0.213,
        ignored_iou: float = 0.7,
    ) -> None:
        super().__init__()
        levels = _shapes_of(anchors, len(strides))
        self.strides = tuple(strides)
        self.shape_iou = shape_iou
        self.ignored_iou = ignored_iou
        self.counts = [len(level) for level in levels]
        self.register_buffer("shapes", torch.cat(levels), persistent=False)  # [A of all levels, 2]

    @property
    def anchors(self) -> list[Tensor]:
        """The shapes of each level: [A, 2] width and height, pixels."""
        return list(self.shapes.split(self.counts))

    @torch.no_grad()
    def forward(
        self, boxes: Tensor, gt_boxes: Tensor, grid_sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """The match [N] of each prediction [N, 4] (or BACKGROUND, BETWEEN), and its IoU [N]."""
        count = sum(h * w * a for (h, w), a in zip(grid_sizes, self.counts, strict=True))
        if boxes.shape != (count, 4):
            raise ValueError(
                f"AnchorAssigner: boxes must be [{count}, 4] for maps of {list(grid_sizes)} cells "
                f"and {self.counts} anchors, got {list(boxes.shape)}"
            )
        gt_boxes = gt_boxes.to(boxes.dtype)
        near = match_boxes(gt_boxes, boxes).iou_of_anchor > self.ignored_iou
        match = torch.where(near, BETWEEN, BELOW)
        quality = boxes.new_zeros(count)
        if len(gt_boxes) == 0:
            return match, quality

        shape_iou = self._shape_iou(gt_boxes)  # [M, A]
        wanted = shape_iou >= self.shape_iou
        wanted.scatter_(1, shape_iou.argmax(dim=1, keepdim=True), True)
        gt, anchor = torch.where(wanted)
        row = self._rows(gt_boxes, grid_sizes)[gt, anchor]
        gt, row = _one_each(gt, row, shape_iou[gt, anchor], count)
        match[row] = gt
        quality[row] = paired_box_iou(boxes[row], gt_boxes[gt]).nan_to_num(0.0).to(quality.dtype)
        return match, quality

    def _shape_iou(self, gt_boxes: Tensor) -> Tensor:
        shapes = self.shapes.to(gt_boxes.dtype)
        sizes = gt_boxes[:, 2:] - gt_boxes[:, :2]
        laid, anchors = (torch.cat((torch.zeros_like(v), v), dim=1) for v in (sizes, shapes))
        return box_iou(laid, anchors)

    def _rows(self, gt_boxes: Tensor, grid_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """int64 [M, A]: each anchor's row at the cell that holds the ground truth's centre."""
        x, y = ((gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2).unbind(dim=1)
        rows, first = [], 0
        for (height, width), stride, count in zip(
            grid_sizes, self.strides, self.counts, strict=True
        ):
            column = (x / stride).floor().clamp(0, width - 1).long()
            line = (y / stride).floor().clamp(0, height - 1).long()
            cell = line * width + column
            within = torch.arange(count, device=gt_boxes.device)
            rows.append(first + cell[:, None] * count + within)
            first += height * width * count
        return torch.cat(rows, dim=1)


def _shapes_of(anchors: Anchors, levels: int) -> list[Tensor]:
    """Each level's anchors as float [A, 2], or ValueError."""
    wanted = f"anchors must be {levels} lists, one per level, of positive [width, height] in pixels"
    if len(anchors) != levels:
        raise ValueError(f"{wanted}, got {len(anchors)} lists")
    shapes = []
    for i, level in enumerate(anchors):
        try:
            shape = torch.tensor(level, dtype=torch.float32)
        except (TypeError, ValueError):  # ragged, or no numbers
            shape = torch.zeros(0)
        sound = shape.dim() == 2 and shape.shape[0] > 0 and shape.shape[1] == 2
        if not (sound and bool((shape.isfinite() & (shape > 0)).all())):
            raise ValueError(f"{wanted}, got {level} at level {i}")
        shapes.append(shape)
    return shapes


def _one_each(gt: Tensor, row: Tensor, quality: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Of the pairs (gt [P], row [P]) one for each row: the best quality [P], then the lowest gt."""
    best = quality.new_zeros(count).scatter_reduce(0, row, quality, "amax", include_self=False)
    tied = quality == best[row]
    gt, row = gt[tied], row[tied]
    first = gt.new_zeros(count).scatter_reduce(0, row, gt, "amin", include_self=False)
    kept = gt == first[row]
    return gt[kept], row[kept]
