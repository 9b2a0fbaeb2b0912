"""Which detection found which object: the one rule behind all figures at a single IoU."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcore import ops
from detcore.parts.box_forms import format_of, shared_areas
from detcore.utils.json_types import Json

Overlaps = NDArray[np.float64]

# instead of the row of an object
WRONG = -1
FORGIVEN = -2


@dataclass(frozen=True)
class ImageMatch:
    """One image's objects and detections, n of these by descending score.

    objects: m annotations to be found; crowds and ignored objects are not among them.
    overlap: IoU of each detection with each object, whatever their classes.
    """

    image_id: int
    objects: list[Json]
    detections: list[Json]
    partner: NDArray[np.int64]  # [n]: the row of the object found, WRONG or FORGIVEN
    overlap: NDArray[np.float64]  # [n, m]

    @property
    def unfound(self) -> NDArray[np.bool_]:
        """[m] whether an object is no detection's partner."""
        free = np.ones(len(self.objects), bool)
        free[self.partner[self.partner >= 0]] = False
        return free

    @property
    def same_class(self) -> NDArray[np.bool_]:
        """[n, m] whether a detection and an object are of one category."""
        wanted = np.array([a["category_id"] for a in self.objects], np.int64)
        named = np.array([r["category_id"] for r in self.detections], np.int64)
        out: NDArray[np.bool_] = named[:, None] == wanted
        return out


def match_images(
    ground_truth: Json, results: list[Json], *, score: float = 0.0, iou: float = 0.5
) -> list[ImageMatch]:
    """Match the detections of each image, in the order of the document's images.

    Each detection, by descending score (equal ones in the order given), takes the free object of
    its class with the highest IoU, if that reaches `iou`: COCO's greedy rule. One that otherwise
    falls on a crowd of its class (by intersection over its own area) or on an ignored object (by
    IoU) is forgiven. What a detection finds depends on surer ones alone, so a lower `score` adds
    detections and changes no match.

    Args:
        ground_truth: a COCO document, as `coco_metrics` takes it. results: COCO results.
        score: least confidence of a detection that takes part. iou: least IoU of a match.

    Deterministic.
    """
    truth, found = by_image(ground_truth["annotations"]), by_image(results)
    matches = []
    for image in ground_truth["images"]:
        kept = [r for r in found[image["id"]] if r["score"] >= score]
        matches.append(_match(image["id"], truth[image["id"]], kept, iou))
    return matches


def by_image(entries: list[Json]) -> defaultdict[int, list[Json]]:
    """Annotations or results by their image's id, in the order given."""
    grouped: defaultdict[int, list[Json]] = defaultdict(list)
    for entry in entries:
        grouped[entry["image_id"]].append(entry)
    return grouped


def is_oriented(entries: list[Json]) -> bool:
    """Whether annotations or results have boxes of five numbers; all of them are alike."""
    return bool(entries) and len(entries[0]["bbox"]) == 5


def boxes_of(entries: list[Json]) -> Tensor:
    """[n, 4] float64 xyxy out of COCO's xywh; of oriented boxes [n, 5] cxcywhr as they are."""
    numbers = 5 if is_oriented(entries) else 4
    boxes = torch.tensor([e["bbox"] for e in entries], dtype=torch.float64).reshape(-1, numbers)
    if numbers == 4:
        boxes[:, 2:] += boxes[:, :2]
    return boxes


def overlaps(boxes: Tensor, objects: Tensor, crowd: NDArray[np.bool_] | None = None) -> Overlaps:
    """[n, m] float64 IoUs of boxes with objects, as `boxes_of` gives them.

    crowd: bool [m], the objects that are crowds: with these not the IoU, but the share of the box
    that lies in them.
    """
    if not len(boxes) or not len(objects):
        return np.zeros((len(boxes), len(objects)))
    iou = ops.box_iou(boxes, objects, fmt=format_of(boxes))
    if crowd is not None and crowd.any():
        iou = torch.where(torch.from_numpy(crowd), shares_inside(boxes, objects), iou)
    out: Overlaps = iou.numpy()
    return out


def shares_inside(boxes: Tensor, regions: Tensor) -> Tensor:
    """[n, r] the share of each box that lies in each region; of upright ones half is exactly half.

    boxes [n, 4 or 5], regions [r, the same], as `boxes_of` gives them.
    """
    if boxes.shape[1] == 5:
        shared = shared_areas(boxes, regions)
    else:
        low = torch.maximum(boxes[:, None, :2], regions[:, :2])
        high = torch.minimum(boxes[:, None, 2:], regions[:, 2:])
        shared = (high - low).clamp(min=0).prod(2)
    own = ops.box_area(boxes, format_of(boxes))[:, None]
    return torch.where(shared > 0, shared / own, 0.0)


def is_ignored(annotation: Json) -> bool:
    """Whether an annotation is a crowd, or flagged to be neither asked for nor punished."""
    return bool(annotation.get("iscrowd", 0) or annotation.get("ignore", 0))


def _match(image_id: int, truth: list[Json], found: list[Json], iou: float) -> ImageMatch:
    objects = [a for a in truth if not is_ignored(a)]
    ignored = [a for a in truth if is_ignored(a)]
    found = sorted(found, key=lambda r: -r["score"])
    boxes = boxes_of(found)
    overlap = overlaps(boxes, boxes_of(objects))
    partner = np.full(len(found), WRONG)
    match = ImageMatch(image_id, objects, found, partner, overlap)
    allowed = np.where(match.same_class, overlap, -1.0)
    forgiven = _forgiven(found, boxes, ignored, iou)
    for k in range(len(found)):
        best = int(allowed[k].argmax()) if objects else -1
        if best >= 0 and allowed[k, best] >= iou:
            partner[k] = best
            allowed[:, best] = -1.0
        elif forgiven[k]:
            partner[k] = FORGIVEN
    return match


def _forgiven(
    found: list[Json], boxes: Tensor, ignored: list[Json], iou: float
) -> NDArray[np.bool_]:
    """[n] whether a box lies on a crowd or on an ignored object of its class."""
    if not ignored or not found:
        return np.zeros(len(found), bool)
    crowd = np.array([bool(a["iscrowd"]) for a in ignored])
    named = np.array([r["category_id"] for r in found])
    wanted = np.array([a["category_id"] for a in ignored])
    hit = (overlaps(boxes, boxes_of(ignored), crowd) >= iou) & (named[:, None] == wanted)
    out: NDArray[np.bool_] = hit.any(1)
    return out
