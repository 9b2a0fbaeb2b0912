"""Soft non-maximum suppression: boxes that overlap a selected one keep a lower score."""

import torch
from torch import Tensor

from ._derivatives import not_differentiable
from ._fake import one_device
from ._route import bind, numpy_too

_soft_nms = bind("soft_nms")


@numpy_too
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
) -> tuple[Tensor, Tensor]:
    """Select boxes by descending score and lower the scores of those that overlap a selected one.

    Soft-NMS (Bodla et al., ICCV 2017). The box with the highest score is selected (equal scores:
    the lowest index). Then the scores of all remaining boxes decay by their IoU with it. This
    repeats until no box is left.

    Args:
        boxes: [N, 4] xyxy, pixels, a floating dtype.
        scores: [N], a floating dtype; higher is better.
        iou_threshold: linear: a score decays if its IoU is above this; at least 0. Gaussian ignores
            it.
        sigma: gaussian: the factor is exp(-IoU^2 / sigma); positive. Linear ignores it.
        min_score: a box is removed once its score is below this; at least 0.
        method: "linear" (the factor is 1 - IoU) or "gaussian".

    Returns:
        int64 [K], the indices in order of selection; and [K], their decayed scores in the dtype of
        `scores`, which never ascend. Neither has a gradient: take `scores[keep]`.

    Raises:
        ValueError: for a wrong shape, dtype, device or method, a negative threshold or score, and a
            sigma that is not positive.

    Edge cases:
        Boxes and scores with NaN are never selected and lower nothing. An IoU that is NaN (two
        boxes without area, or infinite ones) lowers nothing. Everything is computed in float64 if
        boxes or scores are float64, otherwise in float32.

    Cost:
        Each selection touches only the blocks of 64 boxes that overlap the selected box. Memory
        O(N). One thread, since each selection waits for the one before. On CUDA O(N * K) in one
        launch, and one host-device sync. Deterministic.

    Equivalents:
        mmcv.ops.soft_nms returns (boxes with decayed scores [K, 5], indices) and runs on the CPU;
        ours runs on the tensors' device. torchvision has no soft-NMS.

    Example:
        >>> import torch
        >>> from detcore.ops import soft_nms
        >>> boxes = torch.tensor([[0., 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]])
        >>> keep, decayed = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]))
        >>> keep, decayed  # the IoU of the first two is 0.8: 0.8 becomes 0.8 * (1 - 0.8)
        (tensor([0, 2, 1]), tensor([0.9000, 0.7000, 0.1600]))

    See Also:
        `nms`, which drops such boxes.
    """
    return _soft_nms(boxes, scores, iou_threshold, sigma, min_score, method)


@torch.library.register_fake("detcore::soft_nms")
def _(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: str,
) -> tuple[Tensor, Tensor]:
    one_device("soft_nms", boxes=boxes, scores=scores)
    kept = torch.library.get_ctx().new_dynamic_size()
    return boxes.new_empty((kept,), dtype=torch.int64), scores.new_empty((kept,))


not_differentiable("soft_nms", "take scores by the indices that it gives: scores[keep]")
