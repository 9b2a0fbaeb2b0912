"""IoU of rotated boxes: what `box_iou` calls for their formats."""

from typing import Any

import torch
from torch import Tensor

from detcore import reference

from ._derivatives import batched_by_leading_dims, differentiable, differentiable_again
from ._dtypes import result_dtype
from ._fake import grad_beside, one_device
from ._rotated import centred
from ._route import bind

_box_iou_rotated = bind("box_iou_rotated")
_box_iou_rotated_backward = bind("box_iou_rotated_backward")
_box_iou_rotated_out = bind("box_iou_rotated_out")


def box_iou_rotated(boxes1: Tensor, boxes2: Tensor, fmt: str, out: Tensor | None) -> Tensor:
    """`box_iou` of floating-point boxes in a rotated format; with `out`, without gradients."""
    boxes1, boxes2 = centred("box_iou", boxes1, fmt), centred("box_iou", boxes2, fmt)
    if out is None:
        iou: Tensor = _box_iou_rotated(boxes1, boxes2)
        return iou
    _box_iou_rotated_out(boxes1, boxes2, out)
    return out


@torch.library.register_fake("detcore::box_iou_rotated")
def _(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    one_device("box_iou", boxes1=boxes1, boxes2=boxes2)
    shape = (*boxes1.shape[:-1], boxes2.shape[-2])
    return boxes1.new_empty(shape, dtype=result_dtype(boxes1.dtype))


@torch.library.register_fake("detcore::box_iou_rotated_out")
def _(boxes1: Tensor, boxes2: Tensor, out: Tensor) -> None:
    one_device("box_iou", boxes1=boxes1, boxes2=boxes2, out=out)


@torch.library.register_fake("detcore::box_iou_rotated_backward")
def _(grad: Tensor, boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    one_device("box_iou", boxes1=boxes1, boxes2=boxes2)
    grad_beside("box_iou", grad, boxes1)
    return (
        torch.empty_like(boxes1, memory_format=torch.contiguous_format),
        torch.empty_like(boxes2, memory_format=torch.contiguous_format),
    )


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Any:
    return _box_iou_rotated_backward(grad, *ctx.saved_tensors)


differentiable("box_iou_rotated", _setup, _backward, reference.box_iou_rotated)
differentiable_again("box_iou_rotated", reference.box_iou_rotated, tensors=2)
batched_by_leading_dims("box_iou_rotated", tensors=2)
batched_by_leading_dims("box_iou_rotated_backward", tensors=3)
