"""Small box functions in plain PyTorch, so that a torchvision import can be swapped whole."""

import torch
from torch import Tensor

from ._rotated import convert_rotated, is_rotated
from ._route import numpy_too


@numpy_too
def box_area(boxes: Tensor, fmt: str = "xyxy") -> Tensor:
    """Area of boxes.

    Args:
        boxes: [..., K] in the format `fmt`, pixels, any real dtype; K is 4, or 5 or 8 for rotated
            boxes.
        fmt: of upright boxes "xyxy" (corners), "xywh" (corner and size) or "cxcywh" (centre and
            size); of rotated boxes "cxcywhr", "xywhr" or "xyxyxyxy", as in `box_convert`.

    Returns:
        [...] pixels^2: float32 for half precision, int32 for small integers, otherwise the same
        dtype.

    Raises:
        ValueError: for another last dimension, or an unknown format.

    Edge cases:
        Negative if one side is negative; NaN for NaN.

    Cost:
        A few elementwise PyTorch operations.

    Equivalents:
        torchvision.ops.box_area.

    Example:
        >>> import torch
        >>> from detcore.ops import box_area
        >>> box_area(torch.tensor([[0., 0, 10, 5]]))
        tensor([50.])

    See Also:
        `remove_small_boxes`.
    """
    _check("box_area", boxes, _numbers("box_area", "fmt", fmt))
    boxes = _upcast(boxes)
    if fmt == "xyxyxyxy":
        boxes = convert_rotated(boxes, fmt, "cxcywhr")
    if fmt != "xyxy":
        return boxes[..., 2] * boxes[..., 3]
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


@numpy_too
def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Convert boxes from one format to another.

    Args:
        boxes: [..., K] in the format `in_fmt`, any real dtype; K is 4, or 5 or 8 for rotated boxes.
        in_fmt: of upright boxes "xyxy" (corners), "xywh" (corner and size) or "cxcywh" (centre and
            size), K = 4; of rotated boxes "xywhr" or "cxcywhr" (likewise, and an angle in degrees,
            counter-clockwise as the image is seen), K = 5, or "xyxyxyxy" (the corners, from the
            first one along the width), K = 8.
        out_fmt: likewise. Upright boxes become rotated ones by an angle of 0; the other way is
            refused, since the angle would be lost.

    Returns:
        [..., K] of `out_fmt`, a copy in the same dtype. Integers: of upright boxes float32 where
        they are halved, of rotated ones rounded.

    Raises:
        ValueError: for an unknown format or another last dimension.
        NotImplementedError: from rotated to upright boxes.

    Edge cases:
        Equal formats give a copy.

    Cost:
        A few elementwise PyTorch operations.

    Equivalents:
        torchvision.ops.box_convert, which refuses upright to rotated too.

    Example:
        >>> import torch
        >>> from detcore.ops import box_convert
        >>> box_convert(torch.tensor([[10., 20, 4, 6]]), "cxcywh", "xyxy")
        tensor([[ 8., 17., 12., 23.]])

    See Also:
        `box_iou`, which takes all these formats itself.
    """
    numbers = _numbers("box_convert", "in_fmt", in_fmt)
    to_numbers = _numbers("box_convert", "out_fmt", out_fmt)
    _check("box_convert", boxes, numbers)
    if numbers != 4 and to_numbers == 4:
        raise NotImplementedError(
            f"box_convert: rotated boxes can't become upright ones, got '{in_fmt}' and '{out_fmt}'"
        )
    if in_fmt == out_fmt:
        return boxes.clone()
    if numbers != 4:
        return convert_rotated(boxes, in_fmt, out_fmt)
    if to_numbers != 4:
        centred = _convert_upright(boxes, in_fmt, "cxcywh")
        boxes = torch.cat((centred, torch.zeros_like(centred[..., :1])), dim=-1)
        return boxes if out_fmt == "cxcywhr" else convert_rotated(boxes, "cxcywhr", out_fmt)
    return _convert_upright(boxes, in_fmt, out_fmt)


def _convert_upright(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    if in_fmt == out_fmt:
        return boxes
    point, size = boxes[..., :2], boxes[..., 2:]
    if in_fmt == "cxcywh":
        low, high = point - 0.5 * size, point + 0.5 * size
    else:
        low, high = point, point + size if in_fmt == "xywh" else size
    if out_fmt == "xyxy":
        return torch.cat((low, high), dim=-1)
    return torch.cat((low if out_fmt == "xywh" else (low + high) / 2, high - low), dim=-1)


@numpy_too
def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip boxes to the borders of an image.

    Args:
        boxes: [..., 4] xyxy, pixels, any real dtype.
        size: (height, width) of the image, pixels.

    Returns:
        [..., 4] in the same dtype.

    Raises:
        ValueError: if the last dimension is not 4 or size is not two numbers.

    Edge cases:
        NaN stays NaN. A box outside the image becomes a box without area on its border.

    Cost:
        A few elementwise PyTorch operations.

    Equivalents:
        torchvision.ops.clip_boxes_to_image. detectron2: Boxes.clip.

    Example:
        >>> import torch
        >>> from detcore.ops import clip_boxes_to_image
        >>> clip_boxes_to_image(torch.tensor([[-5., 2, 30, 8]]), (10, 20))
        tensor([[ 0.,  2., 20.,  8.]])

    See Also:
        `remove_small_boxes`.
    """
    _check("clip_boxes_to_image", boxes)
    if not torch.jit.is_scripting():
        _check_size(size)
    height, width = size
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x, y), dim=-1).flatten(-2)


@numpy_too
def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Indices of the boxes whose width and height are both at least `min_size`.

    Args:
        boxes: [N, 4] xyxy, pixels, any real dtype.
        min_size: pixels.

    Returns:
        int64 [K], ascending.

    Raises:
        ValueError: if boxes is not [N, 4].

    Edge cases:
        Boxes with NaN are removed.

    Cost:
        A few elementwise PyTorch operations; on CUDA one host-device sync.

    Equivalents:
        torchvision.ops.remove_small_boxes. detectron2: Boxes.nonempty, whose comparison is strict.

    Example:
        >>> import torch
        >>> from detcore.ops import remove_small_boxes
        >>> remove_small_boxes(torch.tensor([[0., 0, 10, 10], [0, 0, 10, 1]]), 2)
        tensor([0])

    See Also:
        `clip_boxes_to_image`, `box_area`.
    """
    if boxes.dim() != 2 or boxes.shape[1] != 4:
        raise ValueError(f"remove_small_boxes: boxes must be [N, 4], got {list(boxes.shape)}")
    size = boxes[:, 2:] - boxes[:, :2]
    return torch.where((size >= min_size).all(dim=1))[0]


@numpy_too
def masks_to_boxes(masks: Tensor) -> Tensor:
    """The smallest boxes around masks.

    Args:
        masks: [N, H, W], any dtype; what is not zero belongs to the mask.

    Returns:
        float32 [N, 4] xyxy: the centres of the outermost pixels, so that a mask of one pixel gives
        a box without area, as torchvision has it.

    Raises:
        ValueError: if masks is not [N, H, W].

    Edge cases:
        A mask without a pixel gives (0, 0, 0, 0), also where H or W is 0. NaN is not zero.

    Cost:
        Two passes over the masks, without a host-device sync.

    Equivalents:
        torchvision.ops.masks_to_boxes.

    Example:
        >>> import torch
        >>> from detcore.ops import masks_to_boxes
        >>> mask = torch.zeros(1, 5, 6)
        >>> mask[0, 1:3, 2:6] = 1
        >>> masks_to_boxes(mask)
        tensor([[2., 1., 5., 2.]])

    See Also:
        `box_area`.
    """
    if masks.dim() != 3:
        raise ValueError(f"masks_to_boxes: masks must be [N, H, W], got {list(masks.shape)}")
    if masks.numel() == 0:
        return torch.zeros((masks.shape[0], 4), device=masks.device)
    if masks.dtype != torch.bool:
        masks = masks != 0
    sides = [masks.any(dim=1).int(), masks.any(dim=2).int()]  # [N, W] and [N, H]
    first = [side.argmax(dim=1) for side in sides]  # of equal values it finds the first
    last = [side.shape[1] - 1 - side.flip(1).argmax(dim=1) for side in sides]
    boxes = torch.stack((first[0], first[1], last[0], last[1]), dim=1).float()
    return boxes * sides[0].amax(dim=1, keepdim=True)


def _numbers(op: str, name: str, fmt: str) -> int:
    """How many numbers a box of the format has."""
    if fmt == "xyxy" or fmt == "xywh" or fmt == "cxcywh":
        return 4
    if not is_rotated(fmt):
        every = "xyxy, xywh, cxcywh, xywhr, cxcywhr, xyxyxyxy"
        raise ValueError(f"{op}: {name} must be one of {every}, got '{fmt}'")
    return 8 if fmt == "xyxyxyxy" else 5


def _check_size(size: tuple[int, int]) -> None:
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f"clip_boxes_to_image: size must be (height, width), got {size!r}")


def _check(op: str, boxes: Tensor, width: int = 4) -> None:
    if boxes.dim() == 0 or boxes.shape[-1] != width:
        raise ValueError(f"{op}: boxes must be [..., {width}], got {list(boxes.shape)}")


def _upcast(boxes: Tensor) -> Tensor:
    # products of half-precision or small integer sides would overflow
    if boxes.element_size() >= 4:
        return boxes
    return boxes.float() if boxes.is_floating_point() else boxes.int()
