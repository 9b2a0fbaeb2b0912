"""KITTI's object evaluation in straight loops over plain numbers: what `kitti_metrics` must give.

Objects are dicts of the columns of a line. Nothing of detcore is used: overlaps are computed by
cutting polygons (Sutherland and Hodgman, 1974), in the camera's own coordinates.
"""

import math
from typing import Any

Row = dict[str, Any]
Point = tuple[float, float]

COLUMNS = (
    *("type", "truncated", "occluded", "alpha", "left", "top", "right", "bottom"),
    *("h", "w", "l", "x", "y", "z", "rotation_y", "score"),
)
LEAST_IOU = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEUTRAL = {"Car": "Van", "Pedestrian": "Person_sitting"}
LEVELS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}
FIGURES = {"AP_2d": "2d", "AP_bev": "bev", "AP_3d": "3d", "AOS": "2d"}


def row(line: str) -> Row:
    words = line.split()
    return {"type": words[0], **dict(zip(COLUMNS[1:], map(float, words[1:]), strict=False))}


def line(of: Row) -> str:
    return " ".join(str(of[name]) for name in COLUMNS if name in of)


# --- overlaps -------------------------------------------------------------------------------------
def shared_2d(a: Row, b: Row) -> float:
    width = min(a["right"], b["right"]) - max(a["left"], b["left"])
    height = min(a["bottom"], b["bottom"]) - max(a["top"], b["top"])
    return width * height if width > 0 and height > 0 else 0.0


def area_2d(a: Row) -> float:
    return float((a["right"] - a["left"]) * (a["bottom"] - a["top"]))


def corners(a: Row) -> list[Point]:
    """Of the rectangle on the road, x and z; rotation_y turns l from x towards -z."""
    c, s = math.cos(a["rotation_y"]), math.sin(a["rotation_y"])
    half = [(i * a["l"] / 2, j * a["w"] / 2) for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    return [(a["x"] + c * along + s * across, a["z"] - s * along + c * across)
            for along, across in half]  # fmt: skip


def shared_ground(a: Row, b: Row) -> float:
    if min(a["l"], a["w"], b["l"], b["w"]) <= 0:
        return 0.0
    polygon, knife = corners(a), corners(b)
    for (x1, y1), (x2, y2) in zip(knife, knife[1:] + knife[:1], strict=True):
        left = [(x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) for x, y in polygon]
        cut: list[Point] = []
        for k, (p, side) in enumerate(zip(polygon, left, strict=True)):
            q, other = polygon[k - 1], left[k - 1]
            if side * other < 0:
                t = other / (other - side)
                cut.append((q[0] + t * (p[0] - q[0]), q[1] + t * (p[1] - q[1])))
            if side >= 0:
                cut.append(p)
        polygon = cut
    area = 0.0
    for k, (x, y) in enumerate(polygon):
        area += polygon[k - 1][0] * y - x * polygon[k - 1][1]
    return area / 2


def iou(a: Row, b: Row, space: str) -> float:
    if space == "2d":
        shared, first, second = shared_2d(a, b), area_2d(a), area_2d(b)
    else:
        shared, first, second = shared_ground(a, b), a["l"] * a["w"], b["l"] * b["w"]
    if space == "3d":
        shared *= max(0.0, min(a["y"], b["y"]) - max(a["y"] - a["h"], b["y"] - b["h"]))
        first, second = first * a["h"], second * b["h"]
    return shared / (first + second - shared) if shared > 0 else 0.0


# --- what counts ----------------------------------------------------------------------------------
def same(a: str, b: str | None) -> bool:
    return b is not None and a.lower() == b.lower()


def state_of_object(a: Row, name: str, level: str) -> str:
    height, occluded, truncated = LEVELS[level]
    if same(a["type"], NEUTRAL.get(name)):
        return "neutral"
    if not same(a["type"], name):
        return "other"
    hard = a["occluded"] > occluded or a["truncated"] > truncated
    return "neutral" if hard or a["bottom"] - a["top"] <= height else "asked"


def state_of_detection(a: Row, name: str, level: str) -> str:
    if abs(a["bottom"] - a["top"]) < LEVELS[level][0]:
        return "low"
    return "counted" if same(a["type"], name) else "other"


# --- matching -------------------------------------------------------------------------------------
def first_pass(truth: list[Row], found: list[Row], overlap: Any, name: str, level: str) -> Any:
    taken = [False] * len(found)
    scores = []
    for i, thing in enumerate(truth):
        state = state_of_object(thing, name, level)
        if state == "other":
            continue
        best = -1
        for j, one in enumerate(found):
            if taken[j] or state_of_detection(one, name, level) == "other":
                continue
            if overlap[j][i] > LEAST_IOU[name] and (
                best < 0 or one["score"] > found[best]["score"]
            ):
                best = j
        if best >= 0:
            taken[best] = True
            if state == "asked" and state_of_detection(found[best], name, level) == "counted":
                scores.append(found[best]["score"])
    return scores


def second_pass(
    truth: list[Row], found: list[Row], overlap: Any, name: str, level: str, least: float, d2: bool
) -> tuple[int, int, float]:
    taken = [False] * len(found)
    right, wrong, similarity = 0, 0, 0.0
    for i, thing in enumerate(truth):
        state = state_of_object(thing, name, level)
        if state == "other":
            continue
        best, best_overlap, best_is_low = -1, 0.0, False
        for j, one in enumerate(found):
            kind = state_of_detection(one, name, level)
            if kind == "other" or taken[j] or one["score"] < least:
                continue
            if not overlap[j][i] > LEAST_IOU[name]:
                continue
            if kind == "counted" and (overlap[j][i] > best_overlap or best_is_low):
                best, best_overlap, best_is_low = j, overlap[j][i], False
            elif kind == "low" and best < 0:
                best, best_is_low = j, True
        if best < 0:
            continue
        taken[best] = True
        if state == "asked" and not best_is_low:
            right += 1
            similarity += (1 + math.cos(thing["alpha"] - found[best]["alpha"])) / 2
    for j, one in enumerate(found):
        if state_of_detection(one, name, level) != "counted" or taken[j] or one["score"] < least:
            continue
        forgiven = False
        for thing in truth:
            if d2 and same(thing["type"], "DontCare") and area_2d(one) > 0:
                forgiven |= shared_2d(one, thing) / area_2d(one) > LEAST_IOU[name]
        wrong += not forgiven
    return right, wrong, similarity


def thresholds_of(scores: list[float], objects: int) -> list[float]:
    scores = sorted(scores, reverse=True)
    chosen, recall = [], 0.0
    for k, score in enumerate(scores):
        left = (k + 1) / objects
        right = (k + 2) / objects if k < len(scores) - 1 else left
        if right - recall < recall - left and k < len(scores) - 1:
            continue
        chosen.append(score)
        recall += 1.0 / 40.0
    return chosen


# --- figures --------------------------------------------------------------------------------------
def is_measured(results: list[list[Row]], name: str, figure: str) -> bool:
    mine = [one for found in results for one in found if same(one["type"], name)]
    if figure == "AOS" and any(one["alpha"] == -10 for found in results for one in found):
        return False
    if figure == "AP_bev":
        return any(one["x"] != -1000 for one in mine)
    if figure == "AP_3d":
        return any(one["y"] != -1000 for one in mine)
    return any(one["left"] >= 0 for one in mine)


def plain_figure(
    labels: list[list[Row]], results: list[list[Row]], name: str, figure: str, level: str
) -> list[float] | None:
    """The 41 values of a figure's curve; None where there is none."""
    objects = sum(state_of_object(a, name, level) == "asked" for truth in labels for a in truth)
    if not objects or not is_measured(results, name, figure):
        return None
    space = FIGURES[figure]
    pairs = [
        (truth, found, [[iou(one, thing, space) for thing in truth] for one in found])
        for truth, found in zip(labels, results, strict=True)
    ]
    scores: list[float] = []
    for truth, found, overlap in pairs:
        scores += first_pass(truth, found, overlap, name, level)
    curve = [0.0] * 41
    for k, least in enumerate(thresholds_of(scores, objects)):
        right, wrong, similarity = 0, 0, 0.0
        for truth, found, overlap in pairs:
            counts = second_pass(truth, found, overlap, name, level, least, space == "2d")
            right, wrong, similarity = (
                a + b for a, b in zip((right, wrong, similarity), counts, strict=True)
            )
        if right + wrong:
            curve[k] = (similarity if figure == "AOS" else right) / (right + wrong)
    return [max(curve[k:]) for k in range(41)]


def plain_mean(curve: list[float] | None, points: int) -> float | None:
    if curve is None:
        return None
    return sum(curve[1:]) / 40 if points == 40 else sum(curve[k] for k in range(0, 41, 4)) / 11
