"""COCO detection JSON with its folder of pictures (Lin et al., ECCV 2014)."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from os.path import isfile
from pathlib import Path
from typing import Any

import numpy as np

from detcore.data.base import FileDetection, Record, Transform
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in
from detcore.data.oriented import (
    FAR,
    are_boxes,
    corners_of,
    enclosing,
    smallest_rectangle,
    upright_corners,
)
from detcore.data.readers.coco_json import (
    Document,
    Entry,
    box_of,
    points_of,
    read_document,
)
from detcore.data.readers.file_finder import files_of_split, find_pictures
from detcore.data.splits import hashed_split

_LISTS = (b'"images"', b'"annotations"', b'"categories"')
# annotation; x, y, width, height in pixels, or in an oriented set x and y of four corners
_Object = tuple[Entry, list[float]]


class Coco(FileDetection):
    """A detection set in COCO's form.

    Args:
        annotations: the instances JSON, or several with the same categories, taken as one set.
        images: the folder of pictures; None looks beside the JSON and where COCO itself and
            common exporters put them.
        split: ``all`` takes the whole file; ``train`` or ``val`` takes 80% or 20% of its images
            by a hash of the file name, for files that hold no split.
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.
        oriented: give corners: those of a ``bbox`` of five numbers, centre x and y, width, height
            and degrees counter-clockwise (detectron2's XYWHA_ABS); else those of the smallest
            rectangle around all points of the polygons in ``segmentation``; else, and of crowds,
            those of the upright box. Without it the box of five numbers is the upright one around.
        need_pictures: False takes up images whose files are missing too, for work on annotations
            alone.

    Category ids, sparse in COCO itself (1..90 with gaps), become labels 1..C in ascending order
    of id; `category_ids` leads back. Crowd regions (``iscrowd: 1``) are in no item's target and
    in the evaluation's ground truth. Boxes without area and missing pictures are left out, of
    training and evaluation, and reported once with the file's name.

    What is null counts as absent. Without ``bbox``, the box is that of ``segmentation`` (polygons
    or a run-length mask); without ``area``, the box's; without ``width`` and ``height``, the
    picture's header is read. Pictures are looked for by name, then with ``/`` for ``\\``, then by
    the name without its folders. Image ids are the file's own; those of a second file are moved
    past the first's where they meet.

    Raises:
        DataError: no such file or folder, malformed JSON, annotations that point nowhere, two
            categories of one name, files whose categories differ.
        NoSplit: the share of `split` has no pictures.
    """

    def __init__(
        self,
        annotations: str | Path | Sequence[str | Path],
        images: str | Path | None = None,
        *,
        split: str = "all",
        val_share: float | None = None,
        transforms: Transform | None = None,
        faults: Faults | None = None,
        oriented: bool = False,
        need_pictures: bool = True,
    ) -> None:
        files = [annotations] if isinstance(annotations, str | Path) else list(annotations)
        self.file, self.val_share = Path(files[0]), val_share
        super().__init__([], transforms, faults)
        self.oriented = oriented
        documents = [read_document(Path(f), self.faults) for f in files]
        self.classes = list(documents[0].categories.values())
        self.category_ids = list(documents[0].categories)
        self._label_of = {c: i for i, c in enumerate(self.category_ids, start=1)}
        documents = [d for d in documents if self._agrees(d, documents[0])]
        for document in documents:
            if document.images:
                self._take(document, split, Path(images) if images else None, need_pictures)
        if not self.records:
            count = sum(len(d.images) for d in documents)
            problem = f"none of its {count} pictures can be read" if count else "'images' is empty"
            raise DataError(f"{self.file}: {problem}")
        self.report(self.file)

    def _agrees(self, document: Document, first: Document) -> bool:
        if document.categories == first.categories:
            return True
        here, there = (
            ", ".join(f"{i} {name}" for i, name in d.categories.items()) for d in (document, first)
        )
        text = f"its categories are {here}; those of {first.file} {there}"
        self.faults.refuse(Kind.CLASSES, document.file, text)
        return False

    def _take(
        self, document: Document, split: str, folder: Path | None, need_pictures: bool
    ) -> None:
        names = [str(info["file_name"]) for info in document.images]
        keep = set(hashed_split(names, split, document.file, self.val_share))
        # annotations before pictures: what is wrong with them is found where no picture is
        chosen = [
            (info, self._objects(document, info))
            for info in document.images
            if info["file_name"] in keep
        ]
        pictures = find_pictures(document.file, names, folder, needed=need_pictures)
        shift = self._shift(document)
        for info, objects in chosen:
            path = pictures.of(info["file_name"])
            if need_pictures and not isfile(path):
                self.faults.left_out(Kind.MISSING, path, "picture is missing; left out")
            elif size := self._size(document, info, path):
                self.add(self._record(int(info["id"]) + shift, info, size, objects), path)

    def _shift(self, document: Document) -> int:
        """What to add to a file's image ids, so that they are no earlier file's."""
        ids = {int(info["id"]) for info in document.images}
        taken = {record.image_id for record in self.records}
        return max(taken) + 1 - min(ids) if ids & taken else 0

    def _size(self, document: Document, info: Entry, path: Path) -> tuple[int, int] | None:
        """(width, height) in pixels of the picture, or else as stated; None if that can't be."""
        width, height = (int(info.get(k, 0)) for k in ("width", "height"))
        stated = (width, height) if width > 0 and height > 0 else None
        if isfile(path):
            return self.size_of(path, stated)
        if stated:
            return stated
        text = f"image {info['id']} has no 'width' and 'height', and no picture {path} that has"
        self.faults.refuse(Kind.ENTRY, document.file, text)
        return None

    def _objects(self, document: Document, info: Entry) -> list[_Object]:
        """The annotations of an image that have a box with an area."""
        found = []
        for a in document.annotations.get(int(info["id"]), []):
            box = self._box(document, info, a)
            if box is not None:
                found.append((a, box))
        return found

    def _box(self, document: Document, info: Entry, a: Entry) -> list[float] | None:
        bbox = box_of(a)
        numbers = _numbers(bbox)
        if not bbox:
            text = f"annotation {a['id']} has no 'bbox', nor a segmentation to take it from"
            self.faults.refuse(Kind.ENTRY, document.file, text)
        elif numbers is None or not all(map(isfinite, numbers)):
            kind = Kind.ENTRY if numbers is None else Kind.NOT_FINITE
            text = f"annotation {a['id']} has bbox {bbox}, wanted [x, y, width, height]"
            self.faults.refuse(kind, document.file, text)
        elif numbers[2] > 0 and numbers[3] > 0 and (place := self._place(a, numbers)):
            return place
        else:
            text = f"box {bbox} of annotation {a['id']} in {document.file.name} has no area"
            self.faults.left_out(Kind.NO_AREA, info["file_name"], f"{text}; left out")
        return None

    def _place(self, a: Entry, numbers: list[float]) -> list[float] | None:
        """Where an object is, see `_Object`; numbers: of its bbox. None if that is no box."""
        if len(numbers) == 4 and not self.oriented:
            return numbers
        x, y, width, height = numbers[:4]
        corners = upright_corners(np.array([[x, y, x + width, y + height]]))
        if len(numbers) == 5:
            corners = corners_of(np.array([numbers]))
        elif not int(a.get("iscrowd", 0)):
            points = points_of(a.get("segmentation") or ())
            if points is not None and np.abs(points).max() <= FAR:
                around = corners_of(smallest_rectangle(points)[None])
                corners = around if are_boxes(around)[0] else corners
        if not are_boxes(corners)[0]:
            return None
        if self.oriented:
            return list(corners[0].tolist())
        x0, y0, x1, y1 = enclosing(corners)[0].tolist()
        return [x0, y0, x1 - x0, y1 - y0]

    def _area(self, info: Entry, a: Entry, own: float) -> float:
        """As annotated, of a mask perhaps; its own place's where that is none."""
        if "area" in a and float(a["area"]) > 0:
            return float(a["area"])
        if "area" in a:
            text = f"annotation {a['id']} has area {a['area']}; its box's is taken"
            self.faults.left_out(Kind.AREA, info["file_name"], text)
        return own

    def _record(
        self, number: int, info: Entry, size: tuple[int, int], objects: list[_Object]
    ) -> Record:
        places = [place for _, place in objects]
        labels = [self._label_of[int(a["category_id"])] for a, _ in objects]
        crowds = [int(a.get("iscrowd", 0)) != 0 for a, _ in objects]
        ignore = [int(a.get("ignore", 0)) != 0 for a, _ in objects]
        name = info["file_name"]
        if self.oriented:
            record = Record.of_corners(number, name, size, places, labels, ignore)
            own = record.area.tolist()
        else:
            boxes = np.array(places, np.float64).reshape(-1, 4)
            with np.errstate(over="ignore"):  # past a float's range it is infinite, and clipped
                boxes[:, 2:] += boxes[:, :2]
                record = Record.of_boxes(number, name, size, boxes.tolist(), labels, crowds)
            own = [width * height for _, _, width, height in places]
        area = [self._area(info, a, of) for (a, _), of in zip(objects, own, strict=True)]
        return replace(
            record,
            area=np.array(area, np.float64),
            iscrowd=np.array(crowds, bool),
            ignore=np.array(ignore, bool),
        )


def annotation_files(
    root: Path, split: str, val_share: float | None = None
) -> tuple[list[Path], str] | None:
    """The JSON files for `split` under a folder, and the split to take of them.

    Returns None where the folder holds no COCO JSON at all.

    Raises:
        NoSplit: there are COCO files, and none is for this split.
    """
    patterns = ("*.json", "annotations/*.json", "*/_annotations.coco.json")
    found = [f for f in files_in(root, *patterns) if looks_like_coco(f)]
    # COCO itself has keypoints and panoptic parts beside the instances
    found.sort(key=lambda f: (not f.stem.startswith("instances"), f))
    return files_of_split(root, found, split, "COCO", val_share) if found else None


def looks_like_coco(file: Path) -> bool:
    """Whether a file has the three lists; it is searched, not parsed. Captions have two."""
    if not file.is_file():
        return False
    if file.stem.startswith(("instances", "_annotations")):
        return True  # also where nothing can be read in it: that is to be said
    if not file.stat().st_size:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(key) >= 0 for key in _LISTS)


def _numbers(bbox: Any) -> list[float] | None:
    """The four numbers of an upright box, or the five of an oriented one."""
    try:
        numbers = [float(number) for number in bbox]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) in (4, 5) else None
