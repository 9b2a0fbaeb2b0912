"""Small box functions in plain PyTorch: there so that a torchvision import can be swapped whole."""

import torch
from torch import Tensor

from ._route import numpy_too

FORMATS = ("xyxy", "xywh", "cxcywh")


@numpy_too
def box_area(boxes: Tensor) -> Tensor:
    """Area [...] of boxes [..., 4] (xyxy): halves give float32, small integers int32."""
    _check("box_area", boxes)
    boxes = _upcast(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


@numpy_too
def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Boxes [..., 4] from one of xyxy, xywh, cxcywh to another; a copy.

    In the same dtype, but halved integers are float32.

    Raises ValueError for an unknown format or a last dimension other than 4.
    """
    _check("box_convert", boxes)
    for name, fmt in (("in_fmt", in_fmt), ("out_fmt", out_fmt)):
        if fmt not in FORMATS:
            raise ValueError(
                f"box_convert: {name} must be one of {', '.join(FORMATS)}, got {fmt!r}"
            )
    if in_fmt == out_fmt:
        return boxes.clone()
    point, size = boxes[..., :2], boxes[..., 2:]
    if in_fmt == "cxcywh":
        low, high = point - 0.5 * size, point + 0.5 * size
    else:
        low, high = point, point + size if in_fmt == "xywh" else size
    if out_fmt == "xyxy":
        result = (low, high)
    elif out_fmt == "xywh":
        result = (low, high - low)
    else:
        result = ((low + high) / 2, high - low)
    return torch.cat(result, dim=-1)


@numpy_too
def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [..., 4] (xyxy, pixels) cut to an image of `size` (height, width). NaN stays NaN."""
    _check("clip_boxes_to_image", boxes)
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"clip_boxes_to_image: size must be (height, width), got {size!r}")
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x, y), dim=-1).flatten(-2)


@numpy_too
def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Indices [K] of boxes [N, 4] (xyxy) whose width and height are both at least `min_size`."""
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"remove_small_boxes: boxes must be [N, 4], got {list(boxes.shape)}")
    size = boxes[:, 2:] - boxes[:, :2]
    return torch.where((size >= min_size).all(dim=1))[0]


def _check(op: str, boxes: Tensor) -> None:
    if boxes.dim() == 0 or boxes.shape[-1] != 4:
        raise ValueError(f"{op}: boxes must be [..., 4], got {list(boxes.shape)}")


def _upcast(boxes: Tensor) -> Tensor:
    # products of half-precision or small integer sides would overflow
    if boxes.dtype.is_floating_point:
        return boxes if boxes.dtype.itemsize >= 4 else boxes.float()
    return boxes if boxes.dtype.itemsize >= 4 else boxes.int()
