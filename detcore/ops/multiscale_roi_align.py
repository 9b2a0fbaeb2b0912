"""ROI-align over a feature pyramid: each region from the level that fits its size, in one call."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._fake import one_device
from ._route import bind, differentiable_once, numpy_too
from .roi_align import to_rois

_multiscale_roi_align = bind("multiscale_roi_align")


@numpy_too
def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int = -1,
    canonical_scale: float = 224,
    canonical_level: int = 4,
    *,
    aligned: bool = False,
) -> Tensor:
    """`roi_align` of each box from the pyramid level of its size, all levels in one launch.

    A box of area w * h belongs to level floor(canonical_level + log2(sqrt(w * h) /
    canonical_scale) + 1e-6), cut to the levels there are, where a map of scale 2^-k is level k
    (Lin et al., Feature Pyramid Networks, CVPR 2017, eq. 1). The choice is that of torchvision's
    LevelMapper on the CPU to the last bit, and the same on every device.

    Args:
        features: 1 to 8 maps [N, C, H_l, W_l], finest first, of one floating dtype, all contiguous
            or all channels-last (neither is copied; a mixture is made contiguous).
        boxes: [K, 5] (image, x1, y1, x2, y2), or a list of N tensors [L_i, 4], one an image; in
            pixels of the image. float32 boxes go with half-precision features too.
        output_size: (height, width) of the result, or one number for both.
        scales: pixels of each map per pixel of the image; each at most half of the one
            before (boxes of a level that is missing go to the finer one before it).
        sampling_ratio: samples a bin along each axis; 0 or less: ceil(size of the bin).
        canonical_scale: side in pixels of a square box that belongs to canonical_level.
        canonical_level: see above.
        aligned: shift by half a pixel (torchvision's pooler does not).

    Returns:
        [K, C, *output_size] in the features' dtype and memory format, in the order of the boxes.
        A box with NaN or infinite coordinates pools to zeros and takes no gradient; one of negative
        area is taken from the finest level. Differentiable once in the features (not in boxes).

    Raises:
        ValueError: for a wrong shape, dtype, device or number of scales, and on the CPU for an
            image index out of range (on CUDA such a box pools to zeros).

    Deterministic, forward and backward, on any device and number of threads.
    """
    if not isinstance(output_size, (tuple, list)):
        output_size = (output_size, output_size)
    if len(output_size) != 2:
        raise ValueError(
            f"multiscale_roi_align: output_size must be one number or two, got {output_size}"
        )
    features = list(features)
    if not isinstance(boxes, Tensor):
        if not features:
            raise ValueError("multiscale_roi_align: features must be 1 to 8 maps, got 0")
        boxes = to_rois(features[0], boxes, "multiscale_roi_align")
    return _multiscale_roi_align(
        features, boxes, [float(s) for s in scales], *output_size, sampling_ratio, aligned,
        float(canonical_scale), canonical_level,
    )  # fmt: skip


def _channels_last(features: Sequence[Tensor]) -> bool:
    return all(f.is_contiguous(memory_format=torch.channels_last) for f in features) and not all(
        f.is_contiguous() for f in features
    )


@torch.library.register_fake("detcore::multiscale_roi_align")
def _(
    features: list[Tensor],
    rois: Tensor,
    scales: list[float],
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
) -> Tensor:
    for f in features:
        one_device("multiscale_roi_align", features=f, boxes=rois)
    out = features[0].new_empty((rois.shape[0], features[0].shape[1], out_height, out_width))
    return out.to(memory_format=torch.channels_last) if _channels_last(features) else out


@torch.library.register_fake("detcore::multiscale_roi_align_backward")
def _(
    grad: Tensor,
    rois: Tensor,
    scales: list[float],
    out_height: int,
    out_width: int,
    sampling_ratio: int,
    aligned: bool,
    canonical_scale: float,
    canonical_level: int,
    images: int,
    map_sizes: list[int],
    channels_last: bool,
) -> list[Tensor]:
    one_device("multiscale_roi_align_backward", grad=grad, boxes=rois)
    sizes = zip(map_sizes[::2], map_sizes[1::2], strict=True)
    out = [grad.new_empty((images, grad.shape[1], *size)) for size in sizes]
    return [o.to(memory_format=torch.channels_last) for o in out] if channels_last else out


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, rois, *ctx.settings = inputs
    ctx.save_for_backward(rois)
    ctx.images = features[0].shape[0]
    ctx.map_sizes = [size for f in features for size in f.shape[-2:]]
    ctx.channels_last = _channels_last(features)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (rois,) = ctx.saved_tensors
    out = torch.ops.detcore.multiscale_roi_align_backward(
        grad, rois, *ctx.settings, ctx.images, ctx.map_sizes, ctx.channels_last
    )
    return (out, *[None] * 8)


torch.library.register_autograd("detcore::multiscale_roi_align", _backward, setup_context=_setup)
differentiable_once("multiscale_roi_align_backward")
