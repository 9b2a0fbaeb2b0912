"""Average precision and orientation as KITTI's object benchmark defines them.

Geiger et al., CVPR 2012; 40 recalls in place of 11 since 2019, after Simonelli et al., ICCV 2019.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from detcore.data.readers.kitti_labels import LABEL, RESULT, Floats, KittiObjects
from detcore.evaluation.kitti_matching import (
    CATEGORIES,
    LEVELS,
    SPACES,
    Case,
    Category,
    Counts,
    cases,
    counts_above,
    found_scores,
    is_asked,
    overlaps,
)
from detcore.utils.errors import UsageError
from detcore.utils.json_types import Json
from detcore.utils.text import counted

FIGURES = {
    "AP_2d": "2d",
    "AP_bev": "bev",
    "AP_3d": "3d",
    "AOS": "2d",
}  # and where boxes are matched
POINTS = (40, 11)  # numbers of recalls that a mean may be of
_STEPS = 40  # recalls 0, 1/40, ... 1 at which precision is taken
_NO_ANGLE, _NO_PLACE = -10, -1000  # what a result has where it says nothing
_SAYS_NOTHING = {"2d": "left is negative", "bev": "x is -1000", "3d": "y is -1000"}


def kitti_metrics(
    labels: Sequence[KittiObjects], results: Sequence[KittiObjects], *, points: int = 40
) -> Json:
    """2D, bird's-eye and 3D average precision, and average orientation similarity.

    Of Car (IoU above 0.7), Pedestrian and Cyclist (above 0.5), by the rules of the development kit;
    ``docs/howto/driving.md`` tells them. Precision is taken at the scores at which recall passes
    0, 1/40, ... 1, and made monotone. A precision of nothing counts as 0.

    Args:
        labels: per picture its objects, with all `LABEL` columns. results: per picture in the same
            order what was found, with a score; see `parse_objects`.
        points: 40: the mean over the recalls 1/40, ... 1. 11: over 0, 0.1, ... 1.

    Returns:
        ``task``, ``rules`` ("kitti"), ``points``, ``images``; ``recall``: 41 numbers, 0..1;
        ``per_class``: ``name``, ``iou``, ``detections``, ``objects`` per level (easy, moderate,
        hard), and ``AP_2d``, ``AP_bev``, ``AP_3d``, ``AOS`` per level, 0..1; ``curves``: of these
        four per level the precision, or the orientation similarity, at each recall. None where
        there is nothing to measure; ``notes`` says why, a sentence per reason. JSON can hold all
        of it. Deterministic: detections of equal score and overlap count in the file's order.

    Raises:
        UsageError: points is neither; the numbers of pictures differ; something was read without
            the columns that it must have here.
    """
    _check(labels, results, points)
    notes: list[str] = []
    measured = [_spaces_of(category, results, notes) for category in CATEGORIES]
    oriented = _has_angles(results, notes)
    wanted = [space for space in SPACES if any(space in spaces for spaces in measured)]
    seen = _all_cases(labels, results, measured, wanted)
    rows = []
    for category, spaces in zip(CATEGORIES, measured, strict=True):
        row = _class_row(category, labels, results)
        curves = _curves({s: seen[category.name, s] for s in spaces}, row["objects"], oriented)
        for figure, of_levels in curves.items():
            row[figure] = {
                level: None if curve is None else _mean(curve, points)
                for level, curve in of_levels.items()
            }
        rows.append({**row, "curves": curves})
        if spaces:
            notes += _told_of_few(category, row["objects"], points)
    return {
        "task": "detection",
        "rules": "kitti",
        "points": points,
        "images": len(labels),
        "recall": [k / _STEPS for k in range(_STEPS + 1)],
        "per_class": rows,
        "notes": notes,
    }


def recall_thresholds(scores: Iterable[float], objects: int) -> list[float]:
    """The scores, from the highest down, at which recall is nearest to 0, 1/40, 2/40, ...

    Args:
        scores: of the detections that found an object. objects: how many there are to find.

    A score is passed over if the recall that the next one has is nearer to the recall that is
    sought; the last one never is.
    """
    ordered = sorted(scores, reverse=True)
    sought, chosen = 0.0, []
    for k, score in enumerate(ordered):
        last = k == len(ordered) - 1
        here, then = (k + 1) / objects, (k + 2) / objects
        if not last and then - sought < sought - here:
            continue
        chosen.append(score)
        sought += 1 / _STEPS  # added up as the devkit does: rounding decides where both are as near
    return chosen


def _check(labels: Sequence[KittiObjects], results: Sequence[KittiObjects], points: int) -> None:
    if points not in POINTS:
        raise UsageError(f"kitti_metrics: points must be 40 or 11, got {points}")
    if len(labels) != len(results):
        raise UsageError(
            f"kitti_metrics: results must be of {len(labels)} pictures as labels, got "
            f"{len(results)}"
        )
    for each, columns in ((labels, LABEL), (results, RESULT)):
        for of in each:
            if np.isnan(of.numbers[:, : columns - 1]).any():
                raise UsageError(f"kitti_metrics: {of.file} was read without all {columns} columns")


def _spaces_of(
    category: Category, results: Sequence[KittiObjects], notes: list[str]
) -> tuple[str, ...]:
    """Where a class can be measured: by the devkit's rule where at least one detection is."""
    mine = [r.take(np.flatnonzero(r.is_a(category.name))) for r in results]
    if not any(map(len, mine)):
        notes.append(f"{category.name}: not among the results, so it is not measured")
        return ()
    there = {
        "2d": any((m.boxes[:, 0] >= 0).any() for m in mine),
        "bev": any((m.place[:, 0] != _NO_PLACE).any() for m in mine),
        "3d": any((m.place[:, 1] != _NO_PLACE).any() for m in mine),
    }
    if lacking := [space for space in SPACES if not there[space]]:
        why = " and ".join(_SAYS_NOTHING[space] for space in lacking)
        figures = " and ".join(figure for figure, space in FIGURES.items() if space in lacking)
        notes.append(f"{category.name}: in all results {why}, so there is no {figures}")
    if not any((np.abs(m.heights) >= LEVELS[-1].height).any() for m in mine):
        least = f"{LEVELS[-1].height:g} pixels"
        notes.append(
            f"{category.name}: no result is {least} high in the picture, and lower ones don't count"
        )
    return tuple(space for space in SPACES if there[space])


def _has_angles(results: Sequence[KittiObjects], notes: list[str]) -> bool:
    """Whether every detection says how it is turned: else the devkit has no AOS of any class."""
    for of in results:
        bad = np.flatnonzero(of.alpha == _NO_ANGLE)
        if len(bad):
            place = f"{of.file}: line {of.lines[bad[0]]}"
            notes.append(f"{place} has alpha -10, which is no angle, so there is no AOS")
            return False
    return True


def _all_cases(
    labels: Sequence[KittiObjects],
    results: Sequence[KittiObjects],
    measured: Sequence[tuple[str, ...]],
    wanted: Sequence[str],
) -> dict[tuple[str, str], list[list[Case]]]:
    """Of each class and space where it is measured the cases of each level, picture by picture."""
    seen: dict[tuple[str, str], list[list[Case]]] = {
        (category.name, space): [[] for _ in LEVELS]
        for category, spaces in zip(CATEGORIES, measured, strict=True)
        for space in spaces
    }
    for truth, found in zip(labels, results, strict=True):
        lying = overlaps(truth, found, wanted)
        for category, spaces in zip(CATEGORIES, measured, strict=True):
            for space in spaces:
                for level, case in enumerate(cases(truth, found, category, lying, space)):
                    if case.order:  # else it has nothing to be right or wrong
                        seen[category.name, space][level].append(case)
    return seen


def _class_row(
    category: Category, labels: Sequence[KittiObjects], results: Sequence[KittiObjects]
) -> Json:
    asked = [of.take(np.flatnonzero(of.is_a(category.name))) for of in labels]
    return {
        "name": category.name,
        "iou": category.iou,
        "detections": sum(int(of.is_a(category.name).sum()) for of in results),
        "objects": {
            level.name: sum(int(is_asked(of, level).sum()) for of in asked) for level in LEVELS
        },
    }


def _told_of_few(category: Category, objects: dict[str, int], points: int) -> list[str]:
    """What can't be reached where objects are fewer than the recalls that are looked for."""
    if not any(objects.values()):
        return [f"{category.name}: no object that any level asks for"]
    best = []
    for level, count in objects.items():
        if 0 < count <= _STEPS:
            reached = np.ones(len(recall_thresholds([0.0] * count, count)))
            most = _mean(_monotone(reached), points)
            best.append(f"{most:.3g} ({level}, {counted(count, 'object', 'objects')})")
    few = f"{category.name}: with so few objects no figure can be above {', '.join(best)}"
    return [few] if best else []


def _curves(
    seen: dict[str, list[list[Case]]], objects: dict[str, int], oriented: bool
) -> dict[str, dict[str, list[float] | None]]:
    """A class's curve of each figure and level; None where there is nothing to measure."""
    curves: dict[str, dict[str, list[float] | None]] = {
        figure: dict.fromkeys(objects) for figure in FIGURES
    }
    for space, of_levels in seen.items():
        for (level, count), of_level in zip(objects.items(), of_levels, strict=True):
            if count:
                precision, similarity = _at_recalls(of_level, count)
                curves[f"AP_{space}"][level] = precision
                if space == "2d" and oriented:
                    curves["AOS"][level] = similarity
    return curves


def _at_recalls(seen: Sequence[Case], objects: int) -> tuple[list[float], list[float]]:
    """Precision and orientation similarity at the 41 recalls."""
    found = [score for case in seen for score in found_scores(case)]
    thresholds = recall_thresholds(found, objects)
    totals = np.zeros((3, len(thresholds)))  # right, wrong, similarity
    for case in seen:
        alive, counts = -1, Counts()
        for k, least in enumerate(thresholds):
            # most thresholds lie between the same two detections of a picture as the one before
            count = len(case.order) - bisect_left(case.order, least)
            if count != alive:
                alive, counts = count, counts_above(case, least)
            totals[:, k] += counts.right, counts.wrong, counts.similarity
    right, wrong, similarity = totals
    shown = np.maximum(right + wrong, 1)  # where nothing is shown, nothing is right either
    return _monotone(right / shown), _monotone(similarity / shown)


def _monotone(values: Floats) -> list[float]:
    """The highest value at each recall or a higher one; 0 at those that aren't reached."""
    whole = np.zeros(_STEPS + 1)
    whole[: len(values)] = values
    highest: list[float] = np.maximum.accumulate(whole[::-1])[::-1].tolist()
    return highest


def _mean(curve: list[float], points: int) -> float:
    used = curve[1:] if points == _STEPS else curve[:: _STEPS // (points - 1)]
    return sum(used) / points
