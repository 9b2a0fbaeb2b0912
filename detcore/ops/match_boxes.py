"""Matching of anchors and ground truths by IoU, both ways, without holding the matrix."""

from typing import NamedTuple

import torch
from torch import Tensor

from ._dtypes import one_dtype, result_dtype
from ._fake import one_device
from ._route import bind, not_differentiable, numpy_too

_match_boxes = bind("match_boxes")


class BoxMatches(NamedTuple):
    """What `match_boxes` gives."""

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
    """The best ground truth of every anchor, and the best anchor of every ground truth, by IoU.

    Args:
        gt: [M, 4] xyxy, pixels, any real dtype: ground truths, of several images one after the
            other.
        anchors: [N, 4] likewise. One set for all images, unless anchor_offsets is given.
        gt_offsets: int64 [B + 1], ascending from 0 to M: image b has the ground truths from
            gt_offsets[b] to gt_offsets[b + 1]. None: one image.
        anchor_offsets: int64 [B + 1] likewise, from 0 to N: each image has anchors of its own.

    Returns:
        A named tuple. What is said of each anchor is [N]; with gt_offsets alone, where every image
        has all anchors, it is [B, N]. Indices count within the image.

        gt_of_anchor: int64, the ground truth of the highest IoU, the lowest index of equal ones.
        iou_of_anchor: that IoU.
        anchor_of_gt: int64 [M], the anchor of the highest IoU, the lowest index of equal ones.
        iou_of_gt: [M], that IoU.
        is_best_for_some_gt: bool, whether the anchor ties the best IoU of any ground truth: the
            anchors that torchvision's Matcher restores with allow_low_quality_matches.

        IoUs are `box_iou`'s to the bit, float64 for float64 boxes, otherwise float32; where that
        is NaN (two boxes without area, infinite ones) it counts as 0. As in `torch.max`, what
        overlaps nothing has index 0, and a ground truth whose best IoU is 0 is tied by all
        anchors. A box with a NaN coordinate takes no part: nothing is matched with it, its index
        is -1, its IoU 0, its flag False; so it is for boxes that face none at all (M or N is 0).
        Nothing has a gradient: backward through an IoU raises RuntimeError.

    Raises:
        ValueError: for a wrong shape, dtype or device; on the CPU also for offsets that don't
            ascend from 0 to the number of boxes. On CUDA, where reading them would wait for the
            device, they are cut to that range, and boxes left to no image are as if with NaN.

    Deterministic, on any number of threads. Memory O(M + N), with gt_offsets alone O(M + B N).
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
