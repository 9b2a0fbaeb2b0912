"""Greedy non-maximum suppression, exact and in stable order."""

import torch
from torch import Tensor

from ._derivatives import not_differentiable
from ._fake import one_device
from ._route import bind, numpy_too
from ._torchscript import is_exporting

_nms = bind("nms")
_batched_nms = bind("batched_nms")


@numpy_too
def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Keep the best boxes and drop those that overlap a kept one too much.

    Boxes are visited by descending score. A box is kept unless its IoU with an already kept box is
    above the threshold.

    Args:
        boxes: [N, 4] xyxy, pixels, a floating dtype.
        scores: [N], a floating dtype; higher is better.
        iou_threshold: a box is dropped if its IoU with a kept box is above this; at least 0.

    Returns:
        int64 [K]: the indices of the kept boxes, by descending score; equal scores by ascending
        index. It has no gradient: take `boxes[keep]` and `scores[keep]`, which have.

    Raises:
        ValueError: for a wrong shape, dtype or device, and for a threshold that is negative or NaN.

    Edge cases:
        Boxes and scores with NaN are never kept and suppress nothing. Boxes without positive width
        and height overlap nothing, so they are always kept. No boxes give an empty result.

    Cost:
        Time O(N) where boxes are spread out, memory O(N): a grid compares each box with its
        neighbours alone. The worst case, all boxes on top of each other, costs O(N * K).
        Deterministic on every device and number of threads. On CUDA one count is read back (one
        host-device sync).

    Equivalents:
        torchvision.ops.nms, bit for bit: the float32 quotient is compared with the threshold as a
        double. Differences: NaN is never kept, negative thresholds are refused, and the CPU also
        takes half precision. detectron2.layers.nms is torchvision's. mmcv.ops.nms returns (boxes
        with scores [K, 5], indices); ours returns the indices.

    Example:
        >>> import torch
        >>> from detcore.ops import nms
        >>> boxes = torch.tensor([[0., 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]])
        >>> scores = torch.tensor([0.9, 0.8, 0.7])
        >>> nms(boxes, scores, 0.5)
        tensor([0, 2])

    See Also:
        `batched_nms`: within each class. `multiclass_nms`: with thresholds and top-k, for a whole
        batch. `soft_nms`: lowers scores instead of dropping boxes.
    """
    kept: Tensor = _nms(boxes, scores, iou_threshold)
    return kept


@numpy_too
def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each class (or image, or level): only boxes of equal `idxs` suppress each other.

    Args:
        boxes: [N, 4] xyxy, pixels, a floating dtype.
        scores: [N], a floating dtype; higher is better.
        idxs: [N] class ids of any integer or floating dtype. Ids are compared as they are and never
            added to coordinates, so no id is too large and no box too far from the origin.
        iou_threshold: as in `nms`.

    Returns:
        int64 [K]: the indices kept, by descending score over all classes; ties by ascending index.

    Raises:
        ValueError: as in `nms`.
        TypeError: if idxs is not a tensor.

    Edge cases:
        As in `nms`. A NaN id equals another NaN id. Where boxes is empty idxs may be None, as in
        torchvision.

    Cost:
        As `nms`, in one call for all classes. Deterministic. On CUDA one host-device sync.

    Equivalents:
        torchvision.ops.batched_nms, which for up to 1,000 boxes on the CPU adds an offset per class
        to the coordinates, and so rounds them; ours equals its per-class loop.
        detectron2.layers.batched_nms also converts boxes to float32 first. mmcv.ops.batched_nms
        takes a dict, nms_cfg, and returns (boxes with scores, indices).

    Example:
        >>> import torch
        >>> from detcore.ops import batched_nms
        >>> boxes = torch.tensor([[0., 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 10]])
        >>> scores = torch.tensor([0.9, 0.8, 0.7])
        >>> classes = torch.tensor([3, 3, 5])
        >>> batched_nms(boxes, scores, classes, 0.5)
        tensor([0, 2])

    See Also:
        `nms`, `multiclass_nms`.
    """
    if idxs is None and boxes.numel() == 0:  # torchvision looks at nothing else then
        return torch.empty(0, dtype=torch.int64, device=boxes.device)
    idxs = class_ids("batched_nms", idxs)
    kept: Tensor = _batched_nms(boxes, scores, idxs, iou_threshold)
    return kept


def class_ids(op: str, idxs: Tensor) -> Tensor:
    """Class ids of any dtype as int64, equal where they are equal."""
    if not isinstance(idxs, Tensor):
        raise TypeError(f"{op}: idxs must be a tensor, got {type(idxs).__name__}")
    if idxs.dtype == torch.int64:
        return idxs
    if not idxs.is_floating_point():
        return idxs.long()
    if torch.jit.is_scripting() or is_exporting():  # they can't view bits
        places = torch.unique(idxs, return_inverse=True)[1]
        return places.masked_fill(idxs.isnan(), -1)
    # equal floats are equal bits, once both zeros are one
    return (idxs.double() + 0.0).view(torch.int64)


def gives_indices(op: str) -> None:
    """Register what `op` and `batched_<op>` give: indices, as many as the values decide."""

    def kept(op: str, boxes: Tensor, **others: Tensor) -> Tensor:
        one_device(op, boxes=boxes, **others)
        count = torch.library.get_ctx().new_dynamic_size()
        return boxes.new_empty((count,), dtype=torch.int64)

    def alone(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        return kept(op, boxes, scores=scores)

    def batched(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
        return kept(f"batched_{op}", boxes, scores=scores, idxs=idxs)

    torch.library.register_fake(f"detcore::{op}", alone)
    torch.library.register_fake(f"detcore::batched_{op}", batched)
    for name in (op, f"batched_{op}"):
        words = "take boxes and scores by the indices that it gives: boxes[keep]"
        not_differentiable(name, words, indices=True)


gives_indices("nms")
