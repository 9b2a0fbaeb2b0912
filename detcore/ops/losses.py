"""Box and focal losses with torchvision's signatures; the box losses stand on `paired_box_iou`."""

from torch import Tensor
from torch.nn import functional as F

from ._route import named_errors
from .paired_box_iou import paired_box_iou


@named_errors
def generalized_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """1 - GIoU of boxes [..., 4] (xyxy) taken pair by pair (Rezatofighi et al., CVPR 2019).

    reduction: "none" gives [...], "mean" and "sum" a scalar; the mean of no boxes is 0.
    eps keeps the loss of two empty boxes at 1, never NaN.
    """
    return _box_loss("generalized_box_iou_loss", boxes1, boxes2, "giou", reduction, eps)


@named_errors
def distance_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """1 - DIoU of boxes [..., 4] (xyxy) taken pair by pair (Zheng et al., AAAI 2020)."""
    return _box_loss("distance_box_iou_loss", boxes1, boxes2, "diou", reduction, eps)


@named_errors
def complete_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """1 - CIoU of boxes [..., 4] (xyxy) taken pair by pair (Zheng et al., AAAI 2020)."""
    return _box_loss("complete_box_iou_loss", boxes1, boxes2, "ciou", reduction, eps)


@named_errors
def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "none",
) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017) of logits against targets of 0 and 1, same shape.

    alpha in [0, 1] weighs the positive class (-1: no weighting), gamma turns down what is
    easy. reduction as in `generalized_box_iou_loss`. Raises ValueError for any other alpha.
    """
    if not (0 <= alpha <= 1 or alpha == -1):
        raise ValueError(f"sigmoid_focal_loss: alpha must be in [0, 1] or -1, got {alpha}")
    probability = inputs.sigmoid()
    missed = probability * (1 - targets) + (1 - probability) * targets
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none") * missed**gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return _reduce("sigmoid_focal_loss", loss, reduction)


def _box_loss(
    op: str, boxes1: Tensor, boxes2: Tensor, kind: str, reduction: str, eps: float
) -> Tensor:
    loss = 1 - paired_box_iou(boxes1, boxes2, kind, eps)
    return _reduce(op, loss, reduction)


def _reduce(op: str, loss: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean() if loss.numel() else loss.sum()
    raise ValueError(f"{op}: reduction must be one of none, mean, sum, got {reduction!r}")
