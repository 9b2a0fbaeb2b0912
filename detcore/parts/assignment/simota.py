"""Choosing the cells that answer for a ground truth by what the head predicts now."""

import torch
from torch import Tensor

from detcore.ops import box_iou
from detcore.parts import box_forms


class _ByCost:
    """What `SimOTA` and `OneToOne` share: who may answer for whom, and at what cost."""

    radius: float
    iou_weight: float

    @torch.no_grad()
    def __call__(
        self,
        boxes: Tensor,
        probabilities: Tensor,
        centres: Tensor,
        strides: Tensor,
        gt_boxes: Tensor,
        gt_labels: Tensor,
    ) -> tuple[Tensor, Tensor]:
        match = torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device)
        quality = boxes.new_zeros(len(boxes))
        if len(gt_boxes) == 0 or len(boxes) == 0:
            return match, quality
        near = self._near(centres, strides, gt_boxes)  # [M, N]
        cells = torch.where(near.any(dim=0))[0]
        near = near[:, cells]
        predicted = boxes[cells].to(gt_boxes.dtype)
        iou = box_iou(gt_boxes, predicted, fmt=box_forms.format_of(gt_boxes)).nan_to_num(0.0) * near
        cost = self._class_cost(probabilities[cells], gt_labels)
        cost = cost - self.iou_weight * torch.log(iou + 1e-8)
        cost = torch.where(near, cost, float("inf")).nan_to_num(float("inf"), float("inf"))

        taken = self._take(cost, iou) & cost.isfinite()
        cheapest, gt = torch.where(taken, cost, float("inf")).min(dim=0)
        gt = torch.where(cheapest.isfinite(), gt, -1)
        match[cells] = gt
        matched = iou.gather(0, gt.clamp(min=0)[None])[0]
        quality[cells] = torch.where(gt >= 0, matched, 0.0).to(quality.dtype)
        return match, quality

    def _take(self, cost: Tensor, iou: Tensor) -> Tensor:
        """bool [M, n]: the cells that each ground truth wants; the cheapest has a contested one.

        cost [M, n], infinite where a cell can't answer; iou [M, n].
        """
        raise NotImplementedError

    def _near(self, centres: Tensor, strides: Tensor, gt_boxes: Tensor) -> Tensor:
        middle = box_forms.centres(gt_boxes)  # [M, 2]
        offset = (centres[None] - middle[:, None]).abs().amax(dim=-1)  # [M, N]
        return offset < self.radius * strides

    @staticmethod
    def _class_cost(probabilities: Tensor, gt_labels: Tensor) -> Tensor:
        """[M, N]: the loss of each cell's classes, were each ground truth's label right."""
        probability = probabilities.float().clamp(1e-6, 1 - 1e-6)
        wrong = -(1 - probability).log()  # [N, C]
        own = probability[:, gt_labels].T
        return wrong.sum(dim=1)[None] + (1 - own).log() - own.log()


class SimOTA(_ByCost):
    """YOLOX's assignment (Ge et al., 2021): each ground truth takes its cheapest cells.

    A cell can answer for a ground truth whose centre is within `radius` cells of its own, on any
    level. The cost of a pair is the classification loss plus `iou_weight` times -log IoU of what
    the head predicts now. A ground truth takes as many cells as its `candidates` best IoUs sum up
    to, at least one; a cell that several want goes to the cheapest.

    Unlike the paper there is no second class of cells (inside the box but far from its centre):
    every ground truth inside the image has a cell within the radius on every level.

    __call__(boxes, probabilities, centres, strides, gt_boxes, gt_labels):
    predicted boxes [N, 4] xyxy or [N, 5] cxcywhr, pixels, and probabilities [N, C]; the cells'
    centres [N, 2] x, y and strides [N], pixels; ground truths of as many numbers and their int64
    [M] in 0..C - 1. Gives int64 [N]: the ground
    truth of each cell or -1, and float [N]: the IoU with it or 0. No gradient; deterministic.
    """

    def __init__(self, radius: float = 1.5, candidates: int = 10, iou_weight: float = 3.0) -> None:
        self.radius = radius
        self.candidates = candidates
        self.iou_weight = iou_weight

    def _take(self, cost: Tensor, iou: Tensor) -> Tensor:
        # rank[m, n]: how many cells are cheaper for ground truth m; ties by index
        rank = cost.argsort(dim=1, stable=True).argsort(dim=1)
        best = iou.topk(min(self.candidates, iou.shape[1]), dim=1).values
        count = best.sum(dim=1).long().clamp(min=1)
        return rank < count[:, None]


class OneToOne(_ByCost):
    """Each ground truth takes exactly one cell, so that nothing needs suppression afterwards.

    The cost is `SimOTA`'s: YOLOv10 (Wang et al., 2024) found that a one-to-one head learns best
    where its assignment and the one-to-many one beside it rank cells alike. The radius is smaller:
    the one to four cells of a level around the centre are few enough to learn which answers.
    Pairs are taken by ascending cost, and a cell or ground truth that is taken leaves; equal costs
    go to the lower ground truth, then the lower cell. A ground truth stays without a cell only
    where others have taken all that are near it.

    Called as `SimOTA`, and gives the same. No gradient; deterministic.
    """

    def __init__(self, radius: float = 0.75, iou_weight: float = 3.0) -> None:
        self.radius = radius
        self.iou_weight = iou_weight

    def _take(self, cost: Tensor, iou: Tensor) -> Tensor:
        cost, rows = cost.clone(), torch.arange(len(cost), device=cost.device)
        taken = torch.zeros_like(cost, dtype=torch.bool)
        while True:
            # a pair that is the cheapest of its row and of its column can't be outbid any more;
            # the cheapest pair of all is one, so every round takes at least one
            best, cell = cost.min(dim=1)
            won = (cost.argmin(dim=0)[cell] == rows) & best.isfinite()
            row, column = rows[won], cell[won]
            if len(row) == 0:
                return taken
            taken[row, column] = True
            cost[row] = float("inf")
            cost[:, column] = float("inf")


def grid_centres(
    grid_size: tuple[int, int], stride: tuple[float, float], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Centres [H * W, 2] (x, y) and strides [H * W] (the larger side) of a map's cells, in pixels.

    Rows, then columns, as `dense_to_rows` orders them; dtype and device of `like`.
    """
    y = (torch.arange(grid_size[0], device=like.device, dtype=like.dtype) + 0.5) * stride[0]
    x = (torch.arange(grid_size[1], device=like.device, dtype=like.dtype) + 0.5) * stride[1]
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack((grid_x, grid_y), dim=-1).reshape(-1, 2)
    return centres, centres.new_full((len(centres),), max(stride))
