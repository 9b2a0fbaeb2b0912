"""Overlap and hull of two rotated boxes with 50 digits, by another way than the kernels'.

One box is cut by the four sides of the other, corner by corner (Sutherland and Hodgman, 1974).
"""

from collections.abc import Sequence

from mpmath import mp, mpf

Point = tuple[mpf, mpf]


def exact_iou(box1: Sequence[float], box2: Sequence[float]) -> float:
    """The IoU of two cxcywhr boxes, whose numbers are taken as they are."""
    with mp.workdps(50):
        first, second = _rotated(box1), _rotated(box2)
        return _over_union(_area(_cut(first, second)), _area(first), _area(second))


def exact_giou(box1: Sequence[float], box2: Sequence[float]) -> float:
    """The GIoU of two cxcywhr boxes; its hull is the convex hull of all corners."""
    with mp.workdps(50):
        first, second = _rotated(box1), _rotated(box2)
        inter = _area(_cut(first, second))
        union = _area(first) + _area(second) - inter
        hull = _area(_hull(first + second))
        return float(inter / union - (hull - union) / hull)


def _hull(points: list[Point]) -> list[Point]:
    """The convex hull by monotone chains (Andrew, 1979)."""
    chains = []
    for ordered in (sorted(points), sorted(points, reverse=True)):
        chain: list[Point] = []
        for p in ordered:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], p) <= 0:
                chain.pop()
            chain.append(p)
        chains.append(chain[:-1])
    return chains[0] + chains[1]


def _turn(a: Point, b: Point, p: Point) -> mpf:
    """Twice the area of the triangle; positive if p is to the left of the line from a to b."""
    return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])


def exact_bev_iou(box1: Sequence[float], box2: Sequence[float]) -> float:
    """The IoU of two boxes in space, x y z dx dy dz yaw, as seen from above."""
    with mp.workdps(50):
        first, second = _seen(box1), _seen(box2)
        return _over_union(_area(_cut(first, second)), _area(first), _area(second))


def exact_box3d_iou(box1: Sequence[float], box2: Sequence[float]) -> float:
    """The IoU of two boxes in space, x y z dx dy dz yaw."""
    with mp.workdps(50):
        first, second = _seen(box1), _seen(box2)
        (z1, height1), (z2, height2) = ((mpf(box[2]), mpf(box[5])) for box in (box1, box2))
        top = min(z1 + height1 / 2, z2 + height2 / 2)
        bottom = max(z1 - height1 / 2, z2 - height2 / 2)
        inter = _area(_cut(first, second)) * max(top - bottom, mpf(0))
        return _over_union(inter, _area(first) * height1, _area(second) * height2)


def _over_union(inter: mpf, size1: mpf, size2: mpf) -> float:
    return float(inter / (size1 + size2 - inter))


def _rotated(box: Sequence[float]) -> list[Point]:
    """The corners of a cxcywhr box, whose angle turns from x to -y."""
    x, y, w, h, degrees = map(mpf, box)
    return _corners(x, y, w, h, -mp.radians(degrees))


def _seen(box: Sequence[float]) -> list[Point]:
    """The corners of a box in space as seen from above, whose yaw turns from x to y."""
    x, y, _, dx, dy, _, yaw = map(mpf, box)
    return _corners(x, y, dx, dy, yaw)


def _corners(x: mpf, y: mpf, w: mpf, h: mpf, turn: mpf) -> list[Point]:
    cos, sin = mp.cos(turn), mp.sin(turn)
    return [
        (x + (u * w * cos - v * h * sin) / 2, y + (u * w * sin + v * h * cos) / 2)
        for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]


def _area(polygon: list[Point]) -> mpf:
    pairs = zip(polygon, polygon[1:] + polygon[:1], strict=True)
    return mp.fsum(p[0] * q[1] - q[0] * p[1] for p, q in pairs) / 2 if polygon else mpf(0)


def _cut(polygon: list[Point], by: list[Point]) -> list[Point]:
    for a, b in zip(by, by[1:] + by[:1], strict=True):
        side = [_turn(a, b, p) for p in polygon]
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
