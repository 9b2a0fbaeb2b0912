"""KITTI's object detection set (Geiger et al., CVPR 2012): one text file a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detcore.data.base import FileDetection, Record, Transform, hashed_split, split_names
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.images import IMAGE_SUFFIXES

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
_DONT_CARE = "DontCare"
_Line = tuple[str, list[float]]  # type; left, top, right, bottom in pixels


class Kitti(FileDetection):
    """KITTI's left colour pictures with their 2D boxes.

    Args:
        root: holds ``label_2/000000.txt``, ... and ``image_2/000000.png``, ..., or ``training/``
            that holds both.
        split: only the training part has labels. ``train`` and ``val`` are what
            ``ImageSets/train.txt`` and ``val.txt`` list, where these are (as in Chen et al.'s
            split); else 80% and 20% by a hash of the file name. ``all`` takes every label file.
        transforms: applied to each item.
        faults: takes up what is wrong; the default raises what training can't do without.

    Labels 1 to 8 are `CLASSES`. ``DontCare`` regions, where objects too far away were not
    annotated, are crowds of every class: no training target, and in evaluation a detection most
    of which lies in one is forgiven, whatever its class. All objects count, however occluded or
    truncated; KITTI's own easy, moderate and hard parts are not told apart.

    Raises:
        DataError: no such folder, a label file that can't be read, an unknown type.
        NoSplit: no such split.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root = Path(root)
        super().__init__(CLASSES, transforms, faults)
        base = _base(self.root)
        if base is None:
            raise DataError(
                f"{self.root}: no KITTI labels (looked for label_2/ here and in training/)"
            )
        files = {f.stem: f for f in sorted((base / "label_2").glob("*.txt"))}
        for stem in _chosen(self.root, base, list(files), split):
            # listed by ImageSets and not there: as good as a label file that is missing
            file = files.get(stem, base / "label_2" / f"{stem}.txt")
            lines = self._lines(file)
            names = [base / "image_2" / (stem + suffix) for suffix in (".png", *IMAGE_SUFFIXES)]
            picture = next((p for p in names if p.is_file()), None)
            if picture is None:
                self.faults.left_out(Kind.MISSING, names[0], "picture is missing; left out")
                continue
            if size := self.readable_size(picture):
                self.add(_record(len(self) + 1, lines, picture, size), picture)
        if not self.records:
            raise DataError(f"{base}: no picture of split {split!r} in image_2")
        self.report(self.root)

    def _lines(self, file: Path) -> list[_Line]:
        """The lines that can be used."""
        try:
            lines = file.read_text(encoding="ascii").splitlines()
        except (OSError, ValueError) as error:
            self.faults.refuse(Kind.ANNOTATIONS, file, f"not readable ({error})")
            return []
        found = []
        for number, line in enumerate(lines, start=1):
            # type truncated occluded alpha left top right bottom, then seven of the 3D box
            words = line.split()
            if not words:
                continue
            where, box = f"line {number}", _numbers(words[4:8])
            if len(words) < 8:
                text = f"{where} has {len(words)} columns, wanted 15"
                self.faults.refuse(Kind.ENTRY, file, text)
            elif words[0] not in (*CLASSES, _DONT_CARE):
                text = f"{where} has type {words[0]!r}, which is not one of {', '.join(CLASSES)}"
                self.faults.refuse(Kind.UNKNOWN_CLASS, file, text)
            elif box is None:
                text = f"{where} has box {' '.join(words[4:8])}, wanted four numbers"
                self.faults.refuse(Kind.NOT_FINITE, file, text)
            elif not (box[2] > box[0] and box[3] > box[1]):
                text = f"{where} has box {' '.join(words[4:8])} without area; left out"
                self.faults.left_out(Kind.NO_AREA, file, text)
            else:
                found.append((words[0], box))
        return found


def _record(number: int, lines: Sequence[_Line], picture: Path, size: tuple[int, int]) -> Record:
    boxes: list[list[float]] = []
    labels: list[int] = []
    crowds: list[bool] = []
    for name, box in lines:
        if name == _DONT_CARE:
            boxes += [box] * len(CLASSES)
            labels += range(1, len(CLASSES) + 1)
            crowds += [True] * len(CLASSES)
        else:
            boxes.append(box)
            labels.append(CLASSES.index(name) + 1)
            crowds.append(False)
    return Record.of_boxes(number, picture.name, size, boxes, labels, crowds)


def is_kitti(root: Path) -> bool:
    """Whether the folder holds ``label_2/*.txt``, itself or in ``training/``."""
    return _base(root) is not None


def _base(root: Path) -> Path | None:
    for base in (root, root / "training"):
        if any((base / "label_2").glob("*.txt")):
            return base
    return None


def _chosen(root: Path, base: Path, stems: list[str], split: str) -> list[str]:
    if split == "all":
        return stems
    for name in split_names(split):
        for folder in (root, base):
            listing = folder / "ImageSets" / f"{name}.txt"
            # KITTI's test list names pictures that have no labels
            if split != "test" and listing.is_file():
                return listing.read_text(encoding="utf-8").split()
    return hashed_split(stems, split)


def _numbers(words: list[str]) -> list[float] | None:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
