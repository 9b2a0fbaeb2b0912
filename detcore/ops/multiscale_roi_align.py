"""ROI-align over a feature pyramid: each region from the level of its size, in one call."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._derivatives import differentiable
from ._fake import one_device
from ._route import bind, numpy_too
from .roi_align import pair, to_rois

_multiscale_roi_align = bind("multiscale_roi_align")
_multiscale_roi_align_backward = bind("multiscale_roi_align_backward")


@numpy_too
def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int = -1,
    canonical_scale: float = 224,
    canonical_level: int = 4,
    *,
    aligned: bool = False,
) -> Tensor:
    """`roi_align` over a feature pyramid: each box is pooled from the level that fits its size.

    A box of area w * h belongs to level floor(canonical_level + log2(sqrt(w * h) / canonical_scale)
    + 1e-6), clamped to the given levels. A map of scale 2^-k is level k (Lin et al., Feature
    Pyramid Networks, CVPR 2017, eq. 1).

    Args:
        features: 1 to 8 maps [N, C, H_l, W_l], finest first, of one floating dtype, all contiguous
            or all channels-last (neither is copied; a mixture is made contiguous).
        boxes: [K, 5] (image index, x1, y1, x2, y2), or a list of N tensors [L_i, 4], one per image;
            xyxy in pixels of the image. float32 boxes may go with half-precision features.
        output_size: (height, width) of the result, or one number for both.
        scales: pixels of each map per pixel of the image; each at most half of the one before.
            Boxes of a missing level go to the next finer one.
        sampling_ratio: samples per bin along each axis; 0 or less: ceil(size of the bin).
        canonical_scale: side in pixels of a square box that belongs to canonical_level.
        canonical_level: the level of such a box.
        aligned: shift by half a pixel (torchvision's pooler does not).

    Returns:
        [K, C, height, width] in the dtype and memory format of the features, in the order of the
        boxes. Differentiable in the features, not in the boxes.

    Raises:
        ValueError: for a wrong shape, dtype, device or number of scales; on the CPU also for an
            image index out of range (on CUDA such a box pools to zeros).

    Edge cases:
        A box with NaN or infinite coordinates pools to zeros and gets no gradient. A box of
        negative area is taken from the finest level.

    Cost:
        As `roi_align`, in one launch for all levels: boxes are neither sorted nor gathered by
        level. Deterministic.

    Equivalents:
        torchvision.ops.MultiScaleRoIAlign: the choice of levels equals its LevelMapper on the CPU
        bit for bit. detectron2's ROIPooler("ROIAlignV2") with aligned=True.

    Example:
        >>> import torch
        >>> from detcore.ops import multiscale_roi_align
        >>> fine, coarse = torch.ones(1, 2, 32, 32), torch.full((1, 2, 16, 16), 5.0)
        >>> boxes = torch.tensor([[0, 10., 10, 20, 20], [0, 0, 0, 120, 120]])
        >>> pooled = multiscale_roi_align(
        ...     [fine, coarse], boxes, 7, [1 / 4, 1 / 8], canonical_scale=64, canonical_level=3
        ... )
        >>> pooled.shape, pooled.amax(dim=(1, 2, 3)).round()  # the small box: fine map
        (torch.Size([2, 2, 7, 7]), tensor([1., 5.]))

    See Also:
        `roi_align`. `MultiScaleRoIAlign`, the module.
    """
    height, width = pair("multiscale_roi_align", output_size)
    features = list(features)
    if not isinstance(boxes, Tensor):
        if not features:
            raise ValueError("multiscale_roi_align: features must be 1 to 8 maps, got 0")
        boxes = to_rois(features[0], boxes, "multiscale_roi_align")
    return _multiscale_roi_align(
        features, boxes, [float(s) for s in scales], height, width, sampling_ratio, aligned,
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
    out = _multiscale_roi_align_backward(
        grad, rois, *ctx.settings, ctx.images, ctx.map_sizes, ctx.channels_last
    )
    return (out, *[None] * 8)


# The op is linear in its features, so its gradient's gradient is the op itself.
def _setup_again(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.save_for_backward(inputs[1])
    ctx.settings = inputs[2:9]


def _backward_again(ctx: Any, grads: list[Tensor]) -> tuple[Tensor | None, ...]:
    (rois,) = ctx.saved_tensors
    return (_multiscale_roi_align(grads, rois, *ctx.settings), *[None] * 11)


differentiable("multiscale_roi_align", _setup, _backward)
differentiable("multiscale_roi_align_backward", _setup_again, _backward_again)
