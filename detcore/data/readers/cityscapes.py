"""Cityscapes (Cordts et al., CVPR 2016): street scenes with a polygon around each object."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detcore.data.base import FileDetection, Record, Transform
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in, folders_in
from detcore.data.splits import part
from detcore.utils.user_files import read_json

CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
_TAIL = "_gtFine_polygons.json"
_Box = tuple[float, float, float, float]
_Object = tuple[_Box, int, bool]  # xyxy in pixels; label from 1; whether it is a crowd


class Cityscapes(FileDetection):
    """Boxes of Cityscapes' objects, from the fine annotations' polygons.

    Args:
        root: holds ``gtFine/<split>/<city>/*_gtFine_polygons.json`` and
            ``leftImg8bit/<split>/<city>/*_leftImg8bit.png``.
        split: ``train`` or ``val``, or all that has annotations with ``all``; those of Cityscapes'
            ``test`` are not public.
        classes: labels to take in label order; None takes the eight `CLASSES` that the benchmark
            evaluates as instances. Others (road, sky, caravan, ...) are left out.
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.

    A box runs from a polygon's least to its greatest coordinate, hidden parts that the annotator
    drew included. Groups that could not be told apart (``cargroup``, ``persongroup``, ...) are
    crowds of their class. ``area`` is the box's.

    Raises:
        DataError: no such folder, malformed JSON, a polygon of no points.
        NoSplit: no annotations for the split.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        val_share: float | None = None,
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root = Path(root)
        super().__init__(CLASSES if classes is None else classes, transforms, faults)
        for file in _annotations(self.root, split, val_share):
            document = self._document(file)
            if document is None:
                continue
            stem = file.name.removesuffix(_TAIL)
            folder = self.root / "leftImg8bit" / file.parent.parent.name / file.parent.name
            picture = folder / f"{stem}_leftImg8bit.png"
            objects = self._objects(file, document)
            stated = int(document["imgWidth"]), int(document["imgHeight"])
            record_of = partial(_record, len(self) + 1, picture, objects)
            self.take(picture, picture, record_of, stated)
        self.finish(self.root, split)

    def _document(self, file: Path) -> dict[str, Any] | None:
        try:
            document = read_json(file)
            int(document["imgWidth"]), int(document["imgHeight"])
            if all("label" in o and "polygon" in o for o in document["objects"]):
                return document
            problem = "an object has no label or no polygon"
        except DataError as error:
            problem = str(error).removeprefix(f"{file}: ")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            problem = f"not of Cityscapes' form ({type(error).__name__}: {error})"
        self.faults.refuse(Kind.ANNOTATIONS, file, problem)
        return None

    def _objects(self, file: Path, document: dict[str, Any]) -> list[_Object]:
        label_of = {name: i for i, name in enumerate(self.classes, start=1)}
        found = []
        for obj in document["objects"]:
            name = str(obj["label"])
            single = name.removesuffix("group")
            # the annotation tool keeps what was taken back, marked so
            if single not in label_of or obj.get("deleted"):
                continue
            box = self._box(obj["polygon"], name, file)
            if box is not None:
                found.append((box, label_of[single], single != name))
        return found

    def _box(self, polygon: Any, name: str, file: Path) -> _Box | None:
        try:
            points = np.array(polygon, np.float64).reshape(-1, 2)
        except (TypeError, ValueError):
            points = np.full((1, 2), np.nan)
        if len(points) == 0 or not np.isfinite(points).all():
            text = f"{name} has polygon {str(polygon)[:60]}, wanted points [x, y]"
            self.faults.refuse(Kind.NOT_FINITE, file, text)
            return None
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        if not (x1 > x0 and y1 > y0):
            text = f"{name} box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) has no area; left out"
            self.faults.left_out(Kind.NO_AREA, file, text)
            return None
        return float(x0), float(y0), float(x1), float(y1)


def _record(
    number: int, picture: Path, objects: Sequence[_Object], size: tuple[int, int]
) -> Record:
    boxes, labels, crowds = (
        [o[0] for o in objects],
        [o[1] for o in objects],
        [o[2] for o in objects],
    )
    return Record.of_boxes(number, picture.name, size, boxes, labels, crowds)


def is_cityscapes(root: Path) -> bool:
    """Whether the folder holds fine annotations in Cityscapes' places."""
    return bool(files_in(root / "gtFine", f"*/*/*{_TAIL}"))


def _annotations(root: Path, split: str, val_share: float | None) -> list[Path]:
    base = root / "gtFine"
    if not base.is_dir():
        raise DataError(f"{root}: no folder gtFine (looked for gtFine/<split>/<city>/*{_TAIL})")
    own = {f.name: files_in(f, f"*/*{_TAIL}") for f in folders_in(base)}
    own = {name: files for name, files in own.items() if files}
    return part(own, split, base, name_of=lambda f: f.name, val_share=val_share)
