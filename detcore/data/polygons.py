"""Convex polygons by their corners: hulls, and the area that two of them share, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detcore.data.oriented import Floats, enclosing, hull, polygon_areas


def are_convex(corners: Floats) -> NDArray[np.bool_]:
    """Whether four corners, in the order given, are those of a convex quadrilateral.

    Args:
        corners: ``[n, 8]``, x and y of each.

    Returns:
        ``[n]``; not where two sides cross or a corner points inward. A corner that lies on the
        line between its neighbours, or in the place of one, is taken for convex.
    """
    points = corners.reshape(-1, 4, 2)
    side = np.roll(points, -1, axis=1) - points
    turn = _cross(side, np.roll(side, -1, axis=1))
    # annotations are rounded: what is so near to a line is one
    slack = 1e-9 * np.square(side).sum(2).max(1)[:, None]
    out: NDArray[np.bool_] = (turn >= -slack).all(1) | (turn <= slack).all(1)
    return out


def hulls(corners: Floats) -> Floats:
    """Corners ``[n, 8]`` with those that are not convex replaced by the corners of their hull.

    A hull of three corners has one of them twice.
    """
    wrong = np.flatnonzero(~are_convex(corners))
    if len(wrong) == 0:
        return corners
    out = corners.copy()
    for k in wrong:
        points = hull(corners[k].reshape(4, 2))
        out[k] = np.concatenate([points, np.repeat(points[-1:], 4 - len(points), 0)]).ravel()
    return out


def shared_areas(first: Floats, second: Floats) -> Floats:
    """The areas that pairs of convex polygons share.

    Args:
        first: ``[n, 2 m]``, x and y of each corner in order along the border, either way round;
            finite.
        second: ``[n, 2 k]``, likewise.

    Returns:
        ``[n]``, pixels squared, at most the smaller one's area. Exact but for rounding: the first
        is cut along each side of the second (Sutherland and Hodgman, 1974).
    """
    areas = np.minimum(polygon_areas(first), polygon_areas(second))
    if len(first) == 0:
        return areas
    points, sides = (a.reshape(len(a), a.shape[1] // 2, 2) for a in (first, second))
    origin = points[:, :1]  # near zero, so that far from it no digit is lost
    points, sides = points - origin, sides - origin
    along = np.roll(sides, -1, axis=1) - sides
    turn = np.where(_cross(sides, along).sum(1) < 0, -1.0, 1.0)
    for k in range(sides.shape[1]):
        points = _cut(points, sides[:, k], along[:, k] * turn[:, None])
    out: Floats = np.minimum(polygon_areas(points.reshape(len(points), -1)), areas)
    return out


def convex_iou(first: Floats, second: Floats) -> Floats:
    """IoU of every convex polygon of one set with every one of another.

    Args:
        first: ``[n, 8]``, x and y of each corner in order along the border; finite.
        second: ``[m, 8]``, likewise.

    Returns:
        ``[n, m]``, 0..1, float64; 0 where both are without area. Only pairs whose enclosing upright
        boxes meet are looked at more closely.
    """
    one, other = enclosing(first)[:, None], enclosing(second)
    meet = (
        np.maximum(one[..., :2], other[..., :2]) < np.minimum(one[..., 2:], other[..., 2:])
    ).all(2)
    row, column = np.nonzero(meet)
    shared = shared_areas(first[row], second[column])
    union = polygon_areas(first)[row] + polygon_areas(second)[column] - shared
    iou = np.zeros(meet.shape)
    iou[row, column] = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
    return iou


def _cut(points: Floats, start: Floats, along: Floats) -> Floats:
    """What of polygons ``[n, m, 2]`` lies on one side of lines, by a point and a way ``[n, 2]``.

    Each polygon of the answer has as many corners as the one with most; those that are too many
    are its first again.
    """
    off = _cross(along[:, None], points - start[:, None])
    after, off_after = np.roll(points, -1, axis=1), np.roll(off, -1, axis=1)
    crosses = (off > 0) & (off_after < 0) | (off < 0) & (off_after > 0)
    share = off / np.where(crosses, off - off_after, 1)
    # of each side: where it meets the line, then its end
    made = np.stack([points + share[..., None] * (after - points), after], 2)
    kept = np.stack([crosses, off_after >= 0], 2).reshape(len(points), -1)
    made = made.reshape(*kept.shape, 2)
    order = np.argsort(~kept, axis=1, kind="stable")[:, : max(1, int(kept.sum(1).max()))]
    made = np.take_along_axis(made, order[..., None], 1)
    kept = np.take_along_axis(kept, order, 1)
    out: Floats = np.where(kept[..., None], made, made[:, :1])
    return out


def _cross(one: Floats, other: Floats) -> Floats:
    out: Floats = one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]
    return out
