"""Pairwise IoU, GIoU, DIoU and CIoU of boxes: one pass, no temporaries."""

from typing import Any

import torch
from torch import Tensor

from detcore import reference

from ._derivatives import batched_by_leading_dims, differentiable, differentiable_again
from ._dtypes import one_dtype, result_dtype
from ._fake import grad_beside, one_device
from ._rotated import is_rotated
from ._route import bind, numpy_too
from ._torchscript import is_exporting
from .box_iou_rotated import box_iou_rotated
from .boxes import box_convert

_box_iou = bind("box_iou")
_box_iou_backward = bind("box_iou_backward")
_box_iou_out = bind("box_iou_out")


@numpy_too
def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy", out: Tensor | None = None) -> Tensor:
    """Intersection over union (IoU) of every box of one set with every box of another.

    Args:
        boxes1: [..., N, K] in the format `fmt`, pixels, any real dtype; K is 4, or 5 or 8 for
            rotated boxes.
        boxes2: [..., M, K], with the same leading dimensions.
        fmt: of upright boxes "xyxy" (corners), "xywh" (corner and size) or "cxcywh" (centre and
            size); of rotated boxes "cxcywhr", "xywhr" or "xyxyxyxy", as in `box_convert`.
        out: a contiguous [..., N, M] tensor of the result's dtype to write into.

    Returns:
        [..., N, M], values in 0..1; float64 for float64 boxes, otherwise float32. Differentiable
        in both inputs; with `out`, gradients are refused.

    Raises:
        ValueError: for a wrong shape, format, dtype or device.

    Edge cases:
        Two boxes of zero area give NaN (0 / 0), as do NaN coordinates. Half precision is computed
        in float32. Rotated boxes without area give 0, and numbers that are not finite NaN. IoU of
        rotated boxes is the same to the last bit for (a, b) and (b, a).

    Cost:
        N * M quotients in one pass, without temporaries. Writing the result takes most of the time:
        the first write to fresh memory is a page fault per page. With `out=` the memory is already
        mapped. Deterministic, forward and backward. Rotated boxes cost about a hundred operations
        per pair whose circles meet, and one comparison per other pair.

    Equivalents:
        torchvision.ops.box_iou, which has no leading dimensions and no out=, and whose IoU of
        rotated boxes has no gradient and is wrong for thin ones.
        mmcv.ops.bbox_overlaps(boxes1, boxes2). detectron2.structures.pairwise_iou takes Boxes: pass
        their .tensor.

    Example:
        >>> import torch
        >>> from detcore.ops import box_iou
        >>> a = torch.tensor([[0., 0, 10, 10], [0, 0, 4, 4]])
        >>> b = torch.tensor([[0., 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
        >>> box_iou(a, b)
        tensor([[1.0000, 0.3333, 0.0000],
                [0.1600, 0.0000, 0.0000]])

    See Also:
        `paired_box_iou` for losses. `match_boxes` if only the best of each row and column is
        needed: it never holds the matrix.
    """
    return _pairwise(boxes1, boxes2, fmt, "iou", 0.0, out)


@numpy_too
def generalized_box_iou(boxes1: Tensor, boxes2: Tensor, out: Tensor | None = None) -> Tensor:
    """Generalized IoU (Rezatofighi et al., CVPR 2019) of every pair: [N, 4] and [M, 4] give [N, M].

    GIoU = IoU - (area of the hull covered by neither box) / (area of the hull), in -1..1. The hull
    is the smallest box around both.

    Args:
        boxes1: [..., N, 4] xyxy, pixels, any real dtype.
        boxes2: [..., M, 4], with the same leading dimensions.
        out: a contiguous [..., N, M] tensor of the result's dtype to write into.

    Returns:
        [..., N, M], float64 for float64 boxes, otherwise float32. Differentiable in both
        inputs; with `out`, gradients are refused.

    Raises:
        ValueError: for a wrong shape, dtype or device.

    Edge cases:
        Two boxes of zero area give NaN, as do NaN coordinates.

    Cost:
        As `box_iou`.

    Equivalents:
        torchvision.ops.generalized_box_iou.

    Example:
        >>> import torch
        >>> from detcore.ops import generalized_box_iou
        >>> a = torch.tensor([[0., 0, 10, 10]])
        >>> b = torch.tensor([[0., 0, 10, 10], [20, 0, 30, 10]])
        >>> generalized_box_iou(a, b)
        tensor([[ 1.0000, -0.3333]])

    See Also:
        `generalized_box_iou_loss`, `box_iou`.
    """
    return _pairwise(boxes1, boxes2, "xyxy", "giou", 0.0, out)


@numpy_too
def distance_box_iou(
    boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7, out: Tensor | None = None
) -> Tensor:
    """Distance IoU (Zheng et al., AAAI 2020) of every pair: [N, 4] and [M, 4] give [N, M].

    DIoU = IoU - (distance of the centres)^2 / (diagonal of the hull)^2. The hull is the smallest
    box around both.

    Args:
        boxes1: [..., N, 4] xyxy, pixels, any real dtype.
        boxes2: [..., M, 4], with the same leading dimensions.
        eps: added to the squared diagonal of the hull, so that it is never 0.
        out: a contiguous [..., N, M] tensor of the result's dtype to write into.

    Returns:
        [..., N, M], float64 for float64 boxes, otherwise float32. Differentiable in both
        inputs; with `out`, gradients are refused.

    Raises:
        ValueError: for a wrong shape, dtype or device.

    Edge cases:
        Two boxes of zero area give NaN, as do NaN coordinates.

    Cost:
        As `box_iou`.

    Equivalents:
        torchvision.ops.distance_box_iou.

    Example:
        >>> import torch
        >>> from detcore.ops import distance_box_iou
        >>> a = torch.tensor([[0., 0, 10, 10]])
        >>> b = torch.tensor([[0., 0, 10, 10], [20, 0, 30, 10]])
        >>> distance_box_iou(a, b)
        tensor([[ 1.0000, -0.4000]])

    See Also:
        `distance_box_iou_loss`, `box_iou`.
    """
    return _pairwise(boxes1, boxes2, "xyxy", "diou", eps, out)


@numpy_too
def complete_box_iou(
    boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7, out: Tensor | None = None
) -> Tensor:
    """Complete IoU (Zheng et al., AAAI 2020) of every pair: [N, 4] and [M, 4] give [N, M].

    CIoU = DIoU - a * v, where v measures how much the aspect ratios differ and a weighs it. In the
    gradient a is a constant, as in the paper's code.

    Args:
        boxes1: [..., N, 4] xyxy, pixels, any real dtype.
        boxes2: [..., M, 4], with the same leading dimensions.
        eps: added to the squared diagonal of the hull, so that it is never 0.
        out: a contiguous [..., N, M] tensor of the result's dtype to write into.

    Returns:
        [..., N, M], float64 for float64 boxes, otherwise float32. Differentiable in both
        inputs; with `out`, gradients are refused.

    Raises:
        ValueError: for a wrong shape, dtype or device.

    Edge cases:
        A box without width and height gives NaN (its aspect ratio is 0 / 0), as do NaN coordinates.

    Cost:
        As `box_iou`.

    Equivalents:
        torchvision.ops.complete_box_iou.

    Example:
        >>> import torch
        >>> from detcore.ops import complete_box_iou
        >>> a = torch.tensor([[0., 0, 10, 10]])
        >>> b = torch.tensor([[0., 0, 10, 10], [0, 0, 10, 5]])
        >>> complete_box_iou(a, b)
        tensor([[1.0000, 0.4655]])

    See Also:
        `complete_box_iou_loss`, `distance_box_iou`.
    """
    return _pairwise(boxes1, boxes2, "xyxy", "ciou", eps, out)


_NAMES = {
    "iou": "box_iou",
    "giou": "generalized_box_iou",
    "diou": "distance_box_iou",
    "ciou": "complete_box_iou",
}


def _name(kind: str) -> str:
    return kind if torch.jit.is_scripting() else _NAMES[kind]


def _pairwise(
    boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float, out: Tensor | None
) -> Tensor:
    narrow = False
    if boxes1.dtype != boxes2.dtype or not boxes1.is_floating_point():
        boxes1, boxes2, result = one_dtype(_name(kind), boxes1, boxes2)
        narrow = result != boxes1.dtype  # integers in between
    if is_exporting():
        out = None  # the graph of an export writes into no tensor
    if out is not None:
        needs_grad = boxes1.requires_grad or boxes2.requires_grad or out.requires_grad
        if needs_grad and torch.is_grad_enabled():
            raise ValueError(f"{_name(kind)}: out must not be given where gradients are needed")
        if narrow:
            return out.copy_(_all_pairs(boxes1, boxes2, fmt, kind, eps))
        if is_rotated(fmt):
            box_iou_rotated(boxes1, boxes2, fmt, out)
        else:
            _box_iou_out(boxes1, boxes2, fmt, kind, eps, out)
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            # autograd must see that what it may have saved was overwritten
            torch.autograd.graph.increment_version(out)
        return out
    iou = _all_pairs(boxes1, boxes2, fmt, kind, eps)
    return iou.float() if narrow else iou


def _all_pairs(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float) -> Tensor:
    if is_rotated(fmt):
        return box_iou_rotated(boxes1, boxes2, fmt, None)
    iou: Tensor = _box_iou(boxes1, boxes2, fmt, kind, eps)
    return iou


@torch.library.register_fake("detcore::box_iou")
def _(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float) -> Tensor:
    one_device(_NAMES[kind], boxes1=boxes1, boxes2=boxes2)
    shape = (*boxes1.shape[:-1], boxes2.shape[-2])
    return boxes1.new_empty(shape, dtype=result_dtype(boxes1.dtype))


@torch.library.register_fake("detcore::box_iou_out")
def _(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float, out: Tensor) -> None:
    one_device(_NAMES[kind], boxes1=boxes1, boxes2=boxes2, out=out)


@torch.library.register_fake("detcore::box_iou_backward")
def _(grad: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> tuple[Tensor, Tensor]:
    one_device(_NAMES[kind], boxes1=boxes1, boxes2=boxes2)
    grad_beside(_NAMES[kind], grad, boxes1)
    return (
        torch.empty_like(boxes1, memory_format=torch.contiguous_format),
        torch.empty_like(boxes2, memory_format=torch.contiguous_format),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes1, boxes2, ctx.fmt, ctx.kind, ctx.eps = inputs
    ctx.save_for_backward(boxes1, boxes2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    boxes = ctx.saved_tensors
    if ctx.fmt != "xyxy":
        # corners of half-precision boxes don't fit half precision
        boxes = [box_convert(b.to(result_dtype(b.dtype)), ctx.fmt, "xyxy") for b in boxes]
    grads = _box_iou_backward(grad, *boxes, ctx.kind, ctx.eps)
    if ctx.fmt != "xyxy":
        grads = [
            _from_corners(g, ctx.fmt).to(b.dtype)
            for g, b in zip(grads, ctx.saved_tensors, strict=True)
        ]
    return (*grads, None, None, None)


def _from_corners(grad: Tensor, fmt: str) -> Tensor:
    """The gradient of boxes in `fmt`, given that of their corners: formats are linear maps."""
    low, high = grad[..., :2], grad[..., 2:]
    size = high if fmt == "xywh" else (high - low) / 2
    return torch.cat((low + high, size), dim=-1)


def _of_corners(boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> Tensor:
    return reference.box_iou(boxes1, boxes2, "xyxy", kind, eps)


differentiable("box_iou", _setup, _backward, reference.box_iou)
differentiable_again("box_iou", _of_corners, tensors=2)
batched_by_leading_dims("box_iou", tensors=2)
batched_by_leading_dims("box_iou_backward", tensors=3)
