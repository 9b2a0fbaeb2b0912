"""IoU, GIoU, DIoU and CIoU of boxes taken pair by pair: for losses."""

from typing import Any

import torch
from torch import Tensor

from detcore import reference

from ._derivatives import batched_by_leading_dims, differentiable, differentiable_again
from ._dtypes import one_dtype, result_dtype
from ._fake import grad_beside, one_device
from ._rotated import centred, is_rotated
from ._route import bind, numpy_too
from .boxes import box_convert

_paired_box_iou = bind("paired_box_iou")
_paired_box_iou_backward = bind("paired_box_iou_backward")


@numpy_too
def paired_box_iou(
    boxes1: Tensor, boxes2: Tensor, kind: str = "iou", eps: float = 1e-7, fmt: str = "xyxy"
) -> Tensor:
    """IoU (or GIoU, DIoU, CIoU) of boxes taken pair by pair: the diagonal of the pairwise matrix.

    Args:
        boxes1: [..., K] in the format `fmt`, pixels, any real dtype; K is 4, or 5 or 8 for rotated
            boxes.
        boxes2: [..., K], the same shape as boxes1.
        kind: "iou", "giou" (Rezatofighi et al., CVPR 2019), "diou" or "ciou" (Zheng et al., AAAI
            2020; the weight of CIoU's aspect term is a constant in the gradient). Rotated boxes
            have "iou" and "giou", whose hull is the convex hull of all eight corners. That is
            smaller than the upright box around both that upright boxes have.
        eps: added to areas and lengths, so that empty boxes give 0 instead of NaN. With 0 the
            values are those of the pairwise functions.
        fmt: a format of `box_convert`: "xyxy", "xywh" or "cxcywh" of upright boxes, "cxcywhr",
            "xywhr" or "xyxyxyxy" of rotated ones.

    Returns:
        [...], float64 for float64 boxes, otherwise float32. Differentiable in both inputs.

    Raises:
        ValueError: for different shapes, an unknown kind or format, a wrong dtype or device.

    Edge cases:
        NaN coordinates give NaN. CIoU of a box without width and height is NaN for any eps: its
        aspect ratio is 0 / 0. A side of a rotated box that is not positive counts as 0 and has no
        gradient.

    Cost:
        One pass forward and one backward, without temporaries. Deterministic.

    Equivalents:
        mmcv.ops.bbox_overlaps(boxes1, boxes2, aligned=True) for "iou". torchvision computes the
        same inside its losses. Of rotated boxes mmcv.ops.diff_iou_rotated_2d, which takes radians.

    Example:
        >>> import torch
        >>> from detcore.ops import paired_box_iou
        >>> a = torch.tensor([[0., 0, 10, 10], [0, 0, 10, 10]])
        >>> b = torch.tensor([[0., 0, 10, 10], [5, 0, 15, 10]])
        >>> paired_box_iou(a, b)
        tensor([1.0000, 0.3333])

    See Also:
        `generalized_box_iou_loss`, `distance_box_iou_loss`, `complete_box_iou_loss`;
        `probiou_loss` and `kfiou_loss` of rotated boxes.
    """
    narrow = False
    if boxes1.dtype != boxes2.dtype or not boxes1.is_floating_point():
        boxes1, boxes2, result = one_dtype("paired_box_iou", boxes1, boxes2)
        narrow = result != boxes1.dtype  # integers in between
    if is_rotated(fmt):
        boxes1 = centred("paired_box_iou", boxes1, fmt)
        boxes2 = centred("paired_box_iou", boxes2, fmt)
        fmt = "cxcywhr"
    elif fmt == "xywh" or fmt == "cxcywh":
        # corners of half-precision boxes don't fit half precision
        boxes1 = box_convert(boxes1.to(result_dtype(boxes1.dtype)), fmt, "xyxy")
        boxes2 = box_convert(boxes2.to(result_dtype(boxes2.dtype)), fmt, "xyxy")
        fmt = "xyxy"
    iou: Tensor = _paired_box_iou(boxes1, boxes2, fmt, kind, eps)
    return iou.float() if narrow else iou


@torch.library.register_fake("detcore::paired_box_iou")
def _(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float) -> Tensor:
    one_device("paired_box_iou", boxes1=boxes1, boxes2=boxes2)
    return boxes1.new_empty(boxes1.shape[:-1], dtype=result_dtype(boxes1.dtype))


@torch.library.register_fake("detcore::paired_box_iou_backward")
def _(
    grad: Tensor, boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float
) -> tuple[Tensor, Tensor]:
    one_device("paired_box_iou_backward", boxes1=boxes1, boxes2=boxes2)
    grad_beside("paired_box_iou", grad, boxes1)
    return (
        torch.empty_like(boxes1, memory_format=torch.contiguous_format),
        torch.empty_like(boxes2, memory_format=torch.contiguous_format),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes1, boxes2, ctx.fmt, ctx.kind, ctx.eps = inputs
    ctx.save_for_backward(boxes1, boxes2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    boxes1, boxes2 = ctx.saved_tensors
    grads = _paired_box_iou_backward(grad, boxes1, boxes2, ctx.fmt, ctx.kind, ctx.eps)
    return (*grads, None, None, None)


def _formula(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float) -> Tensor:
    return reference.paired_box_iou(boxes1, boxes2, kind, eps, fmt)


differentiable("paired_box_iou", _setup, _backward, _formula)
differentiable_again("paired_box_iou", _formula, tensors=2)
batched_by_leading_dims("paired_box_iou", tensors=2)
batched_by_leading_dims("paired_box_iou_backward", tensors=3)
