"""Detections of a whole batch from boxes and class scores, in one call with fixed shapes."""

import torch
from torch import Tensor

from ._derivatives import batched_by_rows, not_differentiable
from ._fake import one_device
from ._route import bind, numpy_too

_multiclass_nms = bind("multiclass_nms")


@numpy_too
def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    candidates_per_class: int = 400,
    max_per_image: int = 100,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Score threshold, top-k and NMS per class, and top-k per image, for a whole batch.

    This is the post-processing of torchvision's SSD and RetinaNet, without a loop over images or
    classes. No shape depends on the data.

    Args:
        boxes: [B, N, 4] xyxy, pixels, a floating dtype; or [B, N, C, 4] with one box per class.
            Rotated boxes are [B, N, 5] or [B, N, C, 5] cxcywhr: centre, width and height in pixels,
            angle in degrees.
        scores: [B, N, C], a floating dtype; higher is better. A slice such as `scores[..., 1:]`
            (without a background class) or a transposed [B, C, N] is read without a copy.
        score_threshold: only scores above this count, compared in the dtype of `scores`.
        iou_threshold: threshold of the NMS within each class, as in `nms` or `nms_rotated`; at
            least 0.
        candidates_per_class: how many of the best scores of each class enter its NMS; at least 1.
        max_per_image: how many detections an image has at most, over all classes; at least 1.

    Returns:
        boxes [B, max_per_image, 4 or 5], scores [B, max_per_image], labels int64 [B, max_per_image]
        (columns of `scores`) and counts int64 [B]. The detections of an image come by descending
        score; equal scores by class, then by box index. Places beyond an image's count hold zeros
        and label -1. Nothing has a gradient.

    Raises:
        ValueError: for a wrong shape, dtype or device, a negative iou_threshold, a NaN
            score_threshold, or a number below 1.

    Edge cases:
        A NaN score, a box with NaN, or a rotated box with a number that is not finite, is no
        candidate and takes nobody's place. An image without
        candidates has count 0.

    Cost:
        Usually one pass over the scores. Memory O(B * max_per_image + C * candidates_per_class) on
        the CPU. On CUDA two launches for the batch and no host-device sync, so a CUDA graph can
        capture it. Deterministic.

    Equivalents:
        The body of SSD.postprocess_detections in torchvision after the softmax, which
        loops over images and classes in Python. mmdet's multiclass_nms has the same purpose.

    Example:
        >>> import torch
        >>> from detcore.ops import multiclass_nms
        >>> boxes = torch.tensor([[[0., 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30]]])
        >>> scores = torch.tensor([[[0.9, 0.1], [0.8, 0.6], [0.0, 0.7]]])
        >>> _, best, labels, counts = multiclass_nms(boxes, scores, 0.3, 0.5, max_per_image=4)
        >>> best, labels, counts
        (tensor([[0.9000, 0.7000, 0.6000, 0.0000]]), tensor([[ 0,  1,  1, -1]]), tensor([3]))

    See Also:
        `batched_nms` for a single list of boxes.
    """
    most = 2**31 - 1  # rows of an image in the result: more can't be addressed
    if isinstance(max_per_image, int) and max_per_image > most:
        raise ValueError(
            f"multiclass_nms: max_per_image must be at most {most}, got {max_per_image}"
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
        boxes.new_empty((batch, max_per_image, boxes.shape[-1])),
        scores.new_empty((batch, max_per_image)),
        boxes.new_empty((batch, max_per_image), dtype=torch.int64),
        boxes.new_empty((batch,), dtype=torch.int64),
    )


batched_by_rows("multiclass_nms", tensors=2)
not_differentiable("multiclass_nms", "detach its boxes and scores, and learn from its inputs")
