"""Detections of a whole batch from boxes and class scores, in one call of fixed shapes."""

import torch
from torch import Tensor

from ._fake import one_device
from ._route import bind, not_differentiable, numpy_too

_multiclass_nms = bind("multiclass_nms")


# rows of four floats that a result may have for each image: more can't be addressed
_MOST = 2**31 - 1


@numpy_too
def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    candidates_per_class: int = 400,
    max_per_image: int = 100,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Score threshold, best candidates of each class, NMS within each class, best of each image.

    The post-processing of torchvision's SSD and RetinaNet, for a batch and without a loop over
    classes.

    Args:
        boxes: [B, N, 4] xyxy, pixels, a floating dtype; or [B, N, C, 4], a box a class.
        scores: [B, N, C], a floating dtype, higher is better. A slice such as scores[..., 1:],
            without a background class, or a transposed [B, C, N] is read where it lies.
        score_threshold: only scores above it count, compared in the scores' dtype.
        iou_threshold: of the NMS (see `nms`), which compares boxes of one class only; at least 0.
        candidates_per_class: how many of a class's best scores reach the NMS; at least 1.
        max_per_image: how many detections come out at most, over all classes; at least 1.

    Returns:
        boxes [B, max_per_image, 4] in the boxes' dtype, scores [B, max_per_image] in the scores',
        labels int64 [B, max_per_image] (columns of scores) and counts int64 [B]. Each image's
        detections come by descending score, equal scores by class and then by box index, as
        among a class's candidates; beyond its count stand boxes and scores of 0 and labels of -1.
        A NaN score or a box with NaN never comes out and takes nobody's place. Backward
        through boxes or scores raises RuntimeError.

    Raises:
        ValueError: for a wrong shape, dtype or device, a negative iou_threshold, a NaN
            score_threshold, or a number below 1.

    Deterministic, on any device and number of threads. Nothing syncs: shapes do not depend on the
    data, so a CUDA graph can hold it.
    """
    if isinstance(max_per_image, int) and max_per_image > _MOST:
        raise ValueError(
            f"multiclass_nms: max_per_image must be at most {_MOST}, got {max_per_image}"
        )
    return _multiclass_nms(
        boxes, scores, score_threshold, iou_threshold, candidates_per_class, max_per_image
    )


@torch.library.register_fake("detcore::multiclass_nms")
def _(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_per_image: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    one_device("multiclass_nms", boxes=boxes, scores=scores)
    batch = boxes.shape[0]
    return (
        boxes.new_empty((batch, max_per_image, 4)),
        scores.new_empty((batch, max_per_image)),
        boxes.new_empty((batch, max_per_image), dtype=torch.int64),
        boxes.new_empty((batch,), dtype=torch.int64),
    )


not_differentiable("multiclass_nms", "detach its boxes and scores, and learn from its inputs")
