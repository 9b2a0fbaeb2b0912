"""PASCAL VOC folders: one XML file per picture.

Two layouts are read: the development kit's (``Annotations/``, ``JPEGImages/``,
``ImageSets/Main/<split>.txt``), and XML files beside their pictures, in one folder or in one
folder per split, as LabelImg leaves them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detcore.data.base import FileDetection, Record, Transform, box_areas
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in, is_picture
from detcore.data.images import IMAGE_SUFFIXES
from detcore.data.splits import is_named, lists_in, part
from detcore.utils.user_files import read_text

_Box = tuple[float, float, float, float]


class _Object(NamedTuple):
    box: _Box  # xyxy, pixels, as annotated
    label: int
    difficult: bool


class Voc(FileDetection):
    """A detection set in PASCAL VOC's form (Everingham et al., IJCV 2010).

    Args:
        root: the folder.
        split: a file of ``ImageSets/Main`` or a folder of pictures; ``all`` takes every
            annotation; where the data has no splits, ``train`` and ``val`` are 80% and 20% by a
            hash of the file name.
        classes: their names in label order; None takes the names in all annotations of the
            folder, sorted, so that every split has the same labels.
        one_based: subtract 1 from left and top, for data whose pixels count from 1 and whose
            right and bottom pixels are inside the box, like VOC2007 itself. The default takes the
            numbers as they stand, which is what annotation tools write.
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.

    Objects marked difficult are trained on, and ignored in evaluation. Boxes without area and
    pictures that are missing are left out and reported once, with the file's name.

    Raises:
        DataError: no such folder or split, an XML file that can't be read, a class not in
            `classes`.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        one_based: bool = False,
        val_share: float | None = None,
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root = Path(root)
        super().__init__(classes or [], transforms, faults)
        files = _annotation_files(self.root)
        chosen = _of_split(self.root, files, split, self.faults, val_share)
        parsed = {f: self._parsed(f) for f in (files if classes is None else chosen)}
        trees = {f: tree for f, tree in parsed.items() if tree is not None}
        if classes is None:
            every = (o.findtext("name") for t in trees.values() for o in _objects(t))
            # an object without a name is refused when its picture is read
            self.name_classes(sorted({name.strip() for name in every if name and name.strip()}))
        pictures = _Pictures(self.root)
        for number, file in enumerate(chosen, start=1):
            if file not in trees:
                continue
            objects = self._usable(file, trees[file])
            picture = pictures.of(file, trees[file])
            name = (picture or file).name
            record_of = partial(_record, number, objects, name, one_based)
            self.take(picture, file, record_of, _stated_size(trees[file]))
        self.finish(self.root, split)

    def _parsed(self, file: Path) -> ElementTree.Element | None:
        try:
            return _parse(file)
        except DataError as error:
            self.refuse_file(file, error)
            return None

    def _usable(self, file: Path, tree: ElementTree.Element) -> list[_Object]:
        label_of = {name: i for i, name in enumerate(self.classes, start=1)}
        objects = []
        for number, obj in enumerate(_objects(tree), start=1):
            # its number tells it from others of the same fault
            where = f"object {number}"
            box = self._box(obj, file, where, label_of)
            if box is not None:
                difficult = (obj.findtext("difficult") or "0").strip() == "1"
                objects.append(_Object(box, label_of[_text(obj, "name", where)], difficult))
        return objects

    def _box(
        self, obj: ElementTree.Element, file: Path, where: str, label_of: dict[str, int]
    ) -> _Box | None:
        try:
            name = _text(obj, "name", where)
            x0, y0, x1, y1 = (
                _number(obj, f"bndbox/{k}", where) for k in ("xmin", "ymin", "xmax", "ymax")
            )
        except DataError as error:
            kind = Kind.NOT_FINITE if "must be a number" in str(error) else Kind.ENTRY
            self.faults.refuse(kind, file, str(error))
            return None
        if name not in label_of:
            text = f"{where} has class {name!r}, which is not one of {', '.join(self.classes)}"
            self.faults.refuse(Kind.UNKNOWN_CLASS, file, text)
            return None
        if not (x1 > x0 and y1 > y0):
            text = f"{where}, {name} ({x0:g}, {y0:g}, {x1:g}, {y1:g}), has no area; left out"
            self.faults.left_out(Kind.NO_AREA, file, text)
            return None
        return x0, y0, x1, y1


def _record(
    number: int, objects: list[_Object], name: str, one_based: bool, size: tuple[int, int]
) -> Record:
    boxes = np.array([o.box for o in objects], np.float64).reshape(-1, 4)
    boxes[:, :2] -= one_based
    return Record(
        image_id=number,
        file_name=name,
        width=size[0],
        height=size[1],
        boxes=boxes,
        labels=np.array([o.label for o in objects], np.int64),
        area=box_areas(boxes),
        iscrowd=np.zeros(len(boxes), bool),
        ignore=np.array([o.difficult for o in objects], bool),
    )


def is_voc(root: Path) -> bool:
    """Whether the folder holds XML annotations in one of the two layouts."""
    return bool(_annotation_files(root, needed=False))


def _annotation_files(root: Path, needed: bool = True) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    for pattern in ("Annotations/*.xml", "*.xml", "*/*.xml", "images/*/*.xml"):
        if found := files_in(root, pattern):
            return found
    if needed:
        raise DataError(
            f"{root}: no VOC annotations (looked for Annotations/*.xml, *.xml, */*.xml)"
        )
    return []


def _of_split(
    root: Path, files: list[Path], split: str, faults: Faults, val_share: float | None
) -> list[Path]:
    if split == "all":
        return files
    lists = lists_in(root / "ImageSets" / "Main")
    if not lists:
        own: dict[str, list[Path]] = {}
        for file in files:
            # in one folder, whatever it is called, they are not divided
            own.setdefault(file.parent.name if file.parent != root else "", []).append(file)
        return part(own, split, root, name_of=lambda f: f.stem, val_share=val_share)
    by_stem = {f.stem: f for f in files}
    chosen = part(lists, split, root, name_of=str, val_share=val_share)
    # devkit's lists of pictures to be submitted name such as have no annotation
    if missing := [stem for stem in chosen if stem not in by_stem]:
        listing = next((n for n in lists if is_named(n, split)), next(iter(lists)))
        text = f"{len(missing)} of its names have no annotation, the first is {missing[0]!r}"
        faults.refuse(Kind.ANNOTATIONS, root / "ImageSets" / "Main" / f"{listing}.txt", text)
    return [by_stem[stem] for stem in chosen if stem in by_stem]


class _Pictures:
    """Finds the picture of an annotation: by its own file name first, then by what it says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listing: dict[Path, dict[str, Path]] = {}

    def of(self, file: Path, tree: ElementTree.Element) -> Path | None:
        said = (tree.findtext("filename") or "").replace("\\", "/").rsplit("/", 1)[-1]
        for folder in (self.root / "JPEGImages", file.parent, self.root / "images"):
            names = self._names(folder)
            for name in (said, *(file.stem + suffix for suffix in IMAGE_SUFFIXES)):
                # The annotation's own stem must agree: copies of one XML often keep a stale name
                if name.lower() in names and Path(name).stem == file.stem:
                    return names[name.lower()]
            if said.lower() in names:
                return names[said.lower()]
        return None

    def _names(self, folder: Path) -> dict[str, Path]:
        if folder not in self.listing:
            there = files_in(folder, "*") if folder.is_dir() else ()
            self.listing[folder] = {p.name.lower(): p for p in there if is_picture(p)}
        return self.listing[folder]


def _parse(file: Path) -> ElementTree.Element:
    # decoded first: in UTF-16 nothing below would be found
    text = read_text(file)
    # Annotations need no document type; refusing one refuses entity bombs and outside files
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{file}: XML with a document type or entities is not read")
    try:
        tree = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: malformed XML ({error})") from error
    if tree.tag != "annotation":
        raise DataError(f"{file}: expected a VOC <annotation>, got <{tree.tag}>")
    return tree


def _stated_size(tree: ElementTree.Element) -> tuple[int, int] | None:
    """(width, height) in pixels as the annotation says, if it says something sensible."""
    try:
        width, height = (float(tree.findtext(f"size/{k}") or 0) for k in ("width", "height"))
        size = int(width), int(height)
    except (ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def _objects(tree: ElementTree.Element) -> list[ElementTree.Element]:
    return tree.findall("object")


def _text(node: ElementTree.Element, path: str, where: str) -> str:
    text = (node.findtext(path) or "").strip()
    if not text:
        raise DataError(f"{where} has no <{path}>")
    return text


def _number(node: ElementTree.Element, path: str, where: str) -> float:
    text = _text(node, path, where)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{where}: <{path}> must be a number, got {text!r}")
    return number
