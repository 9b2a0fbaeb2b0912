"""Data sets in one target form, and `load`, which finds the reader for a folder or a file.

>>> from detcore.data import load
>>> image, target = load("digits", "val")[0]
>>> target["boxes"].shape[1]
4
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

try:
    import torchvision  # noqa: F401
    from PIL import Image  # noqa: F401
except ImportError as error:
    raise ImportError(
        "detcore.data needs torchvision and Pillow: pip install 'detcore[models]'"
    ) from error

from detcore.data.base import ClassificationDataset, DetectionDataset, Item, Record, Target
from detcore.data.coco import Coco, annotation_file
from detcore.data.digits import DigitPatches, Digits, DigitScenes
from detcore.data.faults import DataError
from detcore.data.folder import Folder, is_folder
from detcore.data.images import read_image
from detcore.data.voc import Voc, is_voc

AnyDataset = DetectionDataset | ClassificationDataset

__all__ = [
    "AnyDataset",
    "ClassificationDataset",
    "Coco",
    "DataError",
    "DetectionDataset",
    "DigitPatches",
    "DigitScenes",
    "Digits",
    "Folder",
    "Item",
    "Record",
    "Target",
    "Voc",
    "load",
    "read_image",
]


def load(spec: str | Path, split: str = "train", **options: Any) -> AnyDataset:
    """Open a data set by name or by what is in a folder.

    Args:
        spec: ``digits``; a COCO JSON file; or a folder, which is recognised in this order as
            COCO (an instances JSON in it or in ``annotations/``), VOC (XML annotations), or
            classification (folders of pictures).
        split: ``train``, ``val`` or ``test``, if the data has it; ``all``. A JSON file is one
            split in itself and is taken whole, whatever is asked for.
        options: handed to the reader. For ``digits``: ``task`` ("detection" or
            "classification"), ``size`` (pixels), ``length``, ``seed``.

    Returns:
        The data set, see `detcore.data.base` for its items.

    Raises:
        DataError: nothing readable there; the text says what was looked for.
    """
    if str(spec) == "digits":
        return _digits(split, **options)
    path = Path(spec)
    if path.is_file():
        if path.suffix.lower() != ".json":
            raise DataError(f"{path}: a data file must be a COCO .json")
        return Coco(path, **options)
    if not path.is_dir():
        raise DataError(f"{path}: no such data (give 'digits', a COCO .json file, or a folder)")
    if found := annotation_file(path, split):
        return Coco(found[0], split=found[1], **options)
    if is_voc(path):
        return Voc(path, split, **options)
    if is_folder(path):
        return Folder(path, split, **options)
    raise DataError(
        f"{path}: no data recognised; looked for a COCO .json here and in annotations/, VOC .xml "
        f"here, in Annotations/ and one folder down, and folders of pictures"
    )


def _digits(
    split: str, *, task: str = "detection", size: int | None = None, **options: Any
) -> AnyDataset:
    # An epoch of 10,000 fresh pictures costs nothing to store; 500 give AP50 within about 0.01
    options.setdefault("length", 10_000 if split == "train" else 500)
    if task == "classification":
        return DigitPatches(split, size=size or 32, **options)
    return Digits(split, scenes=DigitScenes(size=size or 128), **options)
