"""Greedy non-maximum suppression of boxes in space: nms_3d, nms_bev and their batched forms."""

from torch import Tensor

from ._route import bind, numpy_too
from .nms import class_ids, gives_indices

_nms_3d = bind("nms_3d")
_batched_nms_3d = bind("batched_nms_3d")
_nms_bev = bind("nms_bev")
_batched_nms_bev = bind("batched_nms_bev")


@numpy_too
def nms_3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`nms` of boxes in space, by the exact IoU of `box3d_iou`.

    Args:
        boxes: [N, 7] x, y, z, dx, dy, dz, yaw, as in `box3d_iou`; a floating dtype.
        scores: [N], a floating dtype; higher is better.
        iou_threshold: a box is dropped if its IoU with a kept box is above this; at least 0.

    Returns:
        int64 [K]: the indices of the kept boxes, by descending score; equal scores by ascending
        index. It has no gradient: take `boxes[keep]` and `scores[keep]`, which have.

    Raises:
        ValueError: for a wrong shape, dtype or device, and for a threshold that is negative or NaN.

    Edge cases:
        Boxes with a number that is not finite and NaN scores are never kept and suppress nothing.
        Boxes without volume overlap nothing, so they are always kept.

    Cost:
        Time O(N) where boxes are spread out, memory O(N): a grid over the upright rectangles around
        the boxes, as seen from above, finds those that may meet. Deterministic on every device and
        number of threads. On CUDA one count is read back (one host-device sync).

    Equivalents:
        mmcv.ops.nms3d compares the IoU as seen from above, as `nms_bev` does. There is no other
        greedy suppression by the IoU in space in mmcv or OpenPCDet.

    Example:
        >>> import torch
        >>> from detcore.ops import nms_3d
        >>> car = [10.0, 5.0, 1.0, 4.0, 2.0, 2.0, 0.0]
        >>> turned, above = [*car[:6], 0.1], [10.0, 5.0, 4.0, 4.0, 2.0, 2.0, 0.0]
        >>> boxes = torch.tensor([car, turned, above])
        >>> nms_3d(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
        tensor([0, 2])

    See Also:
        `batched_nms_3d`: within each class. `nms_bev`: by the IoU as seen from above.
    """
    kept: Tensor = _nms_3d(boxes, scores, iou_threshold)
    return kept


@numpy_too
def batched_nms_3d(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms_3d` within each class: only boxes of equal `idxs` suppress each other.

    Args:
        boxes: [N, 7], as in `nms_3d`.
        scores: [N], a floating dtype; higher is better.
        idxs: [N] class ids of any integer or floating dtype, compared as they are.
        iou_threshold: as in `nms_3d`.

    Returns:
        int64 [K]: the indices kept, by descending score over all classes; ties by ascending index.

    Raises:
        ValueError: as in `nms_3d`.
        TypeError: if idxs is not a tensor.

    Edge cases:
        As in `nms_3d`. A NaN id equals another NaN id.

    Cost:
        As `nms_3d`, in one call for all classes. Deterministic.

    Equivalents:
        A loop over the classes.

    Example:
        >>> import torch
        >>> from detcore.ops import batched_nms_3d
        >>> boxes = torch.tensor([[10., 5, 1, 4, 2, 2, 0], [10, 5, 1, 4, 2, 2, 0.1]])
        >>> batched_nms_3d(boxes, torch.tensor([0.9, 0.8]), torch.tensor([3, 7]), 0.5)
        tensor([0, 1])

    See Also:
        `nms_3d`, `batched_nms_bev`.
    """
    ids = class_ids("batched_nms_3d", idxs)
    kept: Tensor = _batched_nms_3d(boxes, scores, ids, iou_threshold)
    return kept


@numpy_too
def nms_bev(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """`nms` of boxes in space as seen from above (bird's eye view), by the exact IoU of `bev_iou`.

    Args:
        boxes: [N, 7] x, y, z, dx, dy, dz, yaw, as in `box3d_iou`; a floating dtype. z and dz are
            not looked at, but must be finite.
        scores: [N], a floating dtype; higher is better.
        iou_threshold: a box is dropped if its IoU with a kept box is above this; at least 0.

    Returns:
        int64 [K]: the indices of the kept boxes, by descending score; equal scores by ascending
        index. It has no gradient.

    Raises:
        ValueError: for a wrong shape, dtype or device, and for a threshold that is negative or NaN.

    Edge cases:
        As in `nms_3d`; boxes whose dx or dy is not positive overlap nothing.

    Cost:
        As `nms_3d`.

    Equivalents:
        OpenPCDet's iou3d_nms_utils.nms_gpu and mmcv.ops.nms3d, the same boxes on CUDA.
        mmcv.ops.nms_bev takes corners and an angle, [N, 5]. Their IoU is wrong for some boxes.

    Example:
        >>> import torch
        >>> from detcore.ops import nms_bev
        >>> car = [10.0, 5.0, 1.0, 4.0, 2.0, 2.0, 0.0]
        >>> across, above = [*car[:6], 1.5], [10.0, 5.0, 4.0, 4.0, 2.0, 2.0, 0.0]
        >>> boxes = torch.tensor([car, above, across])
        >>> nms_bev(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
        tensor([0, 2])

    See Also:
        `batched_nms_bev`: within each class. `nms_3d`: by the IoU in space.
    """
    kept: Tensor = _nms_bev(boxes, scores, iou_threshold)
    return kept


@numpy_too
def batched_nms_bev(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms_bev` within each class: only boxes of equal `idxs` suppress each other.

    Args:
        boxes: [N, 7], as in `nms_bev`.
        scores: [N], a floating dtype; higher is better.
        idxs: [N] class ids of any integer or floating dtype, compared as they are.
        iou_threshold: as in `nms_bev`.

    Returns:
        int64 [K]: the indices kept, by descending score over all classes; ties by ascending index.

    Raises:
        ValueError: as in `nms_bev`.
        TypeError: if idxs is not a tensor.

    Edge cases:
        As in `nms_bev`. A NaN id equals another NaN id.

    Cost:
        As `nms_bev`, in one call for all classes. Deterministic.

    Equivalents:
        OpenPCDet's model_nms_utils.multi_classes_nms, which loops over the classes.

    Example:
        >>> import torch
        >>> from detcore.ops import batched_nms_bev
        >>> boxes = torch.tensor([[10., 5, 1, 4, 2, 2, 0], [10, 5, 1, 4, 2, 2, 0.1]])
        >>> batched_nms_bev(boxes, torch.tensor([0.9, 0.8]), torch.tensor([3, 7]), 0.5)
        tensor([0, 1])

    See Also:
        `nms_bev`, `batched_nms_3d`.
    """
    ids = class_ids("batched_nms_bev", idxs)
    kept: Tensor = _batched_nms_bev(boxes, scores, ids, iou_threshold)
    return kept


gives_indices("nms_3d")
gives_indices("nms_bev")
