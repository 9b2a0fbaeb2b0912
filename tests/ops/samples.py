"""Inputs that tests of several ops and the smoke test of a GPU share; torch is all they need."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from detcore import ops

Call = tuple[Callable[..., Any], list[Tensor]]

# read a count back to size their result
SYNCING = ("nms", "batched_nms", "soft_nms")
BACKWARD = ("box_iou", "paired_box_iou", "decode_boxes", "roi_align", "roi_align channels-last")


def random_boxes(
    n: int, extent: float = 100.0, side: float = 40.0, seed: int = 0, whole: bool = False
) -> Tensor:
    """[n, 4] float64 xyxy boxes; whole: on integer coordinates, so that IoUs hit thresholds."""
    g = torch.Generator().manual_seed(seed * 1000003 + n)
    low = torch.rand(n, 2, generator=g, dtype=torch.float64) * extent
    size = torch.rand(n, 2, generator=g, dtype=torch.float64) * side + 1
    boxes = torch.cat((low, low + size), dim=1)
    return boxes.round() if whole else boxes


def scores_for(n: int, seed: int = 0, levels: int | None = None) -> Tensor:
    """[n]; levels: rounded to so many values, so that many tie."""
    scores = torch.rand(n, generator=torch.Generator().manual_seed(seed + n), dtype=torch.float64)
    return scores if levels is None else (scores * levels).floor() / levels


def calls(seed: int = 0) -> dict[str, Call]:
    """Every op as a function of tensors alone, and those tensors, on the CPU."""
    g = torch.Generator().manual_seed(seed)
    boxes, others = (random_boxes(60, seed=seed + s).float() for s in (1, 2))
    scores, ids = scores_for(60, seed).float(), torch.randint(0, 3, (60,), generator=g)
    deltas, grid = torch.randn(60, 4, generator=g) / 4, torch.randn(2, 12, 6, 8, generator=g)
    cells = torch.tensor([[-8.0, -8, 8, 8], [-4, -9, 4, 9]])
    fine, coarse = (torch.randn(2, 8, s, s, generator=g) for s in (24, 12))
    last = fine.to(memory_format=torch.channels_last)
    rois = torch.cat((torch.randint(0, 2, (60, 1), generator=g), boxes / 6), 1)
    per_class = torch.stack([scores, scores.flip(0)], 1)[None]
    nms_of_classes = lambda b, s: ops.multiclass_nms(b, s, 0.1, 0.4, 50, 30)  # noqa: E731
    return {
        "box_iou": (ops.box_iou, [boxes, others]),
        "complete_box_iou": (ops.complete_box_iou, [boxes, others]),
        "box_iou_out": (lambda a, b, out: ops.box_iou(a, b, out=out),
                        [boxes, others, torch.zeros(60, 60)]),
        "paired_box_iou": (lambda a, b: ops.paired_box_iou(a, b, "giou"), [boxes, others]),
        "match_boxes": (lambda a, b: tuple(ops.match_boxes(a, b)), [boxes[:7], others]),
        "match_boxes of images": (
            lambda *a: tuple(ops.match_boxes(*a)),
            [boxes[:7], others, torch.tensor([0, 3, 7]), torch.tensor([0, 31, 60])]),
        "encode_boxes": (ops.encode_boxes, [boxes, others]),
        "decode_boxes": (ops.decode_boxes, [deltas, boxes]),
        "decode_dense": (lambda m, a: ops.decode_dense(m, a, 8, "delta"), [grid, cells]),
        "nms": (lambda b, s: ops.nms(b, s, 0.4), [boxes, scores]),
        "batched_nms": (lambda b, s, i: ops.batched_nms(b, s, i, 0.4), [boxes, scores, ids]),
        "soft_nms": (ops.soft_nms, [boxes, scores]),
        "multiclass_nms": (nms_of_classes, [boxes[None], per_class]),
        "roi_align": (lambda x, r: ops.roi_align(x, r, 3, 0.5, 2), [fine, rois]),
        "roi_align channels-last": (lambda x, r: ops.roi_align(x, r, 3, 0.5, 2), [last, rois]),
        "multiscale_roi_align": (
            lambda x, y, r: ops.multiscale_roi_align([x, y], r, 3, [0.5, 0.25], 2, 8, 1),
            [fine, coarse, rois]),
    }  # fmt: skip
