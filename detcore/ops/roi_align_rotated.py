"""ROI-align of turned regions: oriented boxes of a feature map, sampled to a fixed size."""

from torch import Tensor

from ._route import bind, numpy_too
from .roi_align import linear_in_its_map, pair, to_rois

_roi_align_rotated = bind("roi_align_rotated")
_roi_align_rotated_backward = bind("roi_align_rotated_backward")


@numpy_too
def roi_align_rotated(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int] | list[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """Pool rotated regions of a feature map to a fixed, upright size.

    (Ma et al., Arbitrary-Oriented Scene Text Detection via Rotation Proposals, TMM 2018.) Each box
    is divided into output_size bins along its own sides. A bin's value is the mean of bilinear
    samples in it.

    A positive angle turns the box counter-clockwise as the image is seen, whose y points down:
    the columns of the result run along the box's width, (cos, -sin) in x and y, and its rows along
    the height, (sin, cos). So at 90 degrees the first column is at the bottom of the box in the
    image, and the last at the top. It is the direction of `box_iou` with fmt="cxcywhr".

    Args:
        input: [N, C, H, W], a floating dtype, contiguous or channels-last (neither is copied).
        boxes: [K, 6] (image index, cx, cy, width, height, angle), or a list of N tensors [L_i, 5],
            one per image; centre and sides in pixels of the image, the angle in degrees. float32
            boxes may go with half-precision input.
        output_size: (height, width) of the result, or one number for both.
        spatial_scale: pixels of the map per pixel of the image.
        sampling_ratio: samples per bin along each side; 0 or less: ceil(size of the bin).
        aligned: shift by half a pixel, so that pixel centres lie at .5. Without it the sides are
            at least one pixel of the map long.
        clockwise: a positive angle turns the other way.

    Returns:
        [K, C, height, width] in the dtype and memory format of `input`. Differentiable in
        `input`, without atomics; not differentiable in the boxes.

    Raises:
        ValueError: for a wrong shape, dtype or device, or a map of 2^31 rows or columns or more; on
            the CPU also for an image index out of range.

    Edge cases:
        A sample more than one pixel outside the map counts as 0. With an adaptive ratio a box
        without width or height pools to zeros. A box with a number that is NaN or infinite pools to
        zeros and gets no gradient. On CUDA, where checking would need a host-device sync, a box
        with a wrong image index pools to zeros too.

    Cost:
        K * C * bins * samples^2 bilinear reads; samples of a bin that share pixels share reads on
        the CPU. Channels-last input is faster and is not copied. Deterministic, forward and
        backward; the backward uses no atomics.

    Equivalents:
        detectron2.layers.ROIAlignRotated: the same boxes and values, with aligned=True.
        mmcv.ops.roi_align_rotated: the same, with angles in radians (torch.rad2deg converts them),
        and the same meaning of aligned and clockwise.

    Example:
        >>> import torch
        >>> from detcore.ops import roi_align_rotated
        >>> ramp = torch.arange(8.0)[:, None].expand(1, 1, 8, 8)  # a pixel's value is its row
        >>> box = torch.tensor([[0, 4., 4, 4, 2, 90]])  # wider than high, turned by a quarter
        >>> roi_align_rotated(ramp, box, (1, 2), sampling_ratio=2)  # from the bottom to the top
        tensor([[[[4.5000, 2.5000]]]])

    See Also:
        `roi_align` for upright boxes. `RoIAlignRotated`, the module.
    """
    op = "roi_align_rotated"
    height, width = pair(op, output_size)
    rois = boxes if isinstance(boxes, Tensor) else to_rois(input, boxes, op, 5)
    settings = (spatial_scale, height, width, sampling_ratio, aligned, clockwise)
    out: Tensor = _roi_align_rotated(input, rois, *settings)
    return out


linear_in_its_map("roi_align_rotated", _roi_align_rotated, _roi_align_rotated_backward)
