"""Formats of rotated boxes: corner or centre, sides and angle, or four corners.

Angles are degrees, counter-clockwise as the image is seen (y points down). A box's first corner is
its top left one before the rotation; the other corners follow along its width.
"""

import math

import torch
from torch import Tensor

from ._dtypes import result_dtype


def is_rotated(fmt: str) -> bool:
    """Whether boxes of this format are rotated."""
    return fmt == "cxcywhr" or fmt == "xywhr" or fmt == "xyxyxyxy"


def convert_rotated(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """[..., 5] or [..., 8] from one rotated format to another; integers are rounded each time."""
    if in_fmt == "xyxyxyxy":
        boxes = _rounded(_from_corners(boxes), boxes)
    elif in_fmt == "cxcywhr":
        boxes = _rounded(_to_corner(boxes), boxes)
    # xywhr now
    if out_fmt == "cxcywhr":
        return _rounded(_to_centre(boxes), boxes)
    return boxes if out_fmt == "xywhr" else _rounded(_to_corners(boxes), boxes)


def centred(op: str, boxes: Tensor, fmt: str) -> Tensor:
    """Floating-point boxes of a rotated format as "cxcywhr"; half precision becomes float32."""
    if fmt == "cxcywhr":
        return boxes
    numbers = 8 if fmt == "xyxyxyxy" else 5
    if boxes.dim() == 0 or boxes.shape[-1] != numbers:
        raise ValueError(
            f"{op}: boxes of '{fmt}' must be [..., {numbers}], got {list(boxes.shape)}"
        )
    # centres of half-precision boxes don't fit half precision
    return convert_rotated(boxes.to(result_dtype(boxes.dtype)), fmt, "cxcywhr")


def _rounded(result: Tensor, given: Tensor) -> Tensor:
    return result if given.is_floating_point() else result.round().to(given.dtype)


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """First two numbers, then the vectors of the width and the height, in x and y."""
    a, b, width, height, angle = boxes.unbind(-1)
    turned = angle * math.pi / 180
    cos, sin = turned.cos(), turned.sin()
    return a, b, width * cos, -width * sin, height * sin, height * cos


def _to_centre(boxes: Tensor) -> Tensor:
    x, y, wx, wy, hx, hy = _sides(boxes)
    return torch.cat((torch.stack((x + (wx + hx) / 2, y + (wy + hy) / 2), -1), boxes[..., 2:]), -1)


def _to_corner(boxes: Tensor) -> Tensor:
    x, y, wx, wy, hx, hy = _sides(boxes)
    return torch.cat((torch.stack((x - (wx + hx) / 2, y - (wy + hy) / 2), -1), boxes[..., 2:]), -1)


def _to_corners(boxes: Tensor) -> Tensor:
    x, y, wx, wy, hx, hy = _sides(boxes)
    return torch.stack((x, y, x + wx, y + wy, x + wx + hx, y + wy + hy, x + hx, y + hy), -1)


def _from_corners(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2, x3, y3, _, _ = boxes.unbind(-1)
    angle = torch.atan2(y1 - y2, x2 - x1) * 180 / math.pi
    width = ((x2 - x1) ** 2 + (y1 - y2) ** 2).sqrt()
    height = ((x3 - x2) ** 2 + (y3 - y2) ** 2).sqrt()
    return torch.stack((x1.to(angle.dtype), y1.to(angle.dtype), width, height, angle), -1)
