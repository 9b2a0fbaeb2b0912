"""KITTI's rules for one picture: what counts, and which detection belongs to which object.

After the object development kit of the KITTI benchmark (Geiger et al., CVPR 2012; its 3D and
bird's-eye parts of 2017): who counts, who is neutral, and both passes of its matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detcore import ops
from detcore.data.readers.kitti_labels import Floats, KittiObjects
from detcore.evaluation.matching import shares_inside

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Level:
    """A difficulty: which objects are asked for, and how high a detection must be.

    height: pixels; an object must be higher, a detection at least as high. occluded, truncated: the
    most of an object.
    """

    name: str
    height: float
    occluded: float
    truncated: float


@dataclass(frozen=True)
class Category:
    """A class that is measured. iou: what a match must exceed. neutral: the class beside it."""

    name: str
    iou: float
    neutral: str | None = None


LEVELS = (Level("easy", 40, 0, 0.15), Level("moderate", 25, 1, 0.3), Level("hard", 25, 2, 0.5))
CATEGORIES = (
    Category("Car", 0.7, "Van"),
    Category("Pedestrian", 0.5, "Person_sitting"),
    Category("Cyclist", 0.5),
)
SPACES = ("2d", "bev", "3d")  # where boxes are compared: in the picture, from above, in space


@dataclass(frozen=True)
class Overlaps:
    """How the n detections of a picture lie on its m objects.

    iou: of each of `SPACES` [n, m]. similarity: of their angles of observation [n, m], 0..1.
    in_region: [n, r], the share of a detection in each of the DontCare regions.
    """

    iou: dict[str, Floats]
    similarity: Floats
    in_region: Floats


@dataclass(frozen=True)
class Case:
    """A picture as one class, space and level sees it, with m objects that take part.

    candidates: of each object the detections that exceed the IoU, in the file's order: row, IoU and
        similarity of the angles. Those of other classes are among them where they are too low for
        the level, since the devkit looks at the height first.
    asked: of each object whether it is asked for; the others are neutral.
    low: rows of detections that are too low; neither right nor wrong.
    wrong: rows of those that are wrong if they match nothing: of the class, high enough, and in no
        DontCare region.
    scores: of all detections of the picture.
    order: the scores of those of the class that are high enough, ascending.
    """

    candidates: list[list[tuple[int, float, float]]]
    asked: list[bool]
    low: frozenset[int]
    wrong: list[int]
    scores: list[float]
    order: list[float]


@dataclass(frozen=True)
class Counts:
    """Right and wrong detections, and the sum of the right ones' similarity."""

    right: int = 0
    wrong: int = 0
    similarity: float = 0.0


def is_asked(labels: KittiObjects, level: Level) -> Bools:
    """[n]: whether an object is high, visible and whole enough."""
    asked: Bools = (
        (labels.heights > level.height)
        & (labels.occluded <= level.occluded)
        & (labels.truncated <= level.truncated)
    )
    return asked


def overlaps(labels: KittiObjects, results: KittiObjects, spaces: Sequence[str]) -> Overlaps:
    """Of one picture, in float64; of the spaces that are wanted."""
    found, there = torch.from_numpy(results.boxes), torch.from_numpy(labels.boxes)
    iou = {"2d": ops.box_iou(found, there).numpy()} if "2d" in spaces else {}
    if set(spaces) - {"2d"}:
        found3d, there3d = (torch.from_numpy(o.boxes3d()) for o in (results, labels))
        for space, measure in (("bev", ops.bev_iou), ("3d", ops.box3d_iou)):
            if space in spaces:
                iou[space] = measure(found3d, there3d).numpy()
    # the cosine of the difference, which itself may be beyond all numbers
    angle, other = results.alpha[:, None], labels.alpha[None]
    cosine = np.cos(angle) * np.cos(other) + np.sin(angle) * np.sin(other)
    regions = torch.from_numpy(labels.boxes[labels.is_dont_care])
    return Overlaps(iou, (1 + cosine) / 2, shares_inside(found, regions).numpy())


def cases(
    labels: KittiObjects, results: KittiObjects, category: Category, lying: Overlaps, space: str
) -> list[Case]:
    """One picture for each of `LEVELS`."""
    mine = labels.is_a(category.name)
    rows = np.flatnonzero(mine | labels.is_a(category.neutral) if category.neutral else mine)
    own = results.is_a(category.name)
    iou, similarity = lying.iou[space], lying.similarity
    hits = [
        [(j, float(iou[j, i]), float(similarity[j, i])) for j in _rows(iou[:, i] > category.iou)]
        for i in rows.tolist()
    ]
    # regions have no place in space, so that they count in the picture alone
    forgiven = (lying.in_region > category.iou).any(1) if space == "2d" else np.zeros_like(own)
    scores = results.score.tolist()
    seen = []
    for level in LEVELS:
        low = np.abs(results.heights) < level.height
        asked = (mine & is_asked(labels, level))[rows].tolist()
        taking_part = own | low
        candidates = [[hit for hit in row if taking_part[hit[0]]] for row in hits]
        high = own & ~low
        seen.append(
            Case(
                candidates=candidates,
                asked=asked,
                low=frozenset(_rows(low)),
                wrong=_rows(high & ~forgiven),
                scores=scores,
                order=np.sort(results.score[high]).tolist(),
            )
        )
    return seen


def found_scores(case: Case) -> list[float]:
    """The first pass: the scores of the detections that are right if all of them are looked at.

    Object by object, the surest detection that is still free and exceeds the IoU is taken.
    """
    taken: set[int] = set()
    found = []
    for hits, asked in zip(case.candidates, case.asked, strict=True):
        best: int | None = None
        for j, *_ in hits:
            if j not in taken and (best is None or case.scores[j] > case.scores[best]):
                best = j
        if best is not None:
            taken.add(best)
            if asked and best not in case.low:
                found.append(case.scores[best])
    return found


def counts_above(case: Case, least: float) -> Counts:
    """The second pass: what detections of this score or a higher one are right and wrong about.

    Object by object, the free detection with the highest IoU is taken. A match with a neutral
    object counts nowhere. One that is too low would be taken where no other exceeds the IoU, and
    that match would count nowhere either, so that such detections need not be looked at.
    """
    taken: set[int] = set()
    right, similarity = 0, 0.0
    for hits, asked in zip(case.candidates, case.asked, strict=True):
        best: tuple[int, float, float] | None = None
        for hit in hits:
            j, iou, _ = hit
            if j in taken or j in case.low or case.scores[j] < least:
                continue
            if best is None or iou > best[1]:
                best = hit
        if best is not None:
            taken.add(best[0])
            if asked:
                right += 1
                similarity += best[2]
    wrong = sum(j not in taken and case.scores[j] >= least for j in case.wrong)
    return Counts(right, wrong, similarity)


def _rows(flags: Bools) -> list[int]:
    return np.flatnonzero(flags).tolist()
