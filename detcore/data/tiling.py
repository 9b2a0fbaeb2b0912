"""How large images are cut into tiles, and a set whose images are the tiles of another's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
from torch import Tensor

from detcore.data.base import DetectionDataset, Part, Record
from detcore.data.faults import DataError
from detcore.data.oriented import Floats, upright_corners
from detcore.data.polygons import hulls, shared_areas

# shares of an object's area that a tile shows, from which it is an object, and is anything, there
_OBJECT = 0.7
_REGION = 0.1
_ROUNDING = 1e-9
_OVERLAP = 200  # pixels


@dataclass(frozen=True)
class Tiles:
    """How to cut photos.

    size: a tile's side in pixels, or its (height, width). overlap: the least share of a tile that
    its neighbour sees too, 0 to below 1. Raises ValueError for anything else.
    """

    size: int | tuple[int, int] = 640
    overlap: float = 0.2

    def __post_init__(self) -> None:
        if min(self.height_width) < 1:
            raise ValueError(f"Tiles: size must be at least 1, got {self.size}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"Tiles: overlap must be at least 0 and below 1, got {self.overlap}")

    @property
    def height_width(self) -> tuple[int, int]:
        """(height, width) of a tile, pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def of(self, height: int, width: int) -> list[Part]:
        """The tiles of an image, by rows: evenly spread, all inside, from edge to edge.

        A side on which the image is no larger than a tile is not cut.
        """
        rows, columns = (
            _spans(length, side, self.overlap)
            for length, side in zip((height, width), self.height_width, strict=True)
        )
        return [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]


def _spans(length: int, side: int, overlap: float) -> list[tuple[int, int]]:
    """Start and end of the tiles along one axis."""
    if length <= side:
        return [(0, length)]
    step = max(1, side - round(side * overlap))
    gaps = -(-(length - side) // step)
    starts = (k * (length - side) // gaps for k in range(gaps + 1))
    return [(start, start + side) for start in starts]


class TiledDetection(DetectionDataset):
    """A detection set whose images are the tiles of another set's.

    Args:
        data: the other set; its transforms are applied to each tile, and not before.
        tiles: how its images are cut.

    Items are the tiles of the first image by rows, then those of the second, and so on, numbered
    from 1; a tile of a.png whose left is at 824 and whose top is at 0 is called a_824_0.png, and an
    image that is no larger than a tile keeps its name. Boxes count from the tile's corner.

    A border cuts objects. By the share of an object's area inside the image that a tile shows, of
    its upright box or, in an oriented set, of its corners' hull:

    - from 0.7 on it is an object of the tile. An oriented box stays whole, wherever its corners
      are; of an upright one training has what is in the tile, as at the border of any image.
    - from 0.1 to below 0.7 it is a crowd: no training target, and in evaluation neither asked for
      nor counted against a detection.
    - below 0.1 it is not there.

    A crowd stays one in every tile that shows any of it. The threshold of 0.7 is that of DOTA's
    devkit, which marks what it cuts more as difficult.
    """

    def __init__(self, data: DetectionDataset, tiles: Tiles) -> None:
        super().__init__(data.classes, data.transforms)
        self.data, self.tiles = data, tiles
        self.category_ids, self.problems = data.category_ids, data.problems
        self.mirror, self.oriented, self.whole = data.mirror, data.oriented, data.whole
        self.places: list[tuple[int, Part]] = []  # of each tile: its image, and where it is there
        for index in range(len(data)):
            width, height = data.size(index)
            self.places += [(index, box) for box in tiles.of(height, width)]

    def __len__(self) -> int:
        return len(self.places)

    def record(self, index: int) -> Record:
        """What tile `index` shows; see above for objects that its border cuts."""
        image, (x0, y0, x1, y1) = self.places[index]
        whole = self.data.record(image)
        if (x0, y0, x1, y1) == (0, 0, whole.width, whole.height):
            return replace(whole, image_id=index + 1)
        shown = _shares(whole, (x0, y0, x1, y1))
        keep = (shown >= _REGION - _ROUNDING) | whole.iscrowd & (shown > 0)
        name = PurePath(whole.file_name)
        corner = np.array([x0, y0], np.float64)
        return replace(
            whole,
            image_id=index + 1,
            file_name=str(name.with_name(f"{name.stem}_{x0}_{y0}{name.suffix}")),
            width=x1 - x0,
            height=y1 - y0,
            boxes=whole.boxes[keep] - np.tile(corner, 2),
            labels=whole.labels[keep],
            area=whole.area[keep],
            iscrowd=(whole.iscrowd | (shown < _OBJECT - _ROUNDING))[keep],
            ignore=whole.ignore[keep],
            corners=None if whole.corners is None else whole.corners[keep] - np.tile(corner, 4),
            extra={
                fact: value[keep] if isinstance(value, np.ndarray) else value
                for fact, value in whole.extra.items()
            },
        )

    def image(self, index: int) -> Tensor:
        """Pixels of tile `index`: uint8 ``[3, H, W]``, RGB."""
        image, box = self.places[index]
        return self.data.part(image, box)

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of tile `index` in pixels."""
        _, (x0, y0, x1, y1) = self.places[index]
        return x1 - x0, y1 - y0


def in_tiles(data: object, tile: int | Tiles) -> TiledDetection:
    """A detection set whose images are the tiles of another's.

    Args:
        data: the other set.
        tile: how to cut, or the side in pixels of tiles that overlap by 200 pixels, as is the
            custom with DOTA, or by half of a side below 400.

    Raises:
        DataError: a side below 1, or a set that is not of detection.
    """
    if not isinstance(data, DetectionDataset):
        raise DataError(f"tiles are cut of detection sets, got {type(data).__name__}")
    if isinstance(tile, int):
        if tile < 1:
            raise DataError(f"tile must be at least 1 pixel, or 0 for whole images, got {tile}")
        tile = Tiles(tile, min(_OVERLAP / tile, 0.5))
    return TiledDetection(data, tile)


def _shares(record: Record, tile: Part) -> Floats:
    """[n] which part of each object's area inside the image is inside the tile; 0 without any."""
    shown = np.zeros(len(record.boxes))
    x0, y0, x1, y1 = tile
    left, top, right, bottom = record.boxes.T
    near = np.flatnonzero((left < x1) & (right > x0) & (top < y1) & (bottom > y0))
    if record.corners is None:
        bounds = np.array([record.width, record.height] * 2, np.float64)
        outlines = upright_corners(
            record.boxes[near].clip(0, bounds)
        )  # the far end may be at 1e308
    else:
        outlines = hulls(record.corners[near])
    inside, here = (
        shared_areas(
            outlines, np.repeat(upright_corners(np.array([box], np.float64)), len(near), 0)
        )
        for box in ((0, 0, record.width, record.height), tile)
    )
    shown[near] = np.divide(here, inside, out=np.zeros(len(near)), where=inside > 0)
    return shown
