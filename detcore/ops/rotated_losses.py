"""Losses of rotated boxes that compare them as Gaussians: ProbIoU and KFIoU.

A box stands for the normal distribution with its centre and, along its sides, with variances in
proportion to their squares. Such losses have a gradient wherever the boxes are. Everything is
computed from sides and angles, never from covariances' differences, so that thin boxes keep their
digits.
"""

import math

import torch
from torch import Tensor

from ._dtypes import one_dtype
from ._route import named_errors
from .losses import reduce_loss


@named_errors
def probiou_loss(
    boxes1: Tensor,
    boxes2: Tensor,
    reduction: str = "none",
    eps: float = 1e-7,
    mode: str = "l1",
) -> Tensor:
    """Loss of rotated boxes by their Gaussians' Hellinger distance (Llerena et al., 2021).

    The distance is 1 - ProbIoU. It is 0 for equal boxes and near 1 for boxes that are apart.

    Args:
        boxes1: [..., 5] cxcywhr: centre, width and height in pixels, angle in degrees, as in
            `box_convert`; a floating dtype.
        boxes2: [..., 5], the same shape.
        reduction: "none" gives [...]; "mean" and "sum" give a scalar.
        eps: added under the root, so that equal boxes have a finite gradient.
        mode: "l1", the distance d, or "l2", -log(1 - d^2), whose gradient does not vanish where
            the boxes are apart.

    Returns:
        [...] or a scalar []: float64 for float64 boxes, otherwise float32. Differentiable.

    Raises:
        ValueError: for different shapes, a wrong dtype, an unknown reduction or mode.

    Edge cases:
        The mean of no boxes is 0. Boxes without area give 1 (mode "l1") or infinity, and no finite
        gradient. NaN gives NaN. A square has no direction: its angle has no gradient.

    Cost:
        Elementwise PyTorch operations; no kernel of its own.

    Equivalents:
        1 - ultralytics.utils.metrics.probiou(boxes1, boxes2), which takes radians.

    Example:
        >>> import torch
        >>> from detcore.ops import probiou_loss
        >>> a = torch.tensor([[50., 50, 40, 10, 30]], requires_grad=True)
        >>> loss = probiou_loss(a, torch.tensor([[52., 50, 40, 10, 45]]), reduction="mean")
        >>> round(loss.item(), 4)
        0.3439
        >>> loss.backward()

    See Also:
        `kfiou_loss`; `paired_box_iou` with fmt="cxcywhr" for 1 - IoU and 1 - GIoU.
    """
    if mode != "l1" and mode != "l2":
        raise ValueError(f"probiou_loss: mode must be l1 or l2, got '{mode}'")
    boxes1, boxes2 = _checked("probiou_loss", boxes1, boxes2)
    # variances are those of a uniform box, side^2 / 12
    determinant, distance = _sum_of_gaussians(boxes1, boxes2, 1 / 12)
    own = _area(boxes1) * _area(boxes2) / 144  # the root of both determinants' product
    apart = distance / 4 + 0.5 * torch.log(determinant / (4 * own)).clamp(min=0)
    if mode == "l2":
        return reduce_loss("probiou_loss", apart, reduction)
    return reduce_loss("probiou_loss", (eps - torch.expm1(-apart)).sqrt(), reduction)


@named_errors
def kfiou_loss(
    boxes1: Tensor,
    boxes2: Tensor,
    reduction: str = "none",
    eps: float = 1e-6,
    function: str = "linear",
) -> Tensor:
    """Loss of rotated boxes' sizes and angles by Gaussians' overlap (Yang et al., ICLR 2023).

    KFIoU is the overlap of the two Gaussians, moved to one centre: 1/3 for boxes of equal sides and
    angles, less for others. Centres are not compared: add a loss of their own, as the paper does.

    Args:
        boxes1: [..., 5] cxcywhr: centre, width and height in pixels, angle in degrees, as in
            `box_convert`; a floating dtype.
        boxes2: [..., 5], the same shape.
        reduction: "none" gives [...]; "mean" and "sum" give a scalar.
        eps: added to what divides, and under the logarithm.
        function: "linear" gives 1 - KFIoU, "ln" -log(KFIoU), "exp" exp(1 - KFIoU) - 1.

    Returns:
        [...] or a scalar []: float64 for float64 boxes, otherwise float32. Differentiable. 2/3 at
        least where function is "linear".

    Raises:
        ValueError: for different shapes, a wrong dtype, an unknown reduction or function.

    Edge cases:
        The mean of no boxes is 0. Boxes without area have a KFIoU of 0. NaN gives NaN.

    Cost:
        Elementwise PyTorch operations; no kernel of its own.

    Equivalents:
        The part of mmrotate.models.losses.KFLoss that is not its loss of centres.

    Example:
        >>> import torch
        >>> from detcore.ops import kfiou_loss
        >>> a = torch.tensor([[50., 50, 40, 10, 30]])
        >>> kfiou_loss(a, a)
        tensor([0.6667])
        >>> centres = torch.nn.functional.smooth_l1_loss(a[:, :2], a[:, :2])

    See Also:
        `probiou_loss`, which compares centres too.
    """
    if function not in ("linear", "ln", "exp"):
        raise ValueError(f"kfiou_loss: function must be linear, ln or exp, got '{function}'")
    boxes1, boxes2 = _checked("kfiou_loss", boxes1, boxes2)
    determinant, _ = _sum_of_gaussians(boxes1, boxes2, 1 / 4)
    area1, area2 = _area(boxes1), _area(boxes2)
    some = determinant > 0
    shared = area1 * area2 / (4 * torch.where(some, determinant, 1).sqrt())
    shared = torch.where(some, shared, determinant)
    kfiou = shared / (area1 + area2 - shared + eps)
    if function == "ln":
        loss = -torch.log(kfiou + eps)
    else:
        loss = 1 - kfiou if function == "linear" else torch.expm1(1 - kfiou)
    return reduce_loss("kfiou_loss", loss, reduction)


def _checked(op: str, boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    if boxes1.dim() == 0 or boxes1.shape[-1] != 5:
        raise ValueError(f"{op}: boxes1 must be [..., 5], got {list(boxes1.shape)}")
    if boxes1.shape != boxes2.shape:
        raise ValueError(
            f"{op}: boxes1 and boxes2 must have one shape, "
            f"got {list(boxes1.shape)} and {list(boxes2.shape)}"
        )
    boxes1, boxes2, result = one_dtype(op, boxes1, boxes2)
    return boxes1.to(result), boxes2.to(result)


def _area(boxes: Tensor) -> Tensor:
    return boxes[..., 2].relu() * boxes[..., 3].relu()


def _sum_of_gaussians(boxes1: Tensor, boxes2: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The determinant of the sum of both covariances, and the squared distance of the centres.

    The distance is Mahalanobis', by this sum. Variances along the sides are scale * side^2. Every
    term is positive, so nothing cancels.
    """
    wide1, high1, angle1 = _variances(boxes1, scale)
    wide2, high2, angle2 = _variances(boxes2, scale)
    turn = angle2 - angle1
    parallel, crossed = turn.cos() ** 2, turn.sin() ** 2
    determinant = (
        wide1 * high1
        + wide2 * high2
        + (wide1 * wide2 + high1 * high2) * crossed
        + (wide1 * high2 + high1 * wide2) * parallel
    )
    offset = boxes2[..., :2] - boxes1[..., :2]
    weighted = _across(offset, wide1, high1, angle1) + _across(offset, wide2, high2, angle2)
    return determinant, weighted / determinant


def _variances(boxes: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Along the width and the height, and the angle in radians."""
    squared = scale * boxes[..., 2:4].relu() ** 2
    return squared[..., 0], squared[..., 1], boxes[..., 4] * (math.pi / 180)


def _across(offset: Tensor, wide: Tensor, high: Tensor, angle: Tensor) -> Tensor:
    """The offset's squared parts along the sides, each weighted by the other side's variance."""
    dx, dy = offset[..., 0], offset[..., 1]
    along_w = dx * angle.cos() - dy * angle.sin()
    along_h = dx * angle.sin() + dy * angle.cos()
    return high * along_w**2 + wide * along_h**2
