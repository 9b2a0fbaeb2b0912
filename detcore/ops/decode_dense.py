"""Boxes and scores from the raw map of a dense head: anchors are made on the fly."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detcore import reference

from ._derivatives import batched_by_rows, differentiable, differentiable_again
from ._fake import grad_beside, one_device
from ._route import bind, numpy_too
from .box_codec import CLIP

WITH_OBJECTNESS = ("yolo", "yolo5", "grid")

_decode_dense = bind("decode_dense")
_decode_dense_backward = bind("decode_dense_backward")


@numpy_too
def decode_dense(
    maps: Tensor,
    anchors: Tensor | None,
    stride: float | tuple[float, float],
    codec: str = "delta",
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float | None = None,
    scale_xy: float = 1.0,
    bins: int = 16,
    score_threshold: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Decode the raw output map of a dense detection head into boxes and scores.

    Args:
        maps: [B, A * (4 + E), H, W], a floating dtype; channel a * (4 + E) + k. E is C class
            logits; for yolo, yolo5 and grid one objectness logit and then C class logits. For dfl
            the map is [B, 4 * bins + C, H, W].
        anchors: [A, 4] xyxy in pixels relative to the cell's corner for delta; [A, 2] width and
            height in pixels for yolo and yolo5; None for grid, ltrb and dfl, which predict one box
            per cell.
        stride: pixels between neighbouring cells, or (vertical, horizontal).
        codec: the meaning of the four numbers, in which t is a raw value of the map:

            - "delta": R-CNN's deltas (Faster R-CNN, SSD), see `decode_boxes`
            - "yolo": centre (sigmoid(t) * s - (s - 1) / 2 + cell) * stride, size exp(t) * anchor
              (YOLOv3; YOLOv4 with scale_xy s above 1)
            - "yolo5": centre (2 sigmoid(t) - 0.5 + cell) * stride, size (2 sigmoid(t))^2 * anchor
            - "grid": centre (t + cell) * stride, size exp(t) * stride (YOLOX)
            - "ltrb": relu(t) * stride is the distance from the cell's centre to each side (FCOS)
            - "dfl": as ltrb, but the distance is the expectation of softmax over `bins` logits per
              side (Li et al., Generalized Focal Loss, NeurIPS 2020; YOLOv8)
        weights: of dx, dy, dw, dh; delta only.
        clip: upper limit of log sizes; None: log(1000 / 16) for delta, otherwise no limit.
        scale_xy: the s of yolo.
        bins: logits per side; dfl only.
        score_threshold: scores that are not above this become 0, and so do the boxes of cells
            without any remaining score. Shapes stay the same.

    Returns:
        boxes [B, H * W * A, 4] xyxy, pixels, by row, then column, then anchor, in the dtype of the
        maps; and scores [B, H * W * A, C] = sigmoid(class), multiplied by sigmoid(objectness) if
        there is one (C = 0: objectness alone, [..., 1]). Scores are None for a map without them.
        Boxes are differentiable in the maps; scores are not.

    Raises:
        ValueError: for a wrong shape, codec, dtype, device, stride, weight or number of bins.

    Edge cases:
        An empty batch or map gives empty results. NaN in a map gives NaN in its own cell alone.

    Cost:
        One pass over the map. Anchors are never stored. Deterministic; no host-device sync.

    Equivalents:
        torchvision: AnchorGenerator, a permute and BoxCoder.decode. YOLOX's decode_outputs
        ("grid"), Ultralytics' DFL and dist2bbox ("dfl").

    Example:
        >>> import torch
        >>> from detcore.ops import decode_dense
        >>> maps = torch.zeros(1, 6, 1, 2)  # ltrb and two classes, on one row of two cells
        >>> maps[:, :4] = 1.0               # one stride to each side
        >>> boxes, scores = decode_dense(maps, None, 8, "ltrb")
        >>> boxes
        tensor([[[-4., -4., 12., 12.],
                 [ 4., -4., 20., 12.]]])
        >>> scores.shape
        torch.Size([1, 2, 2])

    See Also:
        `decode_boxes`, `multiclass_nms` for the next step.
    """
    stride_y, stride_x = stride if isinstance(stride, (tuple, list)) else (stride, stride)
    if clip is None:
        clip = CLIP if codec == "delta" else math.inf
    if score_threshold is not None and not score_threshold >= 0:
        raise ValueError(f"decode_dense: score_threshold must be at least 0, got {score_threshold}")
    threshold = -1.0 if score_threshold is None else float(score_threshold)
    settings = [float(stride_y), float(stride_x), *weights, clip, scale_xy, threshold, float(bins)]
    boxes, scores = _decode_dense(maps, anchors, codec, settings)
    return boxes, scores if scores.shape[-1] else None


def _shapes(
    maps: Tensor, anchors: Tensor | None, codec: str, settings: list[float]
) -> tuple[int, int, int]:
    cells = 1 if anchors is None else anchors.shape[0]
    if cells == 0:
        raise ValueError("decode_dense: anchors must hold at least one, got none")
    per_cell = maps.shape[1] // cells
    objectness = int(codec in WITH_OBJECTNESS)  # torch before 2.14 subtracts no bool from a SymInt
    numbers = 4 * int(settings[9]) if codec == "dfl" else 4
    classes = 1 if objectness and per_cell == 5 else per_cell - numbers - objectness
    return maps.shape[0], maps.shape[2] * maps.shape[3] * cells, classes


@torch.library.register_fake("detcore::decode_dense")
def _(
    maps: Tensor, anchors: Tensor | None, codec: str, settings: list[float]
) -> tuple[Tensor, Tensor]:
    one_device("decode_dense", maps=maps, anchors=anchors)
    batch, count, classes = _shapes(maps, anchors, codec, settings)
    return maps.new_empty((batch, count, 4)), maps.new_empty((batch, count, classes))


@torch.library.register_fake("detcore::decode_dense_backward")
def _(
    grad: Tensor, maps: Tensor, anchors: Tensor | None, codec: str, settings: list[float]
) -> Tensor:
    one_device("decode_dense_backward", maps=maps, anchors=anchors)
    grad_beside("decode_dense", grad, maps)
    return maps.new_empty(maps.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    maps, anchors, ctx.codec, ctx.settings = inputs
    ctx.save_for_backward(maps, anchors)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    maps, anchors = ctx.saved_tensors
    out = _decode_dense_backward(grad, maps, anchors, ctx.codec, ctx.settings)
    return out, None, None, None


def _formula(
    maps: Tensor, anchors: Tensor | None, codec: str, settings: list[float]
) -> tuple[Tensor, Tensor]:
    stride_y, stride_x, *weights, clip, scale_xy, threshold, bins = settings
    boxes, scores = reference.decode_dense(
        maps, anchors, (stride_y, stride_x), codec,
        weights=weights, clip=clip, scale_xy=scale_xy, bins=int(bins),
        score_threshold=None if threshold < 0 else threshold,
    )  # fmt: skip
    return boxes, boxes[..., :0].detach() if scores is None else scores


def _boxes_alone(maps: Tensor, anchors: Tensor | None, codec: str, settings: list[float]) -> Tensor:
    return _formula(maps, anchors, codec, settings)[0]


differentiable("decode_dense", _setup, _backward, _formula)
differentiable_again("decode_dense", _boxes_alone, tensors=1)
batched_by_rows("decode_dense", tensors=1)
batched_by_rows("decode_dense_backward", tensors=2)
