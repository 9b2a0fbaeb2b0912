"""Greedy non-maximum suppression, exact and in stable order."""

import torch
from torch import Tensor

from ._fake import one_device
from ._route import bind, not_differentiable, numpy_too

_nms = bind("nms")
_batched_nms = bind("batched_nms")


@numpy_too
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keeps boxes by descending score, dropping those that overlap a kept one too much.

    Args:
        boxes: [N, 4] xyxy, pixels, a floating dtype.
        scores: [N], a floating dtype.
        iou_threshold: a box is dropped where its IoU with a kept box is above it; at least 0.

    Returns:
        int64 [K]: indices of the boxes kept, by descending score, equal scores by ascending index.
        The decision is torchvision's to the bit (the float32 quotient against the threshold as a
        double; float64 boxes in float64). Boxes and scores with NaN are never kept; boxes without
        positive width and height overlap nothing.

    Raises:
        ValueError: for a wrong shape, dtype, device, or a threshold below 0 or NaN.

    Deterministic, on any number of threads. On CUDA one count is read back; nothing else syncs.
    """
    return _nms(boxes, scores, iou_threshold)


@numpy_too
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each class (or image, or level): only boxes of equal `idxs` drop each other.

    Args:
        boxes: [N, 4] xyxy, pixels, a floating dtype.
        scores: [N], a floating dtype.
        idxs: [N] class ids of any integer or floating dtype; compared as they are (a NaN equals
            itself), never added to coordinates, so that no id is too large and no box too far from
            the origin.
        iou_threshold: as in `nms`.

    Returns:
        int64 [K]: indices kept, by descending score over all classes, ties by ascending index.

    Raises:
        ValueError: as in `nms`.

    Deterministic.
    """
    if not isinstance(idxs, Tensor):
        raise TypeError(f"batched_nms: idxs must be a tensor, got {type(idxs).__name__}")
    if idxs.dtype is not torch.int64:
        if idxs.dtype.is_floating_point:
            # equal floats are equal bits, once both zeros are one
            idxs = (idxs.double() + 0.0).view(torch.int64)
        else:
            idxs = idxs.long()
    return _batched_nms(boxes, scores, idxs, iou_threshold)


@torch.library.register_fake("detcore::nms")
def _(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    one_device("nms", boxes=boxes, scores=scores)
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((kept,), dtype=torch.int64)


@torch.library.register_fake("detcore::batched_nms")
def _(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    one_device("batched_nms", boxes=boxes, scores=scores, idxs=idxs)
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((kept,), dtype=torch.int64)


for _op in ("nms", "batched_nms"):
    not_differentiable(_op, "take boxes and scores by the indices that it gives: boxes[keep]")
