"""ROI-pool: the maxima of a region's bins."""

from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import unwrap_if_dead

from ._derivatives import differentiable
from ._fake import one_device
from ._route import bind, numpy_too
from .roi_align import _channels_last, pair, to_rois

_roi_pool = bind("roi_pool")
_roi_pool_backward = bind("roi_pool_backward")


@numpy_too
def roi_pool(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int] | list[int],
    spatial_scale: float = 1.0,
) -> Tensor:
    """Pool the maxima of regions of a feature map (Girshick, Fast R-CNN, ICCV 2015).

    The corners of a region are rounded to whole pixels, halves away from zero, and the last one is
    part of the region. It is divided into output_size bins, from the floor of their exact begin to
    the ceiling of their end. A bin's value is the greatest of its pixels.

    Args:
        input: [N, C, H, W], a floating dtype, contiguous or channels-last (neither is copied).
        boxes: [K, 5] (image index, x1, y1, x2, y2), or a list of N tensors [L_i, 4], one per image;
            xyxy in pixels of the image. float32 boxes may go with half-precision input.
        output_size: (height, width) of the result, or one number for both.
        spatial_scale: pixels of the map per pixel of the image.

    Returns:
        [K, C, height, width] in the dtype and memory format of `input`. Differentiable in
        `input`: the gradient of a bin goes to its greatest pixel, the first one in row-major order
        if several are equal. Not differentiable in the boxes.

    Raises:
        ValueError: for a wrong shape, dtype or device, or a map of 2^31 pixels or more; on the CPU
            also for an image index out of range.

    Edge cases:
        A region that ends before it begins has one pixel. A bin outside the map is 0. NaN, minus
        infinity and what else is not above -3.4028235e38 is never a maximum: a bin of nothing
        else is -3.4028235e38 (minus infinity in half precision) and gets no gradient, as in
        torchvision. A box with NaN or infinite coordinates pools to zeros and gets no gradient. On
        CUDA, where checking would need a host-device sync, a box with a wrong image index pools to
        zeros too.

    Cost:
        Reads each pixel once per bin that covers it, and keeps 4 bytes per output for the backward.
        Deterministic, forward and backward; the backward uses no atomics.

    Equivalents:
        torchvision.ops.roi_pool, the same signature and the same values. mmcv.ops.roi_pool and the
        mode "ROIPool" of detectron2's ROIPooler are the same operation.

    Example:
        >>> import torch
        >>> from detcore.ops import roi_pool
        >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # a pixel's value is its column
        >>> roi_pool(ramp, [torch.tensor([[1., 1, 4, 4]])], (1, 2))
        tensor([[[[2., 4.]]]])

    See Also:
        `roi_align`, which rounds nothing, and is what newer detectors use. `RoIPool`, the module.
    """
    height, width = pair("roi_pool", output_size)
    rois = boxes if isinstance(boxes, Tensor) else to_rois(input, boxes, "roi_pool")
    pooled: Tensor = _roi_pool(input, rois, spatial_scale, height, width)[0]
    return pooled


@torch.library.register_fake("detcore::roi_pool")
def _(
    input: Tensor, rois: Tensor, spatial_scale: float, out_height: int, out_width: int
) -> tuple[Tensor, Tensor]:
    one_device("roi_pool", input=input, boxes=rois)
    out = input.new_empty((rois.shape[0], input.shape[1], out_height, out_width))
    if _channels_last(input):
        out = out.to(memory_format=torch.channels_last)
    return out, torch.empty_like(out, dtype=torch.int32)


@torch.library.register_fake("detcore::roi_pool_backward")
def _(
    grad: Tensor,
    rois: Tensor,
    argmax: Tensor,
    spatial_scale: float,
    map_size: list[int],
    channels_last: bool,
) -> Tensor:
    one_device("roi_pool_backward", grad=grad, boxes=rois, argmax=argmax)
    out = grad.new_empty(map_size)
    return out.to(memory_format=torch.channels_last) if channels_last else out


def _pick(map: Tensor, rois: Tensor, argmax: Tensor) -> Tensor:
    """The values of a map [N, C, H, W] at the places of maxima [K, C, height, width]; else 0.

    It is the op itself where the places are those of its maxima, and it is linear in the map.
    """
    if map.numel() == 0:
        return map.new_zeros(argmax.shape)
    image = rois[:, 0].nan_to_num(0).clamp(0, map.shape[0] - 1).long()  # of no place if wrong
    channel = torch.arange(map.shape[1], device=map.device)
    place = argmax.clamp(min=0).long()
    values = map.flatten(2)[image[:, None, None, None], channel[:, None, None], place]
    return torch.where(argmax < 0, 0, values)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    input, rois, ctx.spatial_scale, *_ = inputs
    ctx.save_for_backward(rois, output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # none of the places
    ctx.map_size, ctx.channels_last = input.shape, _channels_last(input)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    # torch.func wraps what is kept, and leaves it wrapped when its transform is over
    rois, argmax = map(unwrap_if_dead, ctx.saved_tensors)
    settings = (ctx.spatial_scale, list(ctx.map_size), ctx.channels_last)
    return (_roi_pool_backward(grad, rois, argmax, *settings), *[None] * 4)


def _setup_again(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:3])


def _backward_again(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (_pick(grad, *map(unwrap_if_dead, ctx.saved_tensors)), *[None] * 5)


def _formula(
    input: Tensor, rois: Tensor, spatial_scale: float, out_height: int, out_width: int
) -> tuple[Tensor, Tensor]:
    settings = (spatial_scale, out_height, out_width)
    pooled, argmax = torch.ops.detcore.roi_pool.default(input.detach(), rois.detach(), *settings)
    # a bin without a maximum keeps its value, which is not 0 if it has pixels
    return torch.where(argmax < 0, pooled, _pick(input, rois, argmax)), argmax


differentiable("roi_pool", _setup, _backward, _formula)
differentiable("roi_pool_backward", _setup_again, _backward_again)
