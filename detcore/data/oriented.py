"""Oriented boxes of data sets: from corners, as they are annotated, to rectangles, as models learn.

Rectangles are cxcywhr as everywhere: centre, width and height in pixels, angle in degrees,
counter-clockwise as the image is seen. Of the names that a rectangle has (it is the same with its
sides exchanged and a quarter turn more) data sets use one: the width is the longer side, and the
angle is at least -90 and below 90.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from detcore.ops import box_convert
from detcore.parts.box_forms import longer_side_first

Floats = NDArray[np.float64]
FAR = 1e9  # pixels; beyond it no oriented box is one
_MANY = 16  # points of a polygon, of which not every pair is tried as a side


def smallest_rectangle(points: ArrayLike) -> Floats:
    """The rectangle of least area around points.

    Args:
        points: ``[m, 2]`` x, y, at least one, in any order; inside ones don't matter.

    Returns:
        ``[5]`` cxcywhr, see `smallest_rectangles`.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    if len(points) > _MANY:
        points = hull(points)
    return smallest_rectangles(points.reshape(1, -1))[0]


def smallest_rectangles(points: Floats) -> Floats:
    """The rectangles of least area around sets of points.

    Args:
        points: ``[n, 2 m]``, x and y of each of m points, which in a set of more than 16 are the
            corners of its hull, in order.

    Returns:
        ``[n, 5]`` cxcywhr with the width the longer side. A side is 0 where all points lie on a
        line. Of several rectangles of equal area the one along the earliest pair of points: exact
        corners give their own rectangle back.
    """
    points = points.reshape(len(points), points.shape[1] // 2, 2)
    if points.size == 0:
        return np.zeros((len(points), 5))
    middle = (points.min(1) + points.max(1)) / 2
    at = points - middle[:, None]  # near zero, so that far from the origin no digit is lost
    # a side of the smallest rectangle lies along a side of the hull, which joins two points
    first, second = _pairs(points.shape[1])
    along = at[:, second] - at[:, first]  # [n, directions, 2]
    length = np.hypot(along[..., 0], along[..., 1])
    # two points in one place give no direction; any will do where there is no other
    no_way = length <= 1e-12 * length.max(1, keepdims=True)
    along = np.where(no_way[..., None], [1.0, 0.0], along / np.where(no_way, 1, length)[..., None])
    across = np.stack([-along[..., 1], along[..., 0]], -1)
    axes = np.stack([along, across], 2)  # [n, directions, 2, 2]
    places = np.einsum("ndax,nmx->ndam", axes, at)
    low, high = places.min(3), places.max(3)
    area = (high - low).prod(2)
    area[no_way & ~no_way.all(1, keepdims=True)] = np.inf
    # rounding must not choose between equals
    best = np.argmax(area <= area.min(1, keepdims=True) * (1 + 1e-9) + 1e-12, axis=1)
    row = np.arange(len(points))
    low, high, axes = low[row, best], high[row, best], axes[row, best]
    centre = middle + np.einsum("na,nax->nx", (low + high) / 2, axes)
    angle = -np.degrees(np.arctan2(axes[:, 0, 1], axes[:, 0, 0]))
    return longer_first(np.column_stack([centre, high - low, angle]))


def longer_first(boxes: Floats) -> Floats:
    """Boxes ``[..., 5]`` cxcywhr by the name that data sets use, see `longer_side_first`."""
    out: Floats = longer_side_first(torch.from_numpy(boxes)).numpy()
    return out


def corners_of(boxes: Floats) -> Floats:
    """Corners ``[..., 8]``, x and y of each, of boxes ``[..., 5]`` cxcywhr."""
    out: Floats = box_convert(torch.from_numpy(boxes), "cxcywhr", "xyxyxyxy").numpy()
    return out


def enclosing(corners: Floats) -> Floats:
    """Upright boxes ``[n, 4]`` xyxy around corners ``[n, 8]``."""
    points = corners.reshape(-1, 4, 2)
    out: Floats = np.concatenate([points.min(1), points.max(1)], axis=1)
    return out


def upright_corners(boxes: Floats) -> Floats:
    """Corners ``[n, 8]``, from top left clockwise, of upright boxes ``[n, 4]`` xyxy."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]


def are_boxes(corners: Floats) -> NDArray[np.bool_]:
    """Whether points make a box: finite, within 1e9 pixels, and not all on a line.

    Args:
        corners: ``[n, 2 m]``, as in `smallest_rectangles`.

    Returns:
        ``[n]``.
    """
    near: NDArray[np.bool_] = np.all(np.abs(corners) <= FAR, axis=1)  # not of NaN
    _, _, width, height, _ = smallest_rectangles(np.where(near[:, None], corners, 0.0)).T
    out: NDArray[np.bool_] = near & (height > 1e-9 * width)  # rounding leaves a line some height
    return out


def polygon_areas(corners: Floats) -> Floats:
    """Areas ``[n]`` of polygons ``[n, 2 m]``, x and y of each corner in order along the border."""
    points = corners.reshape(len(corners), corners.shape[1] // 2, 2)
    at = points - points[:, :1]
    after = np.roll(at, -1, axis=1)
    out: Floats = np.abs((at[..., 0] * after[..., 1] - at[..., 1] * after[..., 0]).sum(1)) / 2
    return out


def hull(points: Floats) -> Floats:
    """The corners ``[k, 2]`` of the convex hull of points ``[m, 2]``, in order along it.

    By Andrew's monotone chain (1979). A point on a side of the hull is no corner; points in one
    place are one.
    """
    ordered = np.unique(points, axis=0).tolist()
    halves = []
    for run in (ordered, ordered[::-1]):
        chain: list[list[float]] = []
        for x, y in run:
            while len(chain) > 1:
                (x0, y0), (x1, y1) = chain[-2:]
                if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                    break
                chain.pop()
            chain.append([x, y])
        halves += chain[:-1]
    return np.array(halves or ordered)


def _pairs(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of points where these are few, those next to each other where they are a hull."""
    if count > _MANY:
        first = np.arange(count)
        return first, (first + 1) % count
    first, second = np.triu_indices(max(count, 2), 1)
    return first, np.minimum(second, count - 1)
