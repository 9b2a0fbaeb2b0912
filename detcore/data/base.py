"""One target form for every data set, and its way into pycocotools.

An item is ``(image, target)``. For detection:

- image: uint8 tensor ``[3, H, W]``, RGB
- target: ``boxes`` float32 ``[n, 4]`` xyxy in pixels of that image, of an oriented set ``[n, 5]``
  cxcywhr (`detcore.data.oriented`), ``labels`` int64 ``[n]`` from 1 (0 is background),
  ``image_id`` int, ``area`` float32 ``[n]`` in pixels squared, ``iscrowd`` uint8 ``[n]``

For classification the image is the same, and the target has ``image_id`` and ``label``, an int64
scalar tensor from 0, or where an image shows any number of classes ``labels`` int64 ``[classes]``
of 0 and 1.

Crowd regions are no examples of an object, so no item's target has them; they stay in
`DetectionDataset.to_coco`, where the evaluation forgives detections that fall on them.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from os.path import isfile
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from detcore.data.faults import DamagedImage, DataError, Faults, Kind
from detcore.data.images import image_size, read_image
from detcore.data.record import Record, Target, box_areas
from detcore.utils.text import counted
from detcore.utils.user_files import read_text

__all__ = [
    "ClassificationDataset",
    "DetectionDataset",
    "FileDetection",
    "Item",
    "Part",
    "Record",
    "Target",
    "Transform",
    "box_areas",
    "log",
]

Item = tuple[Tensor, Target]
Transform = Callable[[Tensor, Target], Item]
Part = tuple[int, int, int, int]  # xyxy, pixels

_SHOWN = 5  # faults of a kind that are named in training

log = logging.getLogger(__name__)


class DetectionDataset(Dataset[Item], ABC):
    """Base of all detection data sets.

    Attributes:
        classes: class names without background; label ``i`` is ``classes[i - 1]``.
        category_ids: the annotation's own id for each class, in the order of `classes`.
        transforms: applied to each item, or None.
        mirror: whether a mirrored image keeps its labels (false for digits and other writing).
        oriented: whether boxes have an angle: targets of [n, 5], and records with corners.
        tile: side of the tiles that its images are cut into for training, pixels, if nothing else
            is asked for; 0: they are taken whole. See `detcore.data.load`.
        problems: what was left out on reading, one line each.
        whole: whether it is a file without splits, taken whole, whatever split was asked for.
    """

    task = "detection"
    mirror = True
    oriented = False
    tile = 0
    whole = False

    def __init__(self, classes: Sequence[str], transforms: Transform | None = None) -> None:
        self.classes = list(classes)
        self.category_ids = list(range(1, len(self.classes) + 1))
        self.transforms = transforms
        self.problems: list[str] = []

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def record(self, index: int) -> Record:
        """Annotation of image `index`, without its pixels."""

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Pixels of image `index`: uint8 ``[3, H, W]``, RGB."""

    def part(self, index: int, box: Part) -> Tensor:
        """The pixels of a part of image `index`, as `image` gives them; box: xyxy, pixels."""
        x0, y0, x1, y1 = box
        # a copy: to another process a view would be sent with all of the image
        return self.image(index)[:, y0:y1, x0:x1].clone()

    def path(self, index: int) -> Path | None:
        """The file of image `index`, if it is one."""
        return None

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of image `index` in pixels, without decoding it."""
        rec = self.record(index)
        return rec.width, rec.height

    def __getitem__(self, index: int) -> Item:
        _check_index(self, index)
        image, target = self.image(index), self.record(index).target()
        return self.transforms(image, target) if self.transforms else (image, target)

    def to_coco(self) -> dict[str, Any]:
        """Ground truth as pycocotools takes it, in original pixels; transforms don't touch it.

        Objects to be ignored (VOC's "difficult") carry ``ignore: 1``, which
        `detcore.evaluation.evaluator` honours. Of an oriented set ``bbox`` is cxcywhr, five numbers
        as in detectron2's XYWHA_ABS, and ``corners`` are the eight that were annotated.
        """
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(len(self)):
            rec = self.record(index)
            images.append(
                {
                    "id": rec.image_id,
                    "file_name": rec.file_name,
                    "width": rec.width,
                    "height": rec.height,
                }
            )
            for k, where in enumerate(_coco_boxes(rec)):
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # from 1: pycocotools reads id 0 as "no match"
                        "image_id": rec.image_id,
                        "category_id": self.category_ids[int(rec.labels[k]) - 1],
                        **where,
                        "area": float(rec.area[k]),
                        "iscrowd": int(rec.iscrowd[k]),
                        "ignore": int(rec.ignore[k]),
                    }
                )
        categories = [
            {"id": i, "name": n} for i, n in zip(self.category_ids, self.classes, strict=True)
        ]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


class FileDetection(DetectionDataset):
    """Detection images in files: a list of records and the path of each image.

    faults: takes up what is wrong with the data; the default raises what it can't leave out.
    """

    def __init__(
        self,
        classes: Sequence[str],
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(classes, transforms)
        self.records: list[Record] = []
        self.paths: list[Path] = []
        self.faults = Faults() if faults is None else faults

    def __len__(self) -> int:
        return len(self.records)

    def record(self, index: int) -> Record:
        """The boxes and labels of one image, in pixels of the original file."""
        return self.records[index]

    def image(self, index: int) -> Tensor:
        """One image as uint8 [3, H, W], RGB. Raises DamagedImage if it cannot be decoded."""
        rec = self.records[index]
        return read_image(self.paths[index], (rec.width, rec.height))

    def part(self, index: int, box: Part) -> Tensor:
        """A part of one image; all of it is decoded for that."""
        rec = self.records[index]
        return read_image(self.paths[index], (rec.width, rec.height), box)

    def path(self, index: int) -> Path:
        """The file of one image."""
        return self.paths[index]

    def add(self, record: Record, path: Path) -> None:
        """Take up an image."""
        self.records.append(record)
        self.paths.append(path)

    def name_classes(self, classes: Sequence[str]) -> None:
        """Set the classes of a set that says on reading which it has."""
        self.classes = list(classes)
        self.category_ids = list(range(1, len(self.classes) + 1))

    def lines_of(self, file: Path) -> list[str]:
        """The lines of a file of annotations; none, and noted as a fault, if it is none."""
        try:
            return read_text(file).splitlines()
        except DataError as error:
            self.refuse_file(file, error)
            return []

    def refuse_file(self, file: Path, error: DataError) -> None:
        """Raise what is wrong with a file of annotations, or note it where all are wanted."""
        text = str(error).removeprefix(f"{file}: ")
        self.faults.refuse(Kind.ANNOTATIONS, file, text)

    def take(
        self,
        path: Path | None,
        named: Path,
        record_of: Callable[[tuple[int, int]], Record],
        stated: tuple[int, int] | None = None,
    ) -> None:
        """Take up a picture, unless it is missing or damaged, which is noted.

        path: of its file; None if there is none. named: what a missing one is called. record_of:
        gives its record for its size, see `size_of`.
        """
        if path is None or not isfile(path):
            # an annotation's picture, of no known name, or the picture itself
            what = "its picture" if path is None else "picture"
            self.faults.left_out(Kind.MISSING, named, f"{what} is missing; left out")
        elif size := self.size_of(path, stated):
            self.add(record_of(size), path)

    def finish(self, source: Path, split: str) -> None:
        """End the reading: DataError where nothing could be taken up, else `report`."""
        if not self.records:
            raise DataError(f"{source}: no picture of split {split!r} can be read")
        self.report(source)

    def size_of(self, path: Path, stated: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """(width, height) of a picture in pixels, by its header.

        stated: what its annotation says. Where the picture is of another size the picture's counts,
        which is noted; where it is damaged the stated one, for whoever loads it to say so; without
        one it is left out, which is noted, and None.
        """
        try:
            size = image_size(path, stated)
        except DamagedImage as error:
            if stated:
                return stated
            text = str(error).removeprefix(f"{path}: ")
            self.faults.left_out(Kind.UNREADABLE, path, f"{text}; left out")
            return None
        if stated and size != stated:
            text = f"{size[0]} x {size[1]} pixels, annotated as {stated[0]} x {stated[1]}"
            self.faults.left_out(Kind.SIZE, path, text)
        return size

    def report(self, source: Path) -> None:
        """Log once what was left out of training; `problems` keeps the lines.

        source: the set's file or folder, as errors name it.
        """
        boxes = 0
        for rec, path in zip(self.records, self.paths, strict=True):
            inside = len(rec.target()["labels"])
            boxes += inside
            outside = int((~rec.iscrowd).sum()) - inside
            if outside:
                text = f"{counted(outside, 'box', 'boxes')} outside the picture; left out"
                self.faults.left_out(Kind.OUTSIDE, path, text, outside)
        if not boxes:
            # legal, and seldom meant: a training on it learns to find nothing
            self.faults.left_out(Kind.NO_BOXES, source, "no picture has a box")
        self.problems = [str(fault) for fault in self.faults]
        if not self.faults.tolerant:
            for line in self.faults.of_kinds(_SHOWN):
                log.warning("%s", line)


class ClassificationDataset(Dataset[Item], ABC):
    """Base of all classification data sets.

    Attributes:
        classes: class names; label ``i`` is ``classes[i]``.
        multilabel: whether an image shows any number of classes, instead of exactly one.
        transforms, mirror, whole: as in `DetectionDataset`.
    """

    task = "classification"
    mirror = True
    whole = False
    multilabel = False

    def __init__(self, classes: Sequence[str], transforms: Transform | None = None) -> None:
        self.classes = list(classes)
        self.transforms = transforms

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def image(self, index: int) -> Tensor:
        """Pixels of image `index`: uint8 ``[3, H, W]``, RGB."""

    @abstractmethod
    def label(self, index: int) -> Tensor:
        """int64: a scalar from 0, or with `multilabel` ``[classes]`` of 0 and 1."""

    def image_id(self, index: int) -> int:
        """The number of image `index`, from 1."""
        return index + 1

    def path(self, index: int) -> Path | None:
        """The file of image `index`, if it is one."""
        return None

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of image `index` in pixels; of a file the header is read."""
        if path := self.path(index):
            return image_size(path)
        height, width = self.image(index).shape[-2:]
        return width, height

    def __getitem__(self, index: int) -> Item:
        _check_index(self, index)
        key = "labels" if self.multilabel else "label"
        target = {key: self.label(index), "image_id": self.image_id(index)}
        image = self.image(index)
        return self.transforms(image, target) if self.transforms else (image, target)


def _coco_boxes(record: Record) -> list[dict[str, Any]]:
    """Where each object is, as a COCO annotation says it."""
    if record.corners is None:
        return [{"bbox": [x0, y0, x1 - x0, y1 - y0]} for x0, y0, x1, y1 in record.boxes.tolist()]
    pairs = zip(record.rectangles.tolist(), record.corners.tolist(), strict=True)
    return [{"bbox": box, "corners": corners} for box, corners in pairs]


def _check_index(dataset: DetectionDataset | ClassificationDataset, index: int) -> None:
    if not 0 <= index < len(dataset):
        raise IndexError(f"{type(dataset).__name__}: index {index} of {len(dataset)} items")
