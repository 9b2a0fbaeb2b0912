"""Soft non-maximum suppression: what overlaps a selected box keeps a decayed score."""

import torch
from torch import Tensor

from ._fake import one_device
from ._route import bind, not_differentiable, numpy_too

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
    """Selects boxes by descending score, decaying the scores of those that overlap a selected one.

    Soft-NMS (Bodla et al., ICCV 2017). The box of the highest score is selected, equal scores by
    ascending index; then the scores of all boxes left are decayed by their IoU with it; and so on
    until none is left.

    Args:
        boxes: [N, 4] xyxy, pixels, a floating dtype.
        scores: [N], a floating dtype.
        iou_threshold: linear: a score decays where the IoU is above it (compared as a double, as
            in `nms`); at least 0. Not used by gaussian.
        sigma: gaussian: the score's factor is exp(-IoU^2 / sigma); positive. Not used by linear.
        min_score: a box whose score, from the start or after a decay, is below it is removed; at
            least 0.
        method: "linear" (factor 1 - IoU) or "gaussian".

    Returns:
        int64 [K], indices in order of selection, and [K], their decayed scores in the scores'
        dtype: they never ascend. Boxes and scores with NaN are never selected and decay nothing;
        an IoU that is NaN (two boxes without area, infinite ones) decays nothing. Computed in
        float64 if boxes or scores are, otherwise in float32. Backward through
        the scores raises RuntimeError.

    Raises:
        ValueError: for a wrong shape, dtype, device, method, a negative threshold or score, or a
            sigma that is not positive.

    Deterministic, on any number of threads. On CUDA one count is read back; nothing else syncs.
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
