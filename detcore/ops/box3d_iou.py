"""IoU of every pair of boxes in space: box3d_iou, and as seen from above: bev_iou."""

from typing import Any

import torch
from torch import Tensor

from detcore import reference

from ._derivatives import batched_by_leading_dims, differentiable, differentiable_again
from ._dtypes import one_dtype, result_dtype
from ._fake import grad_beside, one_device
from ._route import bind, numpy_too

_box3d_iou = bind("box3d_iou")
_box3d_iou_backward = bind("box3d_iou_backward")
_box3d_iou_out = bind("box3d_iou_out")


@numpy_too
def box3d_iou(boxes1: Tensor, boxes2: Tensor, out: Tensor | None = None) -> Tensor:
    """Intersection over union (IoU), in space, of every box of one set with every box of another.

    Args:
        boxes1: [..., N, 7] x, y, z, dx, dy, dz, yaw, any real dtype: the centre, the sides, and the
            angle in radians by which dx is turned away from the x axis, counter-clockwise as seen
            from above. z points up. `box3d_convert` makes them from other forms.
        boxes2: [..., M, 7], with the same leading dimensions.
        out: a contiguous [..., N, M] tensor of the result's dtype to write into.

    Returns:
        [..., N, M], values in 0..1: the volume that both boxes hold over the volume that either
        holds; float64 for float64 boxes, otherwise float32. Differentiable in both inputs, in all
        seven numbers; with `out`, gradients are refused.

    Raises:
        ValueError: for a wrong shape, dtype or device.

    Edge cases:
        Boxes with a side that is not positive give 0, numbers that are not finite NaN. The same to
        the last bit for (a, b) and (b, a); 1 for a box and itself. Half precision is computed in
        float32. The gradient of two boxes that end at the same plane counts half of it.

    Cost:
        N * M values in one pass, without temporaries: about a hundred operations per pair whose
        circles, as seen from above, and heights meet, and two comparisons per other pair.
        Deterministic, forward and backward.

    Equivalents:
        mmcv.ops.boxes_iou3d and OpenPCDet's iou3d_nms_utils.boxes_iou3d_gpu, the same boxes, on
        CUDA alone and without a gradient. mmdet3d's bbox_overlaps_3d with coordinate="lidar" takes
        the bottom's z: see `box3d_convert`. pytorch3d.ops.box3d_overlap takes eight corners.

    Example:
        >>> import torch
        >>> from detcore.ops import box3d_iou
        >>> car = torch.tensor([[10.0, 5.0, 0.8, 4.0, 2.0, 1.6, 0.0]])
        >>> moved = car + torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        >>> raised = car + torch.tensor([0.0, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0])
        >>> box3d_iou(car, torch.cat((car, moved, raised)))
        tensor([[1.0000, 0.3333, 0.3333]])

    See Also:
        `bev_iou`: as seen from above. `nms_3d`, which never holds the matrix. `box_iou` with
        fmt="cxcywhr": rotated boxes of images.
    """
    return _pairwise("box3d_iou", boxes1, boxes2, False, out)


@numpy_too
def bev_iou(boxes1: Tensor, boxes2: Tensor, out: Tensor | None = None) -> Tensor:
    """IoU as seen from above (bird's eye view) of every pair: [N, 7] and [M, 7] give [N, M].

    Args:
        boxes1: [..., N, 7] x, y, z, dx, dy, dz, yaw, any real dtype, as in `box3d_iou`. z and dz
            are not looked at, but must be finite.
        boxes2: [..., M, 7], with the same leading dimensions.
        out: a contiguous [..., N, M] tensor of the result's dtype to write into.

    Returns:
        [..., N, M], values in 0..1: the IoU of the rectangles x, y, dx, dy, yaw; float64 for
        float64 boxes, otherwise float32. Differentiable in both inputs; with `out`, gradients are
        refused.

    Raises:
        ValueError: for a wrong shape, dtype or device.

    Edge cases:
        Boxes whose dx or dy is not positive give 0, numbers that are not finite NaN. The same to
        the last bit for (a, b) and (b, a); 1 for a box and itself.

    Cost:
        As `box3d_iou`.

    Equivalents:
        OpenPCDet's iou3d_nms_utils.boxes_iou_bev and boxes_bev_iou_cpu, the same boxes, without a
        gradient.

    Example:
        >>> import torch
        >>> from detcore.ops import bev_iou
        >>> car = torch.tensor([[10.0, 5.0, 0.8, 4.0, 2.0, 1.6, 0.0]])
        >>> across = torch.tensor([[10.0, 5.0, 9.9, 4.0, 2.0, 1.6, torch.pi / 2]])
        >>> bev_iou(car, across)
        tensor([[0.3333]])

    See Also:
        `box3d_iou`: in space. `nms_bev`, which never holds the matrix.
    """
    return _pairwise("bev_iou", boxes1, boxes2, True, out)


def _pairwise(
    op: str, boxes1: Tensor, boxes2: Tensor, from_above: bool, out: Tensor | None
) -> Tensor:
    result = None
    if boxes1.dtype != boxes2.dtype or not boxes1.is_floating_point():
        boxes1, boxes2, result = one_dtype(op, boxes1, boxes2)
    if out is None:
        iou: Tensor = _box3d_iou(boxes1, boxes2, from_above)
        return iou if result is None else iou.to(result)
    needs_grad = boxes1.requires_grad or boxes2.requires_grad or out.requires_grad
    if needs_grad and torch.is_grad_enabled():
        raise ValueError(f"{op}: out must not be given where gradients are needed")
    if result is not None and result != boxes1.dtype:  # integers in between
        return out.copy_(_box3d_iou(boxes1, boxes2, from_above))
    _box3d_iou_out(boxes1, boxes2, from_above, out)
    if not torch.compiler.is_compiling():
        # autograd must see that what it may have saved was overwritten
        torch.autograd.graph.increment_version(out)
    return out


def _name(from_above: bool) -> str:
    return "bev_iou" if from_above else "box3d_iou"


@torch.library.register_fake("detcore::box3d_iou")
def _(boxes1: Tensor, boxes2: Tensor, from_above: bool) -> Tensor:
    one_device(_name(from_above), boxes1=boxes1, boxes2=boxes2)
    shape = (*boxes1.shape[:-1], boxes2.shape[-2])
    return boxes1.new_empty(shape, dtype=result_dtype(boxes1.dtype))


@torch.library.register_fake("detcore::box3d_iou_out")
def _(boxes1: Tensor, boxes2: Tensor, from_above: bool, out: Tensor) -> None:
    one_device(_name(from_above), boxes1=boxes1, boxes2=boxes2, out=out)


@torch.library.register_fake("detcore::box3d_iou_backward")
def _(grad: Tensor, boxes1: Tensor, boxes2: Tensor, from_above: bool) -> tuple[Tensor, Tensor]:
    one_device(_name(from_above), boxes1=boxes1, boxes2=boxes2)
    grad_beside(_name(from_above), grad, boxes1)
    return (
        torch.empty_like(boxes1, memory_format=torch.contiguous_format),
        torch.empty_like(boxes2, memory_format=torch.contiguous_format),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes1, boxes2, ctx.from_above = inputs
    ctx.save_for_backward(boxes1, boxes2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_box3d_iou_backward(grad, *ctx.saved_tensors, ctx.from_above), None)


differentiable("box3d_iou", _setup, _backward, reference.box3d_iou)
differentiable_again("box3d_iou", reference.box3d_iou, tensors=2)
batched_by_leading_dims("box3d_iou", tensors=2)
batched_by_leading_dims("box3d_iou_backward", tensors=3)
