"""Data sets in one target form, and `load`, which finds the reader for a folder or a file.

>>> from detcore.data import load
>>> image, target = load("digits", "val")[0]
>>> target["boxes"].shape[1]
4
"""

from __future__ import annotations

try:
    import torchvision  # noqa: F401
    from PIL import Image  # noqa: F401
except ImportError as error:
    raise ImportError(
        "detcore.data needs torchvision and Pillow: pip install 'detcore[models]'"
    ) from error

from detcore.data.base import ClassificationDataset, DetectionDataset, Item, Record, Target
from detcore.data.dota_writer import write_dota_set
from detcore.data.faults import DamagedImage, DataError
from detcore.data.images import read_image
from detcore.data.loading.registry import AnyDataset, load
from detcore.data.readers.boxes_csv import BoxesCsv
from detcore.data.readers.cityscapes import Cityscapes
from detcore.data.readers.coco import Coco
from detcore.data.readers.digits import DigitPatches, Digits, DigitScenes
from detcore.data.readers.dota import Dota
from detcore.data.readers.folder import Folder
from detcore.data.readers.kitti import Kitti
from detcore.data.readers.multilabel import MultiLabel
from detcore.data.readers.openimages import OpenImages
from detcore.data.readers.torchvision_sets import (
    caltech256,
    cifar10,
    fashion_mnist,
    imagenet,
    mnist,
)
from detcore.data.readers.voc import Voc
from detcore.data.readers.yolo import YoloText
from detcore.data.tiling import TiledDetection, Tiles

__all__ = [
    "AnyDataset",
    "BoxesCsv",
    "Cityscapes",
    "ClassificationDataset",
    "Coco",
    "DamagedImage",
    "DataError",
    "DetectionDataset",
    "DigitPatches",
    "DigitScenes",
    "Digits",
    "Dota",
    "Folder",
    "Item",
    "Kitti",
    "MultiLabel",
    "OpenImages",
    "Record",
    "Target",
    "TiledDetection",
    "Tiles",
    "Voc",
    "YoloText",
    "caltech256",
    "cifar10",
    "fashion_mnist",
    "imagenet",
    "load",
    "mnist",
    "read_image",
    "write_dota_set",
]
