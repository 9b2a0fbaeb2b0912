"""One target form for every data set, and its way into pycocotools.

An item is ``(image, target)``. For detection:

- image: uint8 tensor ``[3, H, W]``, RGB
- target: ``boxes`` float32 ``[n, 4]`` xyxy in pixels of that image, ``labels`` int64 ``[n]`` from 1
  (0 is background), ``image_id`` int, ``area`` float32 ``[n]`` in pixels squared, ``iscrowd``
  uint8 ``[n]``

Crowd regions are no examples of an object, so no item's target has them; they stay in
`DetectionDataset.to_coco`, where the evaluation forgives detections that fall on them.
"""

from __future__ import annotations

import logging
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

Target = dict[str, Any]
Item = tuple[Tensor, Target]
Transform = Callable[[Tensor, Target], Item]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

log = logging.getLogger("detcore.data")


class DataError(ValueError):
    """A data set can't be read as asked; the text names the file and what was wanted."""


@dataclass(frozen=True)
class Record:
    """What is known of one image without decoding it. n objects, crowds among them."""

    image_id: int
    file_name: str
    width: int  # pixels
    height: int  # pixels
    boxes: NDArray[np.float64]  # [n, 4] xyxy, pixels, as the annotation has them
    labels: NDArray[np.int64]  # [n], from 1
    area: NDArray[np.float64]  # [n], pixels squared
    iscrowd: NDArray[np.bool_]  # [n]: a region of many objects
    ignore: NDArray[np.bool_]  # [n]: an object that evaluation neither asks for nor punishes
    extra: dict[str, Any] = field(default_factory=dict)

    def target(self) -> Target:
        """The training target: boxes clipped to the image; no crowds, nothing outside it."""
        boxes = self.boxes.astype(np.float32).reshape(-1, 4)
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, self.width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, self.height)
        # after rounding to float32: a loss that divides by a width must not meet 0
        seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        keep = seen & ~self.iscrowd
        return {
            "boxes": torch.from_numpy(boxes[keep]),
            "labels": torch.from_numpy(self.labels[keep]),
            "image_id": self.image_id,
            "area": torch.from_numpy(self.area[keep].astype(np.float32)),
            "iscrowd": torch.zeros(int(keep.sum()), dtype=torch.uint8),
        }


class DetectionDataset(Dataset[Item], ABC):
    """Base of all detection data sets.

    Attributes:
        classes: class names without background; label ``i`` is ``classes[i - 1]``.
        category_ids: the annotation's own id for each class, in the order of `classes`.
        transforms: applied to each item, or None.
        mirror: whether a mirrored image keeps its labels (false for digits and other writing).
        problems: what was left out on reading, one line each.
    """

    task = "detection"
    mirror = True

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

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"{type(self).__name__}: index {index} of {len(self)} items")
        image, target = self.image(index), self.record(index).target()
        return self.transforms(image, target) if self.transforms else (image, target)

    def to_coco(self) -> dict[str, Any]:
        """Ground truth as pycocotools takes it, in original pixels; transforms don't touch it.

        Objects to be ignored (VOC's "difficult") carry ``ignore: 1``, which
        `detcore.engine.evaluate` honours.
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
            for k, (x0, y0, x1, y1) in enumerate(rec.boxes.tolist()):
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # from 1: pycocotools reads id 0 as "no match"
                        "image_id": rec.image_id,
                        "category_id": self.category_ids[int(rec.labels[k]) - 1],
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
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
    """Detection images in files: a list of records and the path of each image."""

    def __init__(
        self,
        classes: Sequence[str],
        records: Sequence[Record],
        paths: Sequence[Path],
        transforms: Transform | None = None,
    ) -> None:
        super().__init__(classes, transforms)
        self.records, self.paths = list(records), list(paths)

    def __len__(self) -> int:
        return len(self.records)

    def record(self, index: int) -> Record:
        return self.records[index]

    def image(self, index: int) -> Tensor:
        rec = self.records[index]
        return read_image(self.paths[index], (rec.width, rec.height))

    def report(self) -> None:
        """Log once what was left out of training; `problems` keeps the lines."""
        for rec, path in zip(self.records, self.paths, strict=True):
            outside = int((~rec.iscrowd).sum()) - len(rec.target()["labels"])
            if outside:
                self.problems.append(f"{path}: {outside} box(es) outside the picture; left out")
        for line in self.problems:
            log.warning("%s", line)


def read_image(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """Read a picture as uint8 ``[3, H, W]``, RGB, turned as its EXIF orientation says.

    Args:
        path: any format Pillow reads.
        size: (width, height) that the annotation was made on, in pixels. Where it is the stored
            size and not the turned one, the annotator ignored EXIF, and so does this.

    Raises:
        DataError: the file is missing, or no readable picture.
    """
    try:
        with Image.open(path) as stored:
            turned = ImageOps.exif_transpose(stored)
            if size is not None and stored.size == size != turned.size:
                turned = stored
            # np.array, not asarray: torch wants memory that it may write to
            pixels = np.array(turned.convert("RGB"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such picture") from error
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable picture ({error})") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, read from the header alone.

    Raises:
        DataError: the file is no picture.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            sideways = picture.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 swap the axes
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: not a readable picture ({error})") from error
    return (height, width) if sideways else (width, height)


def split_names(split: str) -> tuple[str, ...]:
    """The names a split goes by in folders and files: val is also valid and validation."""
    return _SPLIT_NAMES.get(split, (split,))


def hashed_split(names: Iterable[str], split: str) -> list[str]:
    """Share names out where a data set has no split of its own: about 80% train, 20% val.

    A name's side hangs on the name alone (CRC-32), so that adding files moves none of the others.
    ``all`` gives every name.

    Raises:
        DataError: any other split is asked for.
    """
    if split == "all":
        return list(names)
    if split not in ("train", "val"):
        raise DataError(
            f"split must be train, val or all (the data has none of its own), got {split!r}"
        )
    return [n for n in names if (zlib.crc32(n.encode()) % 5 == 0) == (split == "val")]
