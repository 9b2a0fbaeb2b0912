from collections.abc import Callable, Iterator
from functools import partial

import torch
import torchvision
from torch import Tensor

from detcore import ops

from .. import inputs
from ..case import Case, Must, call
from .nms_rotated import by_matrix

SSDLITE = (0.001, 0.55, 300, 300)  # torchvision's ssdlite320_mobilenet_v3_large
YOLO = (0.05, 0.6, 300, 100)
AERIAL = (0.05, 0.1, 300, 300)


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    for work, make, settings, must in (
        (
            "SSDLite's 3,234 anchors x 91 classes",
            partial(ssd_like, 1, 3234, 91),
            SSDLITE,
            Must("times", 15, 50),
        ),
        ("YOLO's 4 x 8,400 cells x 80 classes", partial(yolo_like, 4, 8400, 80), YOLO, None),
        ("10 boxes x 3 classes", partial(yolo_like, 1, 10, 3), YOLO, Must("times", 1, 2)),
    ):
        yield Case(
            "multiclass_nms",
            f"multiclass_nms {work}",
            make,
            call(ops.multiclass_nms, *settings),
            {"torchvision": call(per_image, *settings)},
            _same,
            must=must,
        )
    yield Case(
        "multiclass_nms",
        "multiclass_nms 2 x 2,000 rotated boxes x 15 classes",
        partial(aerial_like, 2, 2000, 15),
        call(ops.multiclass_nms, *AERIAL),
        {"torchvision's IoU and NumPy": call(per_image, *AERIAL, batched=by_class)},
        _same,
        must=Must("times", 10, 30),
    )


def aerial_like(images: int, n: int, classes: int) -> tuple[Tensor, Tensor]:
    """Boxes [B, N, 5] over 1,024 x 1,024 pixels and scores [B, N, C], a few of them high."""
    boxes = inputs.rotated_boxes_like(images * n, 1024, 40).view(images, n, 5)
    g = torch.Generator().manual_seed(15)
    return boxes, torch.rand(images, n, classes, generator=g) ** 8


def by_class(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """`batched_nms` of rotated boxes by torchvision's matrix of IoUs and a loop in NumPy."""
    rows = [torch.where(labels == label)[0] for label in labels.unique()]
    kept = [own[by_matrix(boxes[own], scores[own], iou_threshold)] for own in rows]
    found = torch.cat([*kept, labels.new_empty(0)])
    return found[scores[found].argsort(descending=True, stable=True)]


def ssd_like(images: int, anchors: int, classes: int) -> tuple[Tensor, Tensor]:
    """Boxes [B, N, 4] on 320 x 320 pixels and scores [B, N, C - 1] behind a softmax.

    Noise under a strong background, and eight objects on which anchors gather. The background's
    column is left out by a slice, as the model does.
    """
    boxes = _scattered(images, anchors, 320, 150)
    g = torch.Generator().manual_seed(11)
    logits = torch.randn(images, anchors, classes, generator=g) * 1.5
    logits[..., 0] += 6
    for b, rows, label in _objects(boxes, 8, classes - 1):
        logits[b, rows, 1 + label] += torch.rand(len(rows), generator=g) * 8
    return boxes, logits.softmax(dim=-1)[..., 1:]


def yolo_like(images: int, cells: int, classes: int) -> tuple[Tensor, Tensor]:
    """Boxes [B, N, 4] on 640 x 640 pixels and scores [B, N, C] of sigmoids, most near 0."""
    boxes = _scattered(images, cells, 640, 200)
    g = torch.Generator().manual_seed(12)
    scores = torch.sigmoid(torch.randn(images, cells, classes, generator=g) * 1.5 - 9)
    for b, rows, label in _objects(boxes, 20, classes):
        scores[b, rows, label] = torch.rand(len(rows), generator=g)
    return boxes, scores


def _scattered(images: int, n: int, extent: float, side: float) -> Tensor:
    """[B, n, 4] xyxy: small boxes are more frequent than large ones."""
    g = torch.Generator().manual_seed(13)
    centre = torch.rand(images, n, 2, generator=g) * extent
    half = (torch.rand(images, n, 2, generator=g) ** 2 * side + 8) / 2
    return torch.cat((centre - half, centre + half), dim=-1).clamp(0, extent)


def _objects(boxes: Tensor, count: int, classes: int) -> Iterator[tuple[int, Tensor, int]]:
    """Moves some boxes onto `count` objects per image; yields image, rows and label of each."""
    g = torch.Generator().manual_seed(14)
    for b in range(len(boxes)):
        for _ in range(count):
            rows = torch.randperm(boxes.shape[1], generator=g)[:50]
            place = boxes[b, rows[:1]] + torch.randn(len(rows), 4, generator=g) * 3
            boxes[b, rows] = torch.cat((place[:, :2], place[:, 2:] + 8), dim=1)
            yield b, rows, int(torch.randint(0, classes, (1,), generator=g))


def per_image(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    candidates_per_class: int,
    max_per_image: int,
    batched: Callable[[Tensor, Tensor, Tensor, float], Tensor] = torchvision.ops.batched_nms,
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What torchvision's SSD does with an image's decoded boxes and scores: loops over classes."""
    detections = []
    for box, score in zip(boxes, scores, strict=True):
        columns = []
        for c in range(score.shape[1]):
            keep = score[:, c] > score_threshold
            best, own = score[:, c][keep], box[keep]
            best, row = best.topk(min(candidates_per_class, len(best)))
            columns.append((own[row], best, torch.full_like(best, c, dtype=torch.int64)))
        found, best, label = (torch.cat(values) for values in zip(*columns, strict=True))
        kept = batched(found, best, label, iou_threshold)[:max_per_image]
        detections.append((found[kept], best[kept], label[kept]))
    return detections


def _same(
    ours: tuple[Tensor, ...], theirs: list[tuple[Tensor, Tensor, Tensor]], *_: Tensor
) -> bool:
    """The same scores, boxes and labels: a score of its own for nearly every candidate."""
    for box, score, label, count, found in zip(*ours, theirs, strict=True):
        n = int(count)
        if not torch.equal(score[:n], found[1]) or (score[n:] != 0).any():
            return False
        # where scores tie, topk may have taken either
        apart = torch.ones(n, dtype=torch.bool, device=score.device)
        ties = score[1:n] == score[: max(n - 1, 0)]
        apart[1:] &= ~ties
        apart[:-1] &= ~ties
        if not torch.equal(box[:n][apart], found[0][apart]):
            return False
        if not torch.equal(label[:n][apart], found[2][apart]):
            return False
    return True
