"""Weighted boxes fusion in plain PyTorch and Python: what the kernels must give."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .box_iou import box_iou


def weighted_boxes_fusion(
    boxes: Sequence[Tensor],
    scores: Sequence[Tensor],
    labels: Sequence[Tensor],
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.55,
    skip_box_threshold: float = 0.0,
    conf_type: str = "avg",
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [K, 4], scores [K] and labels [K], as in `detcore.ops.weighted_boxes_fusion`."""
    weights = [1.0] * len(boxes) if weights is None else weights
    found = [
        (float(score * weight), m, box, int(label))
        for m, weight in enumerate(weights)
        for box, score, label in zip(boxes[m].double(), scores[m].double(), labels[m], strict=True)
        if score >= skip_box_threshold and box.isfinite().all() and score.isfinite()
    ]
    fused = []  # score, label, box
    for label in sorted({label for *_, label in found}):
        own = [row for row in found if row[3] == label]
        clusters: list[list[tuple[float, int, Tensor, int]]] = []
        for row in sorted(own, key=lambda row: -row[0]):
            means = [_mean(cluster) for cluster in clusters]
            best = -1
            if means:
                iou = box_iou(row[2][None], torch.stack(means))[0].nan_to_num(0.0)
                if iou.max() > iou_threshold:
                    best = int(iou.argmax())
            if best < 0:
                clusters.append([row])
            else:
                clusters[best].append(row)
        fused += [(_score(c, weights, conf_type), label, _mean(c)) for c in clusters]
    fused.sort(key=lambda row: -row[0])
    double = torch.float64 in (*(b.dtype for b in boxes), *(s.dtype for s in scores))
    dtype = torch.float64 if double else torch.float32
    return (
        torch.stack([box for *_, box in fused]).to(dtype) if fused else torch.zeros(0, 4).to(dtype),
        torch.tensor([score for score, *_ in fused], dtype=dtype),
        torch.tensor([label for _, label, _ in fused], dtype=torch.int64),
    )


def _mean(cluster: list[tuple[float, int, Tensor, int]]) -> Tensor:
    total = sum(score for score, *_ in cluster)
    if len(cluster) == 1 or total <= 0:
        return cluster[0][2]
    return torch.stack([score * box for score, _, box, _ in cluster]).sum(0) / total


def _score(
    cluster: list[tuple[float, int, Tensor, int]], weights: Sequence[float], conf_type: str
) -> float:
    scores = [score for score, *_ in cluster]
    present = {m for _, m, *_ in cluster}
    weight = sum(weights[m] for _, m, *_ in cluster)
    share = sum(weights[m] for m in present)
    if conf_type == "max":
        return max(scores) / max(weights)
    if conf_type == "avg":
        return sum(scores) / len(scores) * min(len(weights), len(scores)) / sum(weights)
    if conf_type == "box_and_model_avg":
        return sum(scores) / weight * share / sum(weights)
    return sum(scores) / (weight + sum(weights) - share)
