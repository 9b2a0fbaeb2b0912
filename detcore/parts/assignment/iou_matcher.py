"""Matching anchors to ground truths by their quality, usually the IoU."""

import torch
from torch import Tensor
from torch.nn import functional as F

from detcore.ops import BoxMatches, match_boxes

BELOW = -1  # background
BETWEEN = -2  # neither: to be left out of the loss


class Matcher:
    """Faster R-CNN's rule (Ren et al., 2015), decision for decision torchvision's Matcher.

    A column takes its best row (the lowest index of equal ones) where the quality is at least
    `high`; below `low` it is background (-1), between the two neither (-2).

    Args:
        high, low: thresholds of the quality, low <= high.
        allow_low_quality: give every column that ties a row's best quality back its best row,
            whatever that quality is, so that no ground truth stays without an anchor. The row
            given back is the column's own best one, as in torchvision.

    __call__(quality): [M, N], ground truths by anchors, gives int64 [N]: a row, or -1, or -2.
    With M = 0 every column is background. Raises ValueError for a matrix of another rank or for
    low > high. Deterministic.

    of_boxes(gt, anchors): the same for the IoU of [M, 4] and [N, 4] (xyxy, pixels), or of rotated
    boxes [M, 5] and [N, 5] (cxcywhr), whose matrix is never held. A box with NaN is background, and
    no column's row.
    """

    def __init__(self, high: float, low: float, *, allow_low_quality: bool = False) -> None:
        if low > high:
            raise ValueError(f"Matcher: low must be at most high, got low={low}, high={high}")
        self.high = high
        self.low = low
        self.allow_low_quality = allow_low_quality

    def __call__(self, quality: Tensor) -> Tensor:
        if quality.dim() != 2:
            raise ValueError(f"Matcher: quality must be [M, N], got {list(quality.shape)}")
        rows, columns = quality.shape
        if rows == 0 or columns == 0:
            return torch.full((columns,), BELOW, dtype=torch.int64, device=quality.device)
        best, row = quality.max(dim=0)
        match = self._by_thresholds(best, row)
        if self.allow_low_quality:
            ties = (quality == quality.amax(dim=1, keepdim=True)).any(dim=0)
            match = torch.where(ties, row, match)
        return match

    def of_boxes(self, gt: Tensor, anchors: Tensor) -> Tensor:
        """The match [N] of each anchor [N, 4 or 5] with ground truths [M, 4 or 5]."""
        return self.of_matches(match_boxes(gt, anchors))

    def of_matches(self, found: BoxMatches) -> Tensor:
        """The match [N] of each anchor, from what `match_boxes` returned."""
        match = self._by_thresholds(found.iou_of_anchor, found.gt_of_anchor)
        if self.allow_low_quality:
            match = torch.where(found.is_best_for_some_gt, found.gt_of_anchor, match)
        return match

    def _by_thresholds(self, best: Tensor, row: Tensor) -> Tensor:
        match = torch.where(best < self.high, BETWEEN, row)
        return torch.where(best < self.low, BELOW, match)


class ArgmaxMatcher:
    """SSD's rule (Liu et al., 2016), decision for decision torchvision's SSDMatcher.

    As `Matcher` with one threshold; then each row takes its best column (the lowest index of equal
    ones), whatever the quality. Where two rows want one column, the later row has it.

    __call__(quality): [M, N] gives int64 [N]: a row, or -1. M = 0 and N = 0 are taken.
    of_boxes(gt, anchors): the same for the IoU of [M, 4] and [N, 4], as in `Matcher`.
    """

    def __init__(self, threshold: float) -> None:
        self._matcher = Matcher(threshold, threshold)

    def __call__(self, quality: Tensor) -> Tensor:
        match = self._matcher(quality)
        if quality.numel() == 0:
            return match
        return self._give_each_row(match, quality.argmax(dim=1))

    def of_boxes(self, gt: Tensor, anchors: Tensor) -> Tensor:
        """The match [N] of each anchor [N, 4] with ground truths [M, 4] (xyxy, pixels)."""
        found = match_boxes(gt, anchors)
        return self._give_each_row(self._matcher.of_matches(found), found.anchor_of_gt)

    @staticmethod
    def _give_each_row(match: Tensor, best_column: Tensor) -> Tensor:
        rows = torch.arange(len(best_column), device=match.device)
        # a row without a column (-1) writes behind the last one, which is dropped
        column = torch.where(best_column < 0, len(match), best_column)
        # amax, not an indexed write: of repeated columns that would keep an undefined one
        padded = F.pad(match, (0, 1))
        return padded.scatter_reduce(0, column, rows, "amax", include_self=False)[:-1]
