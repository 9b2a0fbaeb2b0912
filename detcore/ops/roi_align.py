"""ROI-align: regions of a feature map, sampled to a fixed size."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._derivatives import differentiable
from ._fake import one_device
from ._route import bind, numpy_too

_roi_align = bind("roi_align")
_roi_align_backward = bind("roi_align_backward")


@numpy_too
def roi_align(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int] | list[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Pool regions of a feature map to a fixed size (He et al., Mask R-CNN, ICCV 2017).

    Each region is divided into output_size bins. A bin's value is the mean of bilinear samples in
    it.

    Args:
        input: [N, C, H, W], a floating dtype, contiguous or channels-last (neither is copied).
        boxes: [K, 5] (image index, x1, y1, x2, y2), or a list of N tensors [L_i, 4], one per image;
            xyxy in pixels of the image. float32 boxes may go with half-precision input.
        output_size: (height, width) of the result, or one number for both.
        spatial_scale: pixels of the map per pixel of the image.
        sampling_ratio: samples per bin along each axis; 0 or less: ceil(size of the bin).
        aligned: shift by half a pixel, so that pixel centres lie at .5 (detectron2's default).

    Returns:
        [K, C, height, width] in the dtype and memory format of `input`. Differentiable in
        `input`, without atomics; not differentiable in the boxes.

    Raises:
        ValueError: for a wrong shape, dtype or device; on the CPU also for an image index out of
            range.

    Edge cases:
        A sample more than one pixel outside the map counts as 0. A box with NaN or infinite
        coordinates pools to zeros and gets no gradient. On CUDA, where checking would need a
        host-device sync, a box with a wrong image index pools to zeros too.

    Cost:
        K * C * bins * samples^2 bilinear reads. Channels-last input is faster and is not copied.
        Deterministic, forward and backward; the backward uses no atomics.

    Equivalents:
        torchvision.ops.roi_align, the same signature. detectron2.layers.ROIAlign and
        mmcv.ops.roi_align have aligned=True as default; mmcv's pool_mode "max" has no counterpart.

    Example:
        >>> import torch
        >>> from detcore.ops import roi_align
        >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # a pixel's value is its column
        >>> roi_align(ramp, [torch.tensor([[1., 1, 5, 5]])], (1, 2), sampling_ratio=2)
        tensor([[[[2., 4.]]]])

    See Also:
        `multiscale_roi_align` for a feature pyramid. `RoIAlign`, the module.
    """
    height, width = pair("roi_align", output_size)
    rois = boxes if isinstance(boxes, Tensor) else to_rois(input, boxes, "roi_align")
    out: Tensor = _roi_align(input, rois, spatial_scale, height, width, sampling_ratio, aligned)
    return out


def pair(op: str, output_size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """(height, width) of one number or two; ValueError for more or less of them."""
    if torch.jit.is_scripting():  # which wants a branch per type
        if isinstance(output_size, int):
            return output_size, output_size
        if isinstance(output_size, tuple):
            return output_size
    elif not isinstance(output_size, (tuple, list)):
        return output_size, output_size
    if len(output_size) != 2:
        raise ValueError(f"{op}: output_size must be one number or two, got {output_size}")
    return output_size[0], output_size[1]


def to_rois(input: Tensor, boxes: list[Tensor], op: str, numbers: int = 4) -> Tensor:
    """A list of [L_i, numbers], one per image, as one tensor with the image's index in front."""
    if not torch.jit.is_scripting() and not isinstance(boxes, list | tuple):
        raise TypeError(f"{op}: boxes must be a tensor or a list, got {type(boxes).__name__}")
    if input.dim() == 4 and len(boxes) != input.shape[0]:
        raise ValueError(
            f"{op}: boxes must list one tensor per image, {input.shape[0]} of them, "
            f"got {len(boxes)}"
        )
    for i, b in enumerate(boxes):
        if not isinstance(b, Tensor):
            raise ValueError(f"{op}: boxes[{i}] must be [L, {numbers}], got {type(b).__name__}")
        if b.dim() != 2 or b.shape[1] != numbers:
            raise ValueError(f"{op}: boxes[{i}] must be [L, {numbers}], got {list(b.shape)}")
    if len(boxes) == 0:
        return input.new_zeros((0, numbers + 1))
    # half precision holds image indices only up to 2048 (bfloat16: 256)
    wide = [b if b.dtype == torch.float64 else b.float() for b in boxes]
    image = [b.new_full((len(b), 1), i) for i, b in enumerate(wide)]
    return torch.cat((torch.cat(image), torch.cat(wide)), dim=1)


def _channels_last(map: Tensor) -> bool:
    return not map.is_contiguous() and map.is_contiguous(memory_format=torch.channels_last)


def linear_in_its_map(
    op: str, forward: Callable[..., Tensor], backward: Callable[..., Tensor]
) -> None:
    """Register what an op of (map, regions, scale, height, width, *others) gives, and derivatives.

    Its backward takes (grad, regions, *the same settings, map_size, channels_last). The op is
    linear in its map, so its gradient's gradient is the op itself.
    """

    def fake(
        input: Tensor, rois: Tensor, scale: float, height: int, width: int, *others: Any
    ) -> Tensor:
        one_device(op, input=input, boxes=rois)
        out = input.new_empty((rois.shape[0], input.shape[1], height, width))
        return out.to(memory_format=torch.channels_last) if _channels_last(input) else out

    def fake_gradient(grad: Tensor, rois: Tensor, *settings: Any) -> Tensor:
        *_, map_size, channels_last = settings
        one_device(f"{op}_backward", grad=grad, boxes=rois)
        out = grad.new_empty(map_size)
        return out.to(memory_format=torch.channels_last) if channels_last else out

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, rois, *ctx.settings = inputs
        ctx.save_for_backward(rois)
        ctx.map_size, ctx.channels_last = input.shape, _channels_last(input)

    def gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rois,) = ctx.saved_tensors
        out = backward(grad, rois, *ctx.settings, list(ctx.map_size), ctx.channels_last)
        return (out, None, *[None] * len(ctx.settings))

    def setup_again(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, rois, *ctx.settings, _, _ = inputs
        ctx.save_for_backward(rois)

    def gradient_again(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (rois,) = ctx.saved_tensors
        return (forward(grad, rois, *ctx.settings), *[None] * (len(ctx.settings) + 3))

    torch.library.register_fake(f"detcore::{op}", fake)
    torch.library.register_fake(f"detcore::{op}_backward", fake_gradient)
    differentiable(op, setup, gradient)
    differentiable(f"{op}_backward", setup_again, gradient_again)


linear_in_its_map("roi_align", _roi_align, _roi_align_backward)
