"""Overlap of two rotated boxes with 50 digits, by another way than the kernels'.

One box is cut by the four sides of the other, corner by corner (Sutherland and Hodgman, 1974).
"""

from collections.abc import Sequence

from mpmath import mp, mpf

Point = tuple[mpf, mpf]


def exact_iou(box1: Sequence[float], box2: Sequence[float]) -> float:
    """The IoU of two cxcywhr boxes, whose numbers are taken as they are."""
    with mp.workdps(50):
        first, second = _corners(box1), _corners(box2)
        inter = _area(_cut(first, second))
        union = _area(first) + _area(second) - inter
        return float(inter / union)


def _corners(box: Sequence[float]) -> list[Point]:
    x, y, w, h, degrees = map(mpf, box)
    cos, sin = mp.cos(mp.radians(degrees)), mp.sin(mp.radians(degrees))
    return [
        (x + (u * w * cos + v * h * sin) / 2, y + (v * h * cos - u * w * sin) / 2)
        for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]


def _area(polygon: list[Point]) -> mpf:
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return mp.fsum(p[0] * q[1] - q[0] * p[1] for p, q in pairs) / 2 if polygon else mpf(0)


def _cut(polygon: list[Point], by: list[Point]) -> list[Point]:
    for a, b in zip(by, by[1:] + by[:1], strict=True):
        side = [(b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) for p in polygon]
        kept: list[Point] = []
        for k, (p, at) in enumerate(zip(polygon, side, strict=True)):
            q, next_at = polygon[(k + 1) % len(polygon)], side[(k + 1) % len(polygon)]
            if at >= 0:
                kept.append(p)
            if (at < 0) != (next_at < 0):
                part = at / (at - next_at)
                kept.append((p[0] + part * (q[0] - p[0]), p[1] + part * (q[1] - p[1])))
        polygon = kept
    return polygon
