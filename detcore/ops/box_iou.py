"""Pairwise IoU, GIoU, DIoU and CIoU of boxes: one pass, no temporaries."""

from typing import Any

import torch
from torch import Tensor

from ._route import bind, differentiable_once, numpy_too

_box_iou = bind("box_iou")
_box_iou_out = bind("box_iou_out")


@numpy_too
def box_iou(
    boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy", *, out: Tensor | None = None
) -> Tensor:
    """Intersection over union of every box of one set with every box of another.

    Args:
        boxes1: [..., N, 4] in the format `fmt`, any real dtype.
        boxes2: [..., M, 4], with the same leading dimensions.
        fmt: "xyxy" (corners), "xywh" (corner and size) or "cxcywh" (centre and size).
        out: a contiguous [..., N, M] tensor of the result's dtype to write into.

    Returns:
        [..., N, M], float64 for float64 boxes, otherwise float32, as torchvision has it. Two boxes
        of zero area give NaN, as do NaN coordinates. Differentiable once in both sets of boxes;
        with `out` gradients are refused.

    Raises:
        ValueError: for a wrong shape, format, dtype or device, in words that name it.

    Deterministic, forward and backward, on any number of threads.
    """
    if out is None:
        return _pairwise(boxes1, boxes2, fmt, "iou", 0.0)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (boxes1, boxes2, out)):
        raise ValueError("box_iou: out must not be given where gradients are needed")
    boxes1, boxes2 = _one_dtype(boxes1, boxes2)
    _box_iou_out(boxes1, boxes2, fmt, "iou", 0.0, out)
    return out


@numpy_too
def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al., CVPR 2019) of [..., N, 4] and [..., M, 4] (xyxy): [..., N, M].

    IoU less the share of the boxes' hull that neither covers; -1 to 1. Dtypes, errors, gradients
    and determinism as in `box_iou`.
    """
    return _pairwise(boxes1, boxes2, "xyxy", "giou", 0.0)


@numpy_too
def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """DIoU (Zheng et al., AAAI 2020) of [..., N, 4] and [..., M, 4] (xyxy): [..., N, M].

    IoU less the squared distance of the centres over the squared diagonal of the hull (plus eps).
    Dtypes, errors, gradients and determinism as in `box_iou`.
    """
    return _pairwise(boxes1, boxes2, "xyxy", "diou", eps)


@numpy_too
def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """CIoU (Zheng et al., AAAI 2020) of [..., N, 4] and [..., M, 4] (xyxy): [..., N, M].

    DIoU less a term for unlike aspect ratios, whose weight is a constant of the gradient. Dtypes,
    errors, gradients and determinism as in `box_iou`.
    """
    return _pairwise(boxes1, boxes2, "xyxy", "ciou", eps)


def _pairwise(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float) -> Tensor:
    if fmt != "xyxy" and torch.is_grad_enabled() and (boxes1.requires_grad or boxes2.requires_grad):
        # the backward kernel knows corners; the conversion is autograd's
        from .boxes import box_convert

        boxes1, boxes2 = (box_convert(b.float() if b.dtype != torch.float64 else b, fmt, "xyxy")
                          for b in (boxes1, boxes2))  # fmt: skip
        fmt = "xyxy"
    if boxes1.dtype is not boxes2.dtype or not boxes1.dtype.is_floating_point:
        boxes1, boxes2 = _one_dtype(boxes1, boxes2)
    return _box_iou(boxes1, boxes2, fmt, kind, eps)


def _one_dtype(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(boxes1.dtype, boxes2.dtype)
    if dtype.is_complex or dtype == torch.bool:
        raise ValueError(
            f"box_iou: boxes must be real numbers, got {boxes1.dtype} and {boxes2.dtype}"
        )
    if not dtype.is_floating_point:
        dtype = torch.float32
    return boxes1.to(dtype), boxes2.to(dtype)


def _result(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


@torch.library.register_fake("detcore::box_iou")
def _(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float) -> Tensor:
    return boxes1.new_empty((*boxes1.shape[:-1], boxes2.shape[-2]), dtype=_result(boxes1.dtype))


@torch.library.register_fake("detcore::box_iou_out")
def _(boxes1: Tensor, boxes2: Tensor, fmt: str, kind: str, eps: float, out: Tensor) -> None:
    return None


@torch.library.register_fake("detcore::box_iou_backward")
def _(grad: Tensor, boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(boxes1, memory_format=torch.contiguous_format),
        torch.empty_like(boxes2, memory_format=torch.contiguous_format),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    boxes1, boxes2, _, ctx.kind, ctx.eps = inputs
    ctx.save_for_backward(boxes1, boxes2)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    boxes1, boxes2 = ctx.saved_tensors
    grads = torch.ops.detcore.box_iou_backward(grad, boxes1, boxes2, ctx.kind, ctx.eps)
    return (*grads, None, None, None)


torch.library.register_autograd("detcore::box_iou", _backward, setup_context=_setup)
differentiable_once("box_iou_backward")
