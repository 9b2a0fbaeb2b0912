"""KITTI's object detection set (Geiger et al., CVPR 2012): one text file per picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from os.path import isfile
from pathlib import Path

import numpy as np

from detcore.data.base import FileDetection, Record, Transform, log
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in
from detcore.data.images import IMAGE_SUFFIXES
from detcore.data.splits import hashed_split, is_named, lists_in, part

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
_DONT_CARE = "dontcare"  # in any letter case
_Line = tuple[str, list[float]]  # type; left, top, right, bottom in pixels


class Kitti(FileDetection):
    """KITTI's left colour pictures with their 2D boxes.

    Args:
        root: holds ``label_2/000000.txt``, ... and ``image_2/000000.png``, ..., or ``training/``
            that holds both.
        split: only the training part has labels. ``train`` and ``val`` are what
            ``ImageSets/train.txt`` and ``val.txt`` list, where these are (as in Chen et al.'s
            split); else 80% and 20% by a hash of the file name. ``all`` takes every label file.
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.

    Labels 1 to 8 are `CLASSES`; a set in KITTI's form with others has its own, by name.
    ``DontCare`` regions, where objects too far away were not
    annotated, are crowds of every class: no training target, and in evaluation a detection most
    of which lies in one is forgiven, whatever its class. All objects count, however occluded or
    truncated; KITTI's own easy, moderate and hard parts are not told apart.

    Raises:
        DataError: no such folder, a label file that can't be read.
        NoSplit: no such split.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        val_share: float | None = None,
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
        files = {f.stem: f for f in files_in(base, "label_2/*.txt")}
        lines = {stem: self._lines(file) for stem, file in files.items()}
        self.name_classes(_classes(self.root, lines.values()))
        for stem in _chosen(self.root, base, list(files), split, val_share):
            # listed by ImageSets and not there: as good as a label file that is missing
            found = lines[stem] if stem in lines else self._lines(base / f"label_2/{stem}.txt")
            names = [base / "image_2" / (stem + suffix) for suffix in (".png", *IMAGE_SUFFIXES)]
            picture = next((p for p in names if isfile(p)), None)
            self.take(
                picture or names[0], names[0], partial(self._record, found, picture or names[0])
            )
        self.finish(self.root, split)

    def _record(self, lines: Sequence[_Line], picture: Path, size: tuple[int, int]) -> Record:
        every = range(1, len(self.classes) + 1)
        rows: list[tuple[list[float], int, bool]] = []
        for name, box in lines:
            if name.lower() == _DONT_CARE:
                rows += [(box, label, True) for label in every]
            else:
                rows.append((box, self.classes.index(name) + 1, False))
        boxes, labels, crowds = [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
        return Record.of_boxes(len(self) + 1, picture.name, size, boxes, labels, crowds)

    def _lines(self, file: Path) -> list[_Line]:
        """The lines that can be used."""
        found = []
        for number, line in enumerate(self.lines_of(file), start=1):
            # type truncated occluded alpha left top right bottom, then seven of the 3D box
            words = line.split()
            if not words:
                continue
            where, box = f"line {number}", _numbers(words[4:8])
            if len(words) < 8:
                text = f"{where} has {len(words)} columns, wanted 15"
                self.faults.refuse(Kind.ENTRY, file, text)
            elif box is None:
                text = f"{where} has box {' '.join(words[4:8])}, wanted four numbers"
                self.faults.refuse(Kind.NOT_FINITE, file, text)
            elif not (box[2] > box[0] and box[3] > box[1]):
                text = f"{where} has box {' '.join(words[4:8])} without area; left out"
                self.faults.left_out(Kind.NO_AREA, file, text)
            else:
                found.append((words[0], box))
        return found


def is_kitti(root: Path) -> bool:
    """Whether the folder holds ``label_2/*.txt``, itself or in ``training/``."""
    return _base(root) is not None


def _base(root: Path) -> Path | None:
    for base in (root, root / "training"):
        if files_in(base, "label_2/*.txt"):
            return base
    return None


def _classes(root: Path, lines: Iterable[Sequence[_Line]]) -> Sequence[str]:
    """KITTI's own where there are no others; else those that the files have, by name."""
    there = {name for of in lines for name, _ in of if name.lower() != _DONT_CARE}
    if there <= set(CLASSES):
        return CLASSES
    log.warning("%s: in KITTI's form, with its own classes: %s", root, ", ".join(sorted(there)))
    return sorted(there)


def _chosen(
    root: Path, base: Path, stems: list[str], split: str, val_share: float | None
) -> list[str]:
    lists = lists_in(root / "ImageSets") or lists_in(base / "ImageSets")
    # KITTI's test list names pictures that have no labels
    own = {name: of for name, of in lists.items() if not is_named(name, "test")}
    if own and split != "all":
        return part(own, split, root, name_of=str, val_share=val_share)
    return hashed_split(stems, split, root, val_share)


def _numbers(words: list[str]) -> list[float] | None:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
