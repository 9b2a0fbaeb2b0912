"""Match anchors with ground truths by IoU, both ways, without holding the matrix."""

from typing import NamedTuple

import torch
from torch import Tensor

from ._derivatives import not_differentiable
from ._dtypes import one_dtype, result_dtype
from ._fake import one_device
from ._route import bind, numpy_too

_match_boxes = bind("match_boxes")


class BoxMatches(NamedTuple):
    """The result of `match_boxes`: a named tuple of five tensors.

    Attributes:
        gt_of_anchor: int64 [N] or [B, N], the ground truth with the highest IoU; -1 if there is
            none.
        iou_of_anchor: [N] or [B, N], that IoU.
        anchor_of_gt: int64 [M], the anchor with the highest IoU; -1 if there is none.
        iou_of_gt: [M], that IoU.
        is_best_for_some_gt: bool [N] or [B, N], whether the anchor ties some ground truth's best
            IoU.
    """

    gt_of_anchor: Tensor
    iou_of_anchor: Tensor
    anchor_of_gt: Tensor
    iou_of_gt: Tensor
    is_best_for_some_gt: Tensor


@numpy_too
def match_boxes(
    gt: Tensor,
    anchors: Tensor,
    gt_offsets: Tensor | None = None,
    anchor_offsets: Tensor | None = None,
) -> BoxMatches:
    """The best ground truth for every anchor, and the best anchor for every ground truth, by IoU.

    Args:
        gt: [M, 4] xyxy, pixels, or rotated boxes [M, 5] cxcywhr (centre, width, height, angle in
            degrees), any real dtype: the ground truths of one image, or of several images one after
            the other.
        anchors: [N, 4] or [N, 5] likewise. One set for all images, unless anchor_offsets is given.
        gt_offsets: int64 [B + 1], ascending from 0 to M: image b has the ground truths from
            gt_offsets[b] to gt_offsets[b + 1]. None: one image.
        anchor_offsets: int64 [B + 1] likewise, from 0 to N: each image has its own anchors.

    Returns:
        `BoxMatches`, whose tensors are [N] per anchor and [M] per ground truth. With gt_offsets
        alone, where every image has all anchors, those per anchor are [B, N]. Indices count within
        the image. Of equal IoUs the lowest index wins. IoUs are those of `box_iou` bit for bit:
        float64 for float64 boxes, otherwise float32. Nothing has a gradient.

    Raises:
        ValueError: for a wrong shape, dtype or device; on the CPU also for offsets that do not
            ascend from 0 to the number of boxes. On CUDA, where reading them would need a
            host-device sync, they are clamped to that range, and boxes that no image owns count as
            NaN boxes.

    Edge cases:
        As in `torch.max`, an anchor that overlaps nothing has index 0 and IoU 0, and a ground truth
        whose best IoU is 0 is tied by all anchors. An IoU that is NaN counts as 0. A box with a NaN
        coordinate takes no part: index -1, IoU 0, flag False. The same holds if M or N is 0.

    Cost:
        Memory O(M + N), with gt_offsets alone O(M + B * N): the [M, N] matrix never exists.
        Deterministic; no host-device sync.

    Equivalents:
        box_iou and max over both sides. torchvision's and detectron2's Matcher take the matrix:
        is_best_for_some_gt marks the anchors that they restore with allow_low_quality_matches.

    Example:
        >>> import torch
        >>> from detcore.ops import match_boxes
        >>> gt = torch.tensor([[0., 0, 10, 10], [20, 20, 30, 30]])
        >>> anchors = torch.tensor([[0., 0, 10, 9], [21, 21, 31, 31], [50, 50, 60, 60]])
        >>> found = match_boxes(gt, anchors)
        >>> found.gt_of_anchor, found.iou_of_anchor
        (tensor([0, 1, 0]), tensor([0.9000, 0.6807, 0.0000]))
        >>> found.anchor_of_gt
        tensor([0, 1])

    See Also:
        `box_iou`, `encode_boxes`.
    """
    result = None
    if gt.dtype is not anchors.dtype or not gt.dtype.is_floating_point:
        gt, anchors, result = one_dtype("match_boxes", gt, anchors, ("gt", "anchors"))
    matches = BoxMatches(*_match_boxes(gt, anchors, gt_offsets, anchor_offsets))
    if result is None or matches.iou_of_gt.dtype is result:
        return matches
    return matches._replace(
        iou_of_anchor=matches.iou_of_anchor.to(result), iou_of_gt=matches.iou_of_gt.to(result)
    )


@torch.library.register_fake("detcore::match_boxes")
def _(
    gt: Tensor, anchors: Tensor, gt_offsets: Tensor | None, anchor_offsets: Tensor | None
) -> tuple[Tensor, ...]:
    one_device("match_boxes", gt=gt, anchors=anchors, gt_offsets=gt_offsets)
    one_device("match_boxes", anchors=anchors, anchor_offsets=anchor_offsets)
    shape: tuple[int, ...] = (anchors.shape[0],)
    if gt_offsets is not None and anchor_offsets is None:
        shape = (gt_offsets.shape[0] - 1, *shape)
    result = result_dtype(gt.dtype)
    return (
        gt.new_empty(shape, dtype=torch.int64),
        gt.new_empty(shape, dtype=result),
        gt.new_empty(gt.shape[:1], dtype=torch.int64),
        gt.new_empty(gt.shape[:1], dtype=result),
        gt.new_empty(shape, dtype=torch.bool),
    )


not_differentiable("match_boxes", "take the IoUs of matched pairs from paired_box_iou")
