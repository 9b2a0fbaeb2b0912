"""Threshold, best candidates, NMS within classes and best detections in plain PyTorch."""

import torch
from torch import Tensor

from .nms import nms


def multiclass_nms(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    candidates_per_class: int = 400,
    max_per_image: int = 100,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Padded boxes, scores, labels, and counts, as in `detcore.ops.multiclass_nms`."""
    batch, _, classes = scores.shape
    out_boxes = boxes.new_zeros(batch, max_per_image, 4)
    out_scores = scores.new_zeros(batch, max_per_image)
    labels = torch.full((batch, max_per_image), -1, device=boxes.device)
    counts = torch.zeros(batch, dtype=torch.int64, device=boxes.device)
    for b in range(batch):
        found = [(boxes[b, :0].reshape(-1, 4), scores[b, :0].flatten(), labels[b, :0])]
        for c in range(classes):
            box = boxes[b] if boxes.dim() == 3 else boxes[b, :, c]
            score = scores[b, :, c]
            candidate = (score > score_threshold) & ~box.isnan().any(dim=1)
            box, score = box[candidate], score[candidate]
            order = score.sort(descending=True, stable=True).indices[:candidates_per_class]
            box, score = box[order], score[order]
            keep = nms(box, score, iou_threshold)
            found.append((box[keep], score[keep], torch.full_like(keep, c)))
        box, score, label = (torch.cat(values) for values in zip(*found, strict=True))
        order = score.sort(descending=True, stable=True).indices[:max_per_image]
        count = len(order)
        out_boxes[b, :count], out_scores[b, :count] = box[order], score[order]
        labels[b, :count], counts[b] = label[order], count
    return out_boxes, out_scores, labels, counts
