"""What a detector does wrong: errors by kind, classes taken for others, the worst pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detcore.evaluation.matching import WRONG, ImageMatch
from detcore.utils.json_types import Json

# of detections, in the order in which they are asked after; objects are "missed"
KINDS = ("location", "class", "duplicate", "background", "both")
MISSED = "missed"
BACKGROUND = "background"


@dataclass(frozen=True)
class Mistakes:
    """What is wrong in one image.

    kinds: of each detection, one of `KINDS`, or None for one that is right or forgiven.
    missed: ``[m]`` whether an object is missed.
    """

    match: ImageMatch
    kinds: list[str | None]
    missed: NDArray[np.bool_]

    @property
    def cost(self) -> float:
        """How bad the image is: the wrong detections' confidences, and 1 for each object missed."""
        rows = zip(self.match.detections, self.kinds, strict=True)
        return float(sum(r["score"] for r, kind in rows if kind) + self.missed.sum())


def mistakes_of(match: ImageMatch, *, iou: float = 0.5, background: float = 0.1) -> Mistakes:
    """Name each error's kind, after TIDE (Bolya et al., ECCV 2020), simplified.

    A wrong detection is the first of these that fits:

    - location: it meets an object of its class, at an IoU from `background` to below `iou`
    - class: it meets one of another class at `iou` or more
    - duplicate: it meets one of its class at `iou` or more, which a surer detection found
    - background: it meets nothing at `background` or more
    - both: class and location are wrong

    Missed is an object that nothing found and that no location or class error is about. TIDE
    weighs each kind by the AP that its repair would bring; this counts, at one confidence.
    """
    overlap, same = match.overlap, match.same_class
    objects = len(match.objects)
    own = np.where(same, overlap, 0.0)
    other = np.where(same, 0.0, overlap)
    kinds: list[str | None] = []
    missed = match.unfound
    for k, partner in enumerate(match.partner):
        if partner != WRONG:
            kinds.append(None)
            continue
        near, far = (float(o[k].max()) if objects else 0.0 for o in (own, other))
        if background <= near < iou:
            kinds.append("location")
            missed[own[k].argmax()] = False
        elif far >= iou:
            kinds.append("class")
            missed[other[k].argmax()] = False
        elif near >= iou:
            kinds.append("duplicate")
        elif max(near, far) < background:
            kinds.append("background")
        else:
            kinds.append("both")
    return Mistakes(match, kinds, missed)


def errors_by_kind(mistakes: list[Mistakes], categories: list[Json]) -> Json:
    """Counts of `mistakes_of`.

    Returns:
        ``counts``: of each kind and ``missed``; ``per_class``: ``name`` and the same, of
        detections by the class they name, of missed objects by their own.
    """
    names = (*KINDS, MISSED)
    rows = {c["id"]: dict.fromkeys(names, 0) for c in categories}
    for one in mistakes:
        for r, kind in zip(one.match.detections, one.kinds, strict=True):
            if kind:
                rows[r["category_id"]][kind] += 1
        for a, gone in zip(one.match.objects, one.missed, strict=True):
            rows[a["category_id"]][MISSED] += int(gone)
    return {
        "counts": {kind: sum(row[kind] for row in rows.values()) for kind in names},
        "per_class": [{"name": c["name"], **rows[c["id"]]} for c in categories],
    }


def confusion_matrix(
    matches: list[ImageMatch], categories: list[Json], *, iou: float = 0.5
) -> Json:
    """Which class is taken for which.

    Matches within a class come first, so the diagonal counts what precision and recall count. Of
    the rest each detection, by descending score, takes the free object that it overlaps most, of
    any class, at `iou` or more.

    Returns:
        ``classes``: the names and "background"; ``matrix``: counts, a row per true class, a column
        per class named. The last row holds detections of nothing, the last column objects that
        nothing found. Forgiven detections are nowhere.
    """
    place = {c["id"]: k for k, c in enumerate(categories)}
    nothing = len(categories)
    matrix = np.zeros((nothing + 1, nothing + 1), np.int64)
    for match in matches:
        wanted = [place[a["category_id"]] for a in match.objects]
        free = match.unfound
        for k, r in enumerate(match.detections):
            row, named = int(match.partner[k]), place[r["category_id"]]
            if row == WRONG and free.any():
                allowed = np.where(free, match.overlap[k], -1.0)
                best = int(allowed.argmax())
                if allowed[best] >= iou:
                    row, free[best] = best, False
            if row >= 0:
                matrix[wanted[row], named] += 1
            elif row == WRONG:
                matrix[nothing, named] += 1
        for row in np.flatnonzero(free).tolist():
            matrix[wanted[row], nothing] += 1
    return {"classes": [*(c["name"] for c in categories), BACKGROUND], "matrix": matrix.tolist()}


def worst(mistakes: list[Mistakes], count: int) -> list[Mistakes]:
    """The `count` images of the highest cost, none without a mistake; equal ones in their order."""
    ranked = sorted(mistakes, key=lambda one: -one.cost)
    return [one for one in ranked[:count] if one.cost > 0]
