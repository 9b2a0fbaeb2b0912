"""Cityscapes (Cordts et al., CVPR 2016): street scenes with a polygon around each object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detcore.data.base import FileDetection, Record, Transform, split_names
from detcore.data.faults import DataError, Faults, Kind, NoSplit

CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
_TAIL = "_gtFine_polygons.json"
_Box = tuple[float, float, float, float]


class Cityscapes(FileDetection):
    """Boxes of Cityscapes' objects, from the fine annotations' polygons.

    Args:
        root: holds ``gtFine/<split>/<city>/*_gtFine_polygons.json`` and
            ``leftImg8bit/<split>/<city>/*_leftImg8bit.png``.
        split: ``train`` or ``val``, or all that has annotations with ``all``; those of Cityscapes'
            ``test`` are not public.
        classes: labels to take in label order; None takes the eight `CLASSES` that the benchmark
            evaluates as instances. Others (road, sky, caravan, ...) are left out.
        transforms: applied to each item.
        faults: takes up what is wrong; the default raises what training can't do without.

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
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root = Path(root)
        super().__init__(CLASSES if classes is None else classes, transforms, faults)
        for file in _annotations(self.root, split):
            document = self._document(file)
            if document is None:
                continue
            stem = file.name.removesuffix(_TAIL)
            folder = self.root / "leftImg8bit" / file.parent.parent.name / file.parent.name
            picture = folder / f"{stem}_leftImg8bit.png"
            record = self._record(len(self) + 1, file, picture, document)
            if picture.is_file():
                self.add(record, picture)
            else:
                self.faults.left_out(Kind.MISSING, picture, "picture is missing; left out")
        if not self.records:
            raise DataError(f"{self.root}: no picture of split {split!r} in leftImg8bit")
        self.report(self.root)

    def _document(self, file: Path) -> dict[str, Any] | None:
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            int(document["imgWidth"]), int(document["imgHeight"])
            if all("label" in o and "polygon" in o for o in document["objects"]):
                return document
            problem = "an object has no label or no polygon"
        except (OSError, ValueError) as error:
            problem = f"not readable as JSON ({error})"
        except (KeyError, TypeError) as error:
            problem = f"not of Cityscapes' form ({type(error).__name__}: {error})"
        self.faults.refuse(Kind.ANNOTATIONS, file, problem)
        return None

    def _record(self, number: int, file: Path, picture: Path, document: dict[str, Any]) -> Record:
        label_of = {name: i for i, name in enumerate(self.classes, start=1)}
        boxes, labels, crowds = [], [], []
        for obj in document["objects"]:
            name = str(obj["label"])
            single = name.removesuffix("group")
            # the annotation tool keeps what was taken back, marked so
            if single not in label_of or obj.get("deleted"):
                continue
            box = self._box(obj["polygon"], name, file)
            if box is not None:
                boxes.append(box)
                labels.append(label_of[single])
                crowds.append(single != name)
        return Record.of_boxes(
            number,
            picture.name,
            (int(document["imgWidth"]), int(document["imgHeight"])),
            boxes,
            labels,
            crowds,
        )

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


def is_cityscapes(root: Path) -> bool:
    """Whether the folder holds fine annotations in Cityscapes' places."""
    return any((root / "gtFine").glob(f"*/*/*{_TAIL}"))


def _annotations(root: Path, split: str) -> list[Path]:
    if not (root / "gtFine").is_dir():
        raise DataError(f"{root}: no folder gtFine (looked for gtFine/<split>/<city>/*{_TAIL})")
    for name in ("*",) if split == "all" else split_names(split):
        if found := sorted((root / "gtFine").glob(f"{name}/*/*{_TAIL}")):
            return found
    there = sorted(f.name for f in (root / "gtFine").iterdir() if f.is_dir())
    raise NoSplit(f"{root}: gtFine has nothing for split {split!r} (there are {', '.join(there)})")
