"""Which reader takes what ``--data`` names."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

from detcore.data.base import ClassificationDataset, DetectionDataset, log
from detcore.data.faults import DataError, Faults
from detcore.data.loading.stray_boxes import box_sets, stray_annotation
from detcore.data.readers.boxes_csv import BoxesCsv, is_boxes_csv
from detcore.data.readers.cityscapes import Cityscapes, is_cityscapes
from detcore.data.readers.coco import Coco, annotation_files
from detcore.data.readers.digits import DigitPatches, Digits, DigitScenes
from detcore.data.readers.dota import Dota, is_dota
from detcore.data.readers.folder import Folder, is_folder
from detcore.data.readers.kitti import Kitti, is_kitti
from detcore.data.readers.multilabel import MultiLabel, is_multilabel, is_multilabel_folder
from detcore.data.readers.openimages import OpenImages, is_openimages
from detcore.data.readers.torchvision_sets import (
    caltech256,
    cifar10,
    fashion_mnist,
    imagenet,
    is_imagenet,
    mnist,
    recognised,
)
from detcore.data.readers.voc import Voc, is_voc
from detcore.data.readers.yolo import YoloText, is_yolo
from detcore.data.readers.yolo_plan import YAML_SUFFIXES
from detcore.data.splits import is_named
from detcore.data.tiling import Tiles, in_tiles

AnyDataset = DetectionDataset | ClassificationDataset


def load(
    spec: str | Path,
    split: str = "train",
    *,
    faults: Faults | None = None,
    val_share: float | None = None,
    oriented: bool = False,
    tile: int | Tiles | None = None,
    **options: Any,
) -> AnyDataset:
    """Open a data set by name or by what is in a folder.

    Args:
        spec: ``digits``; ``NAME:PATH`` with a name of `NAMES`; a COCO JSON file, a CSV of
            `BoxesCsv`'s form, a CSV or JSON file of `MultiLabel`'s forms, or a YAML file as of
            `YoloText`; or a folder, which is recognised in this order as COCO (an instances JSON
            in it or in ``annotations/``), VOC (XML annotations), DOTA, YOLO texts, Open Images,
            KITTI, Cityscapes, boxes in CSV, CIFAR-10, MNIST, Fashion-MNIST, Caltech-256, labels (a
            CSV or JSON of `MultiLabel`'s forms, beside its pictures or their ``images/``), or
            classification (folders of pictures; ImageNet's too). One that holds a single set of
            boxes further down is that set, and a folder with boxes in it is never read as
            classification unless it is named: ``folder:PATH``.
        split: ``train``, ``val`` or ``test``, if the data has it; or ``all``. A COCO JSON file,
            and a CSV without a column ``split``, have no splits and are taken whole.
        faults: collects what is wrong with files, instead of raising it.
        val_share: share of the training pictures to hold out for ``val`` if the data has no
            validation split. None: a fifth of data without splits, and nothing of data that has
            a part ``train``. 1: data without splits counts whole as ``val``. 0: nothing is held
            out. See `detcore.data.splits`.
        oriented: boxes with an angle, `detcore.data.oriented`: of ``digits``, DOTA, YOLO texts and
            COCO. Without it boxes of such data are the upright ones around the objects.
        tile: cut each image of a detection set into tiles, which are then the items: `Tiles`, or a
            side in pixels of tiles that overlap by 200 pixels (by half of a side below 400).
            `TiledDetection` says what becomes of objects that are cut. 0: whole images. None: 0,
            but 1,024 of DOTA's split ``train``.
        options: handed to the reader. For ``digits``: ``task`` ("detection" or
            "classification"), ``size`` (pixels), ``length``, ``seed``.

    Returns:
        The data set, see `detcore.data.base` for its items.

    Raises:
        DataError: nothing readable there; the text says what was looked for.
    """
    data: AnyDataset
    if str(spec) == "digits":
        data = _digits(split, oriented=oriented, **options)
        return in_tiles(data, tile) if tile else data
    name, path = named(str(spec))
    if name and not path.exists():
        raise DataError(f"{path}: no such file or folder ({name}: was asked for)")
    reader, path = (NAMES[name], path) if name else _reader_of(path)
    taken = signature(reader).parameters
    if oriented and "oriented" not in taken:
        raise DataError(
            f"{path}: its form has upright boxes alone; oriented ones have digits and "
            f"{', '.join(f'{form}:PATH' for form in ORIENTED)}"
        )
    if oriented:
        options["oriented"] = True
    for option, value in (("faults", faults), ("val_share", val_share)):
        if value is not None and option in taken:
            options[option] = value
    data = reader(path, split, **options)
    if tile is None:
        cut = isinstance(data, DetectionDataset) and is_named(split, "train")
        tile = data.tile if cut else 0  # type: ignore[union-attr]
    return in_tiles(data, tile) if tile else data


def named(spec: str) -> tuple[str, Path]:
    """The name of `NAMES` in NAME:PATH, or "", and the path."""
    name, colon, rest = spec.partition(":")
    # a path may have a colon in it: C:\data
    return (name, Path(rest)) if colon and name in NAMES else ("", Path(spec))


def _coco(
    path: Path,
    split: str,
    *,
    faults: Faults | None = None,
    val_share: float | None = None,
    oriented: bool = False,
    **options: Any,
) -> Coco:
    options |= {"faults": faults, "val_share": val_share, "oriented": oriented}
    if path.is_file():
        data = Coco(path, **options)
        data.whole = True
        return data
    found = annotation_files(path, split, val_share)
    if not found:
        raise DataError(f"{path}: no COCO .json here or in annotations/")
    files, share = found
    return Coco(files, split=share, **options)


NAMES: dict[str, Callable[..., Any]] = {
    "coco": _coco,
    "voc": Voc,
    "yolo": YoloText,
    "dota": Dota,
    "openimages": OpenImages,
    "kitti": Kitti,
    "cityscapes": Cityscapes,
    "csv": BoxesCsv,
    "cifar10": cifar10,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "caltech256": caltech256,
    "imagenet": imagenet,
    "folder": Folder,
    "multilabel": MultiLabel,
}

ORIENTED = [name for name, reader in NAMES.items() if "oriented" in signature(reader).parameters]

_Reader = Callable[..., Any]
_LOOKED_FOR = (
    "a COCO .json here and in annotations/, VOC .xml here, in Annotations/ and one folder down, "
    "labelTxt/ (DOTA), data.yaml or classes.txt (YOLO), class-descriptions-boxable.csv (Open "
    "Images), label_2/ (KITTI), gtFine/ (Cityscapes), a .csv with columns filename, class, xmin, "
    "ymin, xmax, ymax, cifar-10-batches-py/, MNIST/raw, FashionMNIST/raw, 256_ObjectCategories/, a "
    ".csv or .json of labels, and folders of pictures"
)


def _reader_of(path: Path) -> tuple[_Reader, Path]:
    """The reader for a path, and the path to give it."""
    if path.is_file():
        return _reader_of_file(path), path
    if not path.is_dir():
        raise DataError(
            f"{path}: no such data (give 'digits', a COCO .json file, a .csv of boxes or labels, a "
            f"folder, or NAME:PATH with one of {', '.join(NAMES)})"
        )
    if is_imagenet(path):
        return imagenet, path
    if name := _form_of_boxes(path):
        return NAMES[name], path
    packed = recognised(path)
    if len(packed) > 1:
        raise DataError(f"{path}: it holds {' and '.join(packed)}; name one: {packed[0]}:{path}")
    if packed:
        return NAMES[packed[0]], path
    if inside := box_sets(path, _form_of_boxes):
        return _single(path, inside)
    if is_multilabel_folder(path):
        return MultiLabel, path
    if is_folder(path):
        if stray := stray_annotation(path):
            raise DataError(
                f"{path}: it holds boxes ({stray.relative_to(path)}) where no format "
                f"expects them; looked for {_LOOKED_FOR}; name a format, such as voc:{path}, or "
                f"folder:{path} for one folder per class"
            )
        return Folder, path
    raise DataError(
        f"{path}: no data recognised; looked for {_LOOKED_FOR}; a format can be named, such as "
        f"coco:{path} (there are {', '.join(NAMES)})"
    )


def _reader_of_file(path: Path) -> _Reader:
    if path.suffix.lower() in YAML_SUFFIXES:
        return YoloText
    if path.suffix.lower() not in (".json", ".csv"):
        raise DataError(
            f"{path}: wanted a COCO .json, a YOLO .yaml, a .csv of boxes or a .csv or .json "
            f"of labels"
        )
    if is_boxes_csv(path):
        return BoxesCsv
    return MultiLabel if is_multilabel(path) else _coco


def _form_of_boxes(path: Path) -> str | None:
    """The name of the form that a folder of boxes is in."""
    for fits, name in (
        (_has_coco, "coco"),
        (is_voc, "voc"),
        (is_dota, "dota"),
        (is_yolo, "yolo"),
        (is_openimages, "openimages"),
        (is_kitti, "kitti"),
        (is_cityscapes, "cityscapes"),
        (is_boxes_csv, "csv"),
    ):
        if fits(path):
            return name
    return None


def _single(path: Path, inside: list[tuple[str, Path]]) -> tuple[_Reader, Path]:
    if len(inside) > 1:
        held = ", ".join(f"{name}:{folder}" for name, folder in inside[:5])
        raise DataError(f"{path}: it holds {len(inside)} sets of boxes; name one of {held}")
    name, folder = inside[0]
    log.warning("%s: read as %s:%s", path, name, folder)
    return NAMES[name], folder


def _has_coco(root: Path) -> bool:
    try:
        return annotation_files(root, "all") is not None
    except DataError:
        return True  # there are some, for other splits


def _digits(
    split: str,
    *,
    task: str = "detection",
    size: int | None = None,
    oriented: bool = False,
    **options: Any,
) -> AnyDataset:
    # An epoch of 10,000 fresh pictures costs nothing to store; 500 give AP50 within about 0.01
    options.setdefault("length", 10_000 if split == "train" else 500)
    if task == "classification":
        if oriented:
            raise DataError("digits: oriented boxes are of detection, the task is classification")
        return DigitPatches(split, size=size or 32, **options)
    scenes = DigitScenes.oriented if oriented else DigitScenes
    return Digits(split, scenes=scenes(size=size or 128), **options)
