"""Boxes and scores straight from a dense head's raw map: anchors are made on the fly."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._fake import grad_beside, one_device
from ._route import bind, differentiable_once, numpy_too
from .box_codec import CLIP

WITH_OBJECTNESS = ("yolo", "yolo5", "grid")

_decode_dense = bind("decode_dense")


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
    """Boxes, and scores where the map has them, of every cell of a dense head.

    Args:
        maps: [B, A * (4 + E), H, W], a floating dtype; channel a * (4 + E) + k. E is C class
            logits, for yolo, yolo5 and grid an objectness logit and then C class logits. dfl:
            [B, 4 * bins + C, H, W].
        anchors: delta: [A, 4] xyxy in pixels relative to the cell's corner; yolo and yolo5: [A, 2]
            width and height in pixels; grid, ltrb and dfl: None, one prediction a cell.
        stride: pixels between cells, or (vertical, horizontal).
        codec: what the four numbers mean.
            delta: R-CNN's deltas (Faster R-CNN, SSD), see `decode_boxes`;
            yolo: centre (sigmoid(t) * s - (s - 1) / 2 + cell) * stride, size exp(t) * anchor
            (YOLOv3; v4 with scale_xy s above 1);
            yolo5: centre (2 sigmoid(t) - 0.5 + cell) * stride, size (2 sigmoid(t))^2 * anchor;
            grid: centre (t + cell) * stride, size exp(t) * stride (YOLOX);
            ltrb: relu(t) * stride from the cell's centre to each side (FCOS);
            dfl: t * stride likewise, t the expectation of softmax(logits) over 0 .. bins - 1, for
            left, top, right and bottom in turn (Li et al., Generalized Focal Loss, NeurIPS 2020;
            YOLOv8).
        weights: delta's, of dx, dy, dw, dh.
        clip: log sizes are cut at it from above; None: log(1000 / 16) for delta, otherwise no cut.
        scale_xy: yolo's s.
        bins: dfl's, a side.
        score_threshold: scores not above it are written as 0, and so are the boxes of cells that
            keep no score; shapes stay.

    Returns:
        boxes [B, H * W * A, 4] xyxy in pixels, cells by row, then column, then anchor, in the
        maps' dtype; and scores [B, H * W * A, C], sigmoid(class), times sigmoid(objectness) where
        there is one (C = 0: objectness alone, [..., 1]); None for a map without scores. Boxes are
        differentiable once in the maps; scores are not differentiable.

    Raises:
        ValueError: for a wrong shape, codec, dtype, device, stride, weight or number of bins.

    Deterministic.
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
    out = torch.ops.detcore.decode_dense_backward(grad, maps, anchors, ctx.codec, ctx.settings)
    return out, None, None, None


torch.library.register_autograd("detcore::decode_dense", _backward, setup_context=_setup)
differentiable_once("decode_dense_backward")
