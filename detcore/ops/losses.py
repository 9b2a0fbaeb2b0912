"""Box and focal losses with torchvision's signatures; the box losses use `paired_box_iou`."""

from torch import Tensor
from torch.nn import functional as F

from ._route import named_errors
from .paired_box_iou import paired_box_iou


@named_errors
def generalized_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """Loss 1 - GIoU of boxes taken pair by pair (Rezatofighi et al., CVPR 2019).

    Args:
        boxes1: [..., 4] xyxy, pixels, any real dtype.
        boxes2: [..., 4], the same shape.
        reduction: "none" gives [...]; "mean" and "sum" give a scalar.
        eps: added to areas and lengths, so that two empty boxes give a finite loss.

    Returns:
        [...] or a scalar []: float64 for float64 boxes, otherwise float32. Differentiable.

    Raises:
        ValueError: for different shapes, a wrong dtype or device, and an unknown reduction.

    Edge cases:
        The mean of no boxes is 0. NaN coordinates give NaN.

    Cost:
        `paired_box_iou` and one subtraction. Deterministic.

    Equivalents:
        torchvision.ops.generalized_box_iou_loss, the same signature.

    Example:
        >>> import torch
        >>> from detcore.ops import generalized_box_iou_loss
        >>> a = torch.tensor([[0., 0, 10, 10]], requires_grad=True)
        >>> loss = generalized_box_iou_loss(a, torch.tensor([[20., 0, 30, 10]]), reduction="mean")
        >>> loss.item()
        1.3333333730697632
        >>> loss.backward()

    See Also:
        `paired_box_iou`.
    """
    return _box_loss("generalized_box_iou_loss", boxes1, boxes2, "giou", reduction, eps)


@named_errors
def distance_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """Loss 1 - DIoU of boxes taken pair by pair (Zheng et al., AAAI 2020).

    Args:
        boxes1: [..., 4] xyxy, pixels, any real dtype.
        boxes2: [..., 4], the same shape.
        reduction: "none" gives [...]; "mean" and "sum" give a scalar.
        eps: added to areas and lengths, so that two empty boxes give a finite loss.

    Returns:
        [...] or a scalar []: float64 for float64 boxes, otherwise float32. Differentiable.

    Raises:
        ValueError: for different shapes, a wrong dtype or device, and an unknown reduction.

    Edge cases:
        The mean of no boxes is 0. NaN coordinates give NaN.

    Cost:
        `paired_box_iou` and one subtraction. Deterministic.

    Equivalents:
        torchvision.ops.distance_box_iou_loss, the same signature.

    Example:
        >>> import torch
        >>> from detcore.ops import distance_box_iou_loss
        >>> a = torch.tensor([[0., 0, 10, 10]], requires_grad=True)
        >>> loss = distance_box_iou_loss(a, torch.tensor([[20., 0, 30, 10]]), reduction="mean")
        >>> loss.item()
        1.399999976158142
        >>> loss.backward()

    See Also:
        `paired_box_iou`.
    """
    return _box_loss("distance_box_iou_loss", boxes1, boxes2, "diou", reduction, eps)


@named_errors
def complete_box_iou_loss(
    boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """Loss 1 - CIoU of boxes taken pair by pair (Zheng et al., AAAI 2020).

    Args:
        boxes1: [..., 4] xyxy, pixels, any real dtype.
        boxes2: [..., 4], the same shape.
        reduction: "none" gives [...]; "mean" and "sum" give a scalar.
        eps: added to areas and lengths, so that two empty boxes give a finite loss.

    Returns:
        [...] or a scalar []: float64 for float64 boxes, otherwise float32. Differentiable.

    Raises:
        ValueError: for different shapes, a wrong dtype or device, and an unknown reduction.

    Edge cases:
        The mean of no boxes is 0. NaN coordinates give NaN. A box without width and height gives
        NaN.

    Cost:
        `paired_box_iou` and one subtraction. Deterministic.

    Equivalents:
        torchvision.ops.complete_box_iou_loss, the same signature.

    Example:
        >>> import torch
        >>> from detcore.ops import complete_box_iou_loss
        >>> a = torch.tensor([[0., 0, 10, 10]], requires_grad=True)
        >>> loss = complete_box_iou_loss(a, torch.tensor([[20., 0, 30, 10]]), reduction="mean")
        >>> loss.item()
        1.399999976158142
        >>> loss.backward()

    See Also:
        `paired_box_iou`.
    """
    return _box_loss("complete_box_iou_loss", boxes1, boxes2, "ciou", reduction, eps)


@named_errors
def sigmoid_focal_loss(
    inputs: Tensor,
    targets: Tensor,
    alpha: float = 0.25,
    gamma: float = 2,
    reduction: str = "none",
) -> Tensor:
    """Focal loss of logits against targets of 0 and 1 (Lin et al., ICCV 2017).

    Args:
        inputs: [...] logits, a floating dtype.
        targets: [...] of 0 and 1, the same shape and dtype.
        alpha: weight of the positive class in 0..1, 1 - alpha is that of the negative; -1: no
            weights.
        gamma: how much examples that are already right count less; 0: plain cross-entropy.
        reduction: "none" gives [...]; "mean" and "sum" give a scalar.

    Returns:
        [...] or a scalar [], in the dtype of the inputs. Differentiable any number of times.

    Raises:
        ValueError: for an alpha that is neither -1 nor in 0..1, and for an unknown reduction.

    Edge cases:
        The mean of nothing is 0.

    Cost:
        Elementwise PyTorch operations; no kernel of its own.

    Equivalents:
        torchvision.ops.sigmoid_focal_loss, the same signature. mmcv.ops.sigmoid_focal_loss takes
        class indices [N] as target, and its default reduction is "mean".

    Example:
        >>> import torch
        >>> from detcore.ops import sigmoid_focal_loss
        >>> sigmoid_focal_loss(torch.tensor([4.0, -4.0]), torch.tensor([1.0, 1.0]))
        tensor([1.4679e-06, 9.6873e-01])

    See Also:
        `generalized_box_iou_loss`.
    """
    if not (0 <= alpha <= 1 or alpha == -1):
        raise ValueError(f"sigmoid_focal_loss: alpha must be in [0, 1] or -1, got {alpha}")
    probability = inputs.sigmoid()
    missed = probability * (1 - targets) + (1 - probability) * targets
    loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none") * missed**gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return reduce_loss("sigmoid_focal_loss", loss, reduction)


def _box_loss(
    op: str, boxes1: Tensor, boxes2: Tensor, kind: str, reduction: str, eps: float
) -> Tensor:
    loss = 1 - paired_box_iou(boxes1, boxes2, kind, eps)
    return reduce_loss(op, loss, reduction)


def reduce_loss(op: str, loss: Tensor, reduction: str) -> Tensor:
    """The loss as it is, its sum or its mean; the mean of nothing is 0."""
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean() if loss.numel() else loss.sum()
    # torchvision's tests, and so perhaps those of its users, look for "Invalid"
    raise ValueError(f"{op}: Invalid reduction '{reduction}': it must be none, mean or sum")
