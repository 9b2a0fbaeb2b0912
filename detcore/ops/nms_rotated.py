"""Greedy non-maximum suppression of rotated boxes."""

from torch import Tensor

from ._route import bind, numpy_too
from .nms import class_ids, gives_indices

_nms_rotated = bind("nms_rotated")
_batched_nms_rotated = bind("batched_nms_rotated")


@numpy_too
def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`nms` of rotated boxes, by the exact IoU of `box_iou(..., fmt="cxcywhr")`.

    Args:
        boxes: [N, 5] cxcywhr: centre, width and height in pixels, angle in degrees, as in
            `box_convert`; a floating dtype.
        scores: [N], a floating dtype; higher is better.
        iou_threshold: a box is dropped if its IoU with a kept box is above this; at least 0.

    Returns:
        int64 [K]: the indices of the kept boxes, by descending score; equal scores by ascending
        index. It has no gradient: take `boxes[keep]` and `scores[keep]`, which have.

    Raises:
        ValueError: for a wrong shape, dtype or device, and for a threshold that is negative or NaN.

    Edge cases:
        Boxes with a number that is not finite and NaN scores are never kept and suppress nothing.
        Boxes without area overlap nothing, so they are always kept.

    Cost:
        Time O(N) where boxes are spread out, memory O(N): a grid over the upright boxes around them
        finds those that meet. Deterministic on every device and number of threads. On CUDA one
        count is read back (one host-device sync).

    Equivalents:
        detectron2.layers.nms_rotated. mmcv.ops.nms_rotated takes radians and returns (boxes with
        scores, indices). Both compare with an IoU that is wrong for some boxes.

    Example:
        >>> import torch
        >>> from detcore.ops import nms_rotated
        >>> boxes = torch.tensor([[50., 50, 60, 10, 0], [50, 50, 60, 10, 5], [50, 50, 60, 10, 90]])
        >>> scores = torch.tensor([0.9, 0.8, 0.7])
        >>> nms_rotated(boxes, scores, 0.5)
        tensor([0, 2])

    See Also:
        `batched_nms_rotated`: within each class. `nms`: of upright boxes.
    """
    kept: Tensor = _nms_rotated(boxes, scores, iou_threshold)
    return kept


@numpy_too
def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor:
    """`nms_rotated` within each class: only boxes of equal `idxs` suppress each other.

    Args:
        boxes: [N, 5] cxcywhr, as in `nms_rotated`.
        scores: [N], a floating dtype; higher is better.
        idxs: [N] class ids of any integer or floating dtype, compared as they are.
        iou_threshold: as in `nms_rotated`.

    Returns:
        int64 [K]: the indices kept, by descending score over all classes; ties by ascending index.

    Raises:
        ValueError: as in `nms_rotated`.
        TypeError: if idxs is not a tensor.

    Edge cases:
        As in `nms_rotated`. A NaN id equals another NaN id.

    Cost:
        As `nms_rotated`, in one call for all classes. Deterministic.

    Equivalents:
        detectron2.layers.batched_nms_rotated, which adds an offset per class to the coordinates.

    Example:
        >>> import torch
        >>> from detcore.ops import batched_nms_rotated
        >>> boxes = torch.tensor([[50., 50, 60, 10, 0], [50, 50, 60, 10, 5]])
        >>> scores = torch.tensor([0.9, 0.8])
        >>> batched_nms_rotated(boxes, scores, torch.tensor([3, 7]), 0.5)
        tensor([0, 1])

    See Also:
        `nms_rotated`, `batched_nms`.
    """
    ids = class_ids("batched_nms_rotated", idxs)
    kept: Tensor = _batched_nms_rotated(boxes, scores, ids, iou_threshold)
    return kept


gives_indices("nms_rotated")
