"""The annotation of one image, and the training target that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detcore.data.oriented import FAR, enclosing, polygon_areas, smallest_rectangles
from detcore.data.polygons import hulls

Target = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """The annotation of one image, known without decoding it. It has n objects, crowds included.

    Attributes:
        image_id: the image's number.
        file_name: its name in the data set.
        width, height: its size, pixels.
        boxes: float64 [n, 4] xyxy, pixels, as annotated.
        labels: int64 [n], from 1.
        area: [n], pixels^2.
        iscrowd: bool [n], whether a region holds many objects.
        ignore: bool [n], whether evaluation neither asks for the object nor counts it as wrong.
        corners: float64 [n, 8], of an oriented set: x and y of each object's four corners, in order
            along its border, as annotated; `boxes` are then the upright ones around them.
        extra: further facts that a reader keeps; an array has a row for each object.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    area: NDArray[np.float64]
    iscrowd: NDArray[np.bool_]
    ignore: NDArray[np.bool_]
    corners: NDArray[np.float64] | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of_boxes(
        cls,
        image_id: int,
        file_name: str,
        size: tuple[int, int],
        boxes: Sequence[Sequence[float]],
        labels: Sequence[int],
        crowds: Sequence[bool],
    ) -> Record:
        """Of n boxes, whose areas are the objects' and none of which is ignored; size: (w, h)."""
        array = np.array(boxes, np.float64).reshape(-1, 4)
        return cls(
            image_id=image_id,
            file_name=file_name,
            width=size[0],
            height=size[1],
            boxes=array,
            labels=np.array(labels, np.int64),
            area=box_areas(array),
            iscrowd=np.array(crowds, bool),
            ignore=np.zeros(len(array), bool),
        )

    @classmethod
    def of_corners(
        cls,
        image_id: int,
        file_name: str,
        size: tuple[int, int],
        corners: Sequence[Sequence[float]] | NDArray[np.float64],
        labels: Sequence[int],
        ignore: Sequence[bool],
    ) -> Record:
        """Of n oriented objects by their corners [n, 8], none of which is a crowd; size: (w, h).

        The area of corners that are not convex is that of their hull.
        """
        array = np.array(corners, np.float64).reshape(-1, 8)
        return cls(
            image_id=image_id,
            file_name=file_name,
            width=size[0],
            height=size[1],
            boxes=enclosing(array),
            labels=np.array(labels, np.int64),
            area=polygon_areas(hulls(array)),
            iscrowd=np.zeros(len(array), bool),
            ignore=np.array(ignore, bool),
            corners=array,
        )

    def upright(self) -> Record:
        """The same without corners: the boxes are the upright ones, and so are the areas."""
        return replace(self, corners=None, area=box_areas(self.boxes))

    @cached_property
    def rectangles(self) -> NDArray[np.float64]:
        """[n, 5] cxcywhr: in an oriented set the smallest rectangles around the corners."""
        assert self.corners is not None
        return smallest_rectangles(self.corners)

    def target(self) -> Target:
        """The training target: no crowds, nothing outside the image.

        Upright boxes are clipped to it; an oriented one is whole where its centre is inside, and
        left out else.
        """
        # clipped first: a corner at 1e308 is none in float32
        bounds = np.array([self.width, self.height] * 2, np.float64)
        if self.corners is None:
            boxes = self.boxes.reshape(-1, 4).clip(0, bounds).astype(np.float32)
            # after rounding to float32: a loss that divides by a width must not meet 0
            seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        else:
            whole = self.rectangles
            inside = (whole[:, :2] >= 0) & (whole[:, :2] <= bounds[:2])
            boxes = whole.clip(-FAR, FAR).astype(np.float32)
            seen = np.all(inside & (boxes[:, 2:4] > 0), axis=1)
        keep = seen & ~self.iscrowd
        return {
            "boxes": torch.from_numpy(boxes[keep]),
            "labels": torch.from_numpy(self.labels[keep]),
            "image_id": self.image_id,
            "area": torch.from_numpy(self.area[keep].astype(np.float32)),
            "iscrowd": torch.zeros(int(keep.sum()), dtype=torch.uint8),
        }


def box_areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas ``[n]`` of boxes ``[n, 4]`` xyxy, in pixels squared."""
    areas: NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas
