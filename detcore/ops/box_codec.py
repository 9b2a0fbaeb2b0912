"""The delta codec of R-CNN and SSD: boxes to deltas relative to anchors, and back."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detcore import reference

from ._derivatives import batched_by_rows, differentiable, differentiable_again
from ._fake import grad_beside, one_device
from ._route import bind, numpy_too

CLIP = math.log(1000 / 16)  # Faster R-CNN's: a box grows at most 62.5 times

_encode_boxes = bind("encode_boxes")
_decode_boxes = bind("decode_boxes")
_encode_boxes_backward = bind("encode_boxes_backward")
_decode_boxes_backward = bind("decode_boxes_backward")


def _listed(op: str, weights: Sequence[float]) -> list[float]:
    try:
        return list(weights)
    except TypeError as error:
        raise TypeError(
            f"{op}: weights must be four numbers, got {type(weights).__name__}"
        ) from error


@numpy_too
def encode_boxes(
    boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> Tensor:
    """The deltas that move anchors onto boxes (Girshick et al., CVPR 2014, appendix C).

    dx, dy are the shift of the centre in anchor sizes; dw, dh are the logarithms of the ratio of
    the sizes; each is multiplied by its weight.

    Args:
        boxes: [N, 4] xyxy, pixels, a floating dtype.
        anchors: [N, 4] likewise, of positive size.
        weights: four positive numbers for dx, dy, dw, dh; R-CNN's box head uses (10, 10, 5, 5).

    Returns:
        [N, 4] (dx, dy, dw, dh) in the dtype of the boxes. Differentiable in both inputs.

    Raises:
        ValueError: for a wrong shape, dtype or device, and for a weight that is not positive.

    Edge cases:
        A box without area gives -inf (a logarithm of 0), an anchor without area infinities or NaN;
        NaN gives NaN.

    Cost:
        One pass, O(N). Deterministic.

    Equivalents:
        torchvision's BoxCoder(weights).encode_single(boxes, anchors). detectron2's
        Box2BoxTransform(weights).get_deltas(anchors, boxes): mind the order of the arguments.

    Example:
        >>> import torch
        >>> from detcore.ops import encode_boxes
        >>> anchors = torch.tensor([[0., 0, 10, 10]])
        >>> encode_boxes(torch.tensor([[5., 0, 15, 10]]), anchors)
        tensor([[0.5000, 0.0000, 0.0000, 0.0000]])

    See Also:
        `decode_boxes`, the inverse.
    """
    return _encode_boxes(boxes, anchors, _listed("encode_boxes", weights))


@numpy_too
def decode_boxes(
    deltas: Tensor,
    anchors: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = CLIP,
) -> Tensor:
    """Boxes from deltas and anchors: the inverse of `encode_boxes`.

    Args:
        deltas: [N, 4k], k boxes per anchor (R-CNN: one per class), a floating dtype.
        anchors: [N, 4] xyxy, pixels, the same dtype.
        weights: four positive numbers for dx, dy, dw, dh.
        clip: upper limit of dw and dh after division by their weights, before exp. The default lets
            a box grow at most 62.5 times.

    Returns:
        [N, 4k] xyxy, pixels, in the dtype of the deltas. Differentiable in both inputs; a
        clipped delta has gradient zero.

    Raises:
        ValueError: for a wrong shape, dtype or device, and for a weight that is not positive.

    Edge cases:
        NaN gives NaN.

    Cost:
        One pass, O(N * k). Deterministic.

    Equivalents:
        torchvision's BoxCoder(weights).decode_single(deltas, anchors). detectron2's
        Box2BoxTransform(weights).apply_deltas(deltas, anchors).

    Example:
        >>> import torch
        >>> from detcore.ops import decode_boxes
        >>> anchors = torch.tensor([[0., 0, 10, 10]])
        >>> decode_boxes(torch.tensor([[0.5, 0, 0, 0]]), anchors)
        tensor([[ 5.,  0., 15., 10.]])

    See Also:
        `encode_boxes`. `decode_dense` for raw maps of a network.
    """
    return _decode_boxes(deltas, anchors, _listed("decode_boxes", weights), clip)


@torch.library.register_fake("detcore::encode_boxes")
def _(boxes: Tensor, anchors: Tensor, weights: list[float]) -> Tensor:
    one_device("encode_boxes", boxes=boxes, anchors=anchors)
    return boxes.new_empty(boxes.shape)


@torch.library.register_fake("detcore::decode_boxes")
def _(deltas: Tensor, anchors: Tensor, weights: list[float], clip: float) -> Tensor:
    one_device("decode_boxes", deltas=deltas, anchors=anchors)
    return deltas.new_empty(deltas.shape)


@torch.library.register_fake("detcore::encode_boxes_backward")
def _(grad: Tensor, boxes: Tensor, anchors: Tensor, weights: list[float]) -> tuple[Tensor, Tensor]:
    one_device("encode_boxes_backward", boxes=boxes, anchors=anchors)
    grad_beside("box_codec", grad, boxes)
    return boxes.new_empty(boxes.shape), anchors.new_empty(anchors.shape)


@torch.library.register_fake("detcore::decode_boxes_backward")
def _(
    grad: Tensor, deltas: Tensor, anchors: Tensor, weights: list[float], clip: float
) -> tuple[Tensor, Tensor]:
    one_device("decode_boxes_backward", deltas=deltas, anchors=anchors)
    grad_beside("box_codec", grad, deltas)
    return deltas.new_empty(deltas.shape), anchors.new_empty(anchors.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.settings = inputs[2:]


def _encode_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = _encode_boxes_backward(grad, *ctx.saved_tensors, *ctx.settings)
    return (*grads, None)


def _decode_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = _decode_boxes_backward(grad, *ctx.saved_tensors, *ctx.settings)
    return (*grads, None, None)


differentiable("encode_boxes", _setup, _encode_backward, reference.encode_boxes)
differentiable("decode_boxes", _setup, _decode_backward, reference.decode_boxes)
for _op, _formula in (
    ("encode_boxes", reference.encode_boxes),
    ("decode_boxes", reference.decode_boxes),
):
    differentiable_again(_op, _formula, tensors=2)
    batched_by_rows(_op, tensors=2)
    batched_by_rows(f"{_op}_backward", tensors=3)
