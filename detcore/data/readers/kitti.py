"""KITTI's object detection set (Geiger et al., CVPR 2012): one text file per picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from os.path import isfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detcore.data.base import FileDetection, Record, Transform, log
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in
from detcore.data.images import IMAGE_SUFFIXES
from detcore.data.readers.kitti_labels import DONT_CARE, KittiObjects, parse_objects
from detcore.data.splits import hashed_split, is_named, lists_in, part

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")


class Kitti(FileDetection):
    """KITTI's left colour pictures with their 2D boxes, and what their labels say of 3D.

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
    truncated; `detcore.evaluation.kitti_metrics` tells KITTI's easy, moderate and hard parts apart.

    The rest of a label is in `Record.extra`, in float64 and a row per box of the record:
    ``boxes3d`` ``[n, 7]``, x y z dx dy dz yaw in metres and radians as `detcore.ops.box3d_iou`
    takes them, with x the camera's forward, y its left and z its up; ``truncated``, ``occluded``
    and ``alpha`` ``[n]`` as they are written. It is NaN where the label doesn't say: in
    ``boxes3d`` of ``DontCare`` and of whatever else has a side that is not positive.

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
        base = _base_of(self.root)
        objects = {file: self._objects(file) for file in files_in(base, "label_2/*.txt")}
        self.name_classes(_classes(self.root, objects.values()))
        for stem, file in label_files(self.root, split, val_share):
            # listed by ImageSets and not there: as good as a label file that is missing
            found = objects[file] if file in objects else self._objects(file)
            names = [base / "image_2" / (stem + s) for s in (".png", *IMAGE_SUFFIXES)]
            picture = next((p for p in names if isfile(p)), None)
            self.take(
                picture or names[0], names[0], partial(self._record, found, picture or names[0])
            )
        self.finish(self.root, split)

    def _record(self, objects: KittiObjects, picture: Path, size: tuple[int, int]) -> Record:
        every = range(1, len(self.classes) + 1)
        rows: list[tuple[int, int, bool]] = []  # of the object, its label, whether it is a crowd
        for k, name in enumerate(objects.names):
            if name.lower() == DONT_CARE:
                rows += [(k, label, True) for label in every]
            else:
                rows.append((k, self.classes.index(name) + 1, False))
        found = objects.take([row for row, *_ in rows])
        labels, crowds = [r[1] for r in rows], [r[2] for r in rows]
        record = Record.of_boxes(
            len(self) + 1, picture.name, size, found.boxes.tolist(), labels, crowds
        )
        boxes3d = found.boxes3d()
        boxes3d[~(boxes3d[:, 3:6] > 0).all(1)] = np.nan
        facts = {k: getattr(found, k).copy() for k in ("truncated", "occluded", "alpha")}
        return replace(record, extra={"boxes3d": boxes3d, **facts})

    def _objects(self, file: Path) -> KittiObjects:
        """The lines that can be used."""
        found = parse_objects(file, self.lines_of(file), self.faults)
        left, top, right, bottom = found.boxes.T
        flat = ~((right > left) & (bottom > top))
        for k in np.flatnonzero(flat).tolist():
            text = f"line {found.lines[k]} has box {_words(found.boxes[k])} without area; left out"
            self.faults.left_out(Kind.NO_AREA, file, text)
        return found.take(np.flatnonzero(~flat))


def label_files(root: Path, split: str, val_share: float | None = None) -> list[tuple[str, Path]]:
    """A split's pictures by name (``000000``), and their label files, in the split's order.

    One that ``ImageSets`` lists may be missing.

    Raises:
        DataError: there are no labels.
        NoSplit: no such split.
    """
    base = _base_of(root)
    stems = [file.stem for file in files_in(base, "label_2/*.txt")]
    chosen = _chosen(root, base, stems, split, val_share)
    return [(stem, base / "label_2" / f"{stem}.txt") for stem in chosen]


def is_kitti(root: Path) -> bool:
    """Whether the folder holds ``label_2/*.txt``, itself or in ``training/``."""
    return _base(root) is not None


def _base(root: Path) -> Path | None:
    for base in (root, root / "training"):
        if files_in(base, "label_2/*.txt"):
            return base
    return None


def _base_of(root: Path) -> Path:
    if base := _base(root):
        return base
    raise DataError(f"{root}: no KITTI labels (looked for label_2/ here and in training/)")


def _classes(root: Path, objects: Iterable[KittiObjects]) -> Sequence[str]:
    """KITTI's own where there are no others; else those that the files have, by name."""
    there = {name for of in objects for name in of.names if name.lower() != DONT_CARE}
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


def _words(box: NDArray[np.float64]) -> str:
    return " ".join(f"{side:g}" for side in box.tolist())
