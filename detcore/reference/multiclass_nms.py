"""Threshold, best candidates, NMS within classes and best detections in plain PyTorch."""

from collections.abc import Callable

import torch
from torch import Tensor

from .nms import nms
from .nms_rotated import nms_rotated


def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    candidates_per_class: int = 400,
    max_per_image: int = 100,
    suppress: Callable[[Tensor, Tensor, float], Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Padded boxes, scores, labels, and counts, as in `detcore.ops.multiclass_nms`.

    suppress: takes the place of `nms` or, of rotated boxes, of `nms_rotated`.
    """
    batch, _, classes = scores.shape
    numbers = boxes.shape[-1]
    rotated = numbers == 5
    suppress = suppress or (nms_rotated if rotated else nms)
    out_boxes = boxes.new_zeros(batch, max_per_image, numbers)
    out_scores = scores.new_zeros(batch, max_per_image)
    labels = torch.full((batch, max_per_image), -1, device=boxes.device)
    counts = torch.zeros(batch, dtype=torch.int64, device=boxes.device)
    for b in range(batch):
        found = [(boxes[b, :0].reshape(-1, numbers), scores[b, :0].flatten(), labels[b, :0])]
        for c in range(classes):
            box = boxes[b] if boxes.dim() == 3 else boxes[b, :, c]
            score = scores[b, :, c]
            sound = box.isfinite().all(dim=1) if rotated else ~box.isnan().any(dim=1)
            candidate = (score > score_threshold) & sound
            box, score = box[candidate], score[candidate]
            order = score.sort(descending=True, stable=True).indices[:candidates_per_class]
            box, score = box[order], score[order]
            keep = suppress(box, score, iou_threshold)
            found.append((box[keep], score[keep], torch.full_like(keep, c)))
        box, score, label = (torch.cat(values) for values in zip(*found, strict=True))
        order = score.sort(descending=True, stable=True).indices[:max_per_image]
        count = len(order)
        out_boxes[b, :count], out_scores[b, :count] = box[order], score[order]
        labels[b, :count], counts[b] = label[order], count
    return out_boxes, out_scores, labels, counts
