"""PASCAL VOC folders: one XML file a picture.

Two layouts are read: the development kit's (``Annotations/``, ``JPEGImages/``,
``ImageSets/Main/<split>.txt``), and XML files beside their pictures, in one folder or in one
folder a split, as LabelImg leaves them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detcore.data.base import (
    IMAGE_SUFFIXES,
    DataError,
    FileDetection,
    Record,
    Transform,
    hashed_split,
    image_size,
    split_names,
)


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
        transforms: applied to each item.

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
        transforms: Transform | None = None,
    ) -> None:
        self.root = Path(root)
        files = _annotation_files(self.root)
        chosen = _of_split(self.root, files, split)
        trees = {f: _parse(f) for f in (files if classes is None else chosen)}
        if classes is None:
            classes = sorted({_text(o, "name", f) for f, t in trees.items() for o in _objects(t)})
        super().__init__(classes, [], [], transforms)
        pictures = _Pictures(self.root)
        for number, file in enumerate(chosen, start=1):
            picture = pictures.of(file, trees[file])
            if picture is None:
                self.problems.append(f"{file}: its picture is missing; left out")
                continue
            self.records.append(self._read(number, file, trees[file], picture, one_based))
            self.paths.append(picture)
        if not self.records:
            raise DataError(f"{self.root}: split {split!r} has no picture with an annotation")
        self.report()

    def _read(
        self, number: int, file: Path, tree: ElementTree.Element, picture: Path, one_based: bool
    ) -> Record:
        label_of = {name: i for i, name in enumerate(self.classes, start=1)}
        boxes, labels, difficult = [], [], []
        for obj in _objects(tree):
            name = _text(obj, "name", file)
            if name not in label_of:
                known = ", ".join(self.classes)
                raise DataError(f"{file}: class {name!r} is not one of {known}")
            x0, y0, x1, y1 = (
                _number(obj, f"bndbox/{k}", file) for k in ("xmin", "ymin", "xmax", "ymax")
            )
            if not (x1 > x0 and y1 > y0):
                self.problems.append(
                    f"{file}: {name} box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) has no area; left out"
                )
                continue
            boxes.append((x0 - one_based, y0 - one_based, x1, y1))
            labels.append(label_of[name])
            difficult.append((obj.findtext("difficult") or "0").strip() == "1")
        width, height = (int(float(tree.findtext(f"size/{k}") or 0)) for k in ("width", "height"))
        if width <= 0 or height <= 0:
            width, height = image_size(picture)
        array = np.array(boxes, np.float64).reshape(-1, 4)
        return Record(
            image_id=number,
            file_name=picture.name,
            width=width,
            height=height,
            boxes=array,
            labels=np.array(labels, np.int64),
            area=(array[:, 2] - array[:, 0]) * (array[:, 3] - array[:, 1]),
            iscrowd=np.zeros(len(array), bool),
            ignore=np.array(difficult, bool),
        )


def is_voc(root: Path) -> bool:
    """Whether the folder holds XML annotations in one of the two layouts."""
    return bool(_annotation_files(root, needed=False))


def _annotation_files(root: Path, needed: bool = True) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    for pattern in ("Annotations/*.xml", "*.xml", "*/*.xml", "images/*/*.xml"):
        if found := sorted(root.glob(pattern)):
            return found
    if needed:
        raise DataError(
            f"{root}: no VOC annotations (looked for Annotations/*.xml, *.xml, */*.xml)"
        )
    return []


def _of_split(root: Path, files: list[Path], split: str) -> list[Path]:
    if split == "all":
        return files
    names = split_names(split)
    lists = sorted((root / "ImageSets" / "Main").glob("*.txt"))
    if lists:
        by_stem = {f.stem: f for f in files}
        for path in lists:
            if path.stem in names:
                # devkit lists may carry a second column (-1, 0, 1 a class)
                stems = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
                missing = [s for s in stems if s not in by_stem]
                if missing:
                    raise DataError(
                        f"{path}: {len(missing)} of its names have no annotation, "
                        f"the first is {missing[0]!r}"
                    )
                return [by_stem[s] for s in stems]
        raise DataError(
            f"{root}: no split {split!r} in ImageSets/Main "
            f"(there are {', '.join(p.stem for p in lists)})"
        )
    folders = sorted({f.parent.name for f in files})
    if len(folders) > 1:
        chosen = [f for f in files if f.parent.name in names]
        if not chosen:
            raise DataError(
                f"{root}: no folder for split {split!r} (there are {', '.join(folders)})"
            )
        return chosen
    keep = set(hashed_split((f.stem for f in files), split))
    return [f for f in files if f.stem in keep]


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
            there = folder.iterdir() if folder.is_dir() else ()
            self.listing[folder] = {
                p.name.lower(): p for p in there if p.suffix.lower() in IMAGE_SUFFIXES
            }
        return self.listing[folder]


def _parse(file: Path) -> ElementTree.Element:
    text = file.read_bytes()
    # Annotations need no document type; refusing one refuses entity bombs and outside files
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise DataError(f"{file}: XML with a document type or entities is not read")
    try:
        tree = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file}: malformed XML ({error})") from error
    if tree.tag != "annotation":
        raise DataError(f"{file}: expected a VOC <annotation>, got <{tree.tag}>")
    return tree


def _objects(tree: ElementTree.Element) -> list[ElementTree.Element]:
    return tree.findall("object")


def _text(node: ElementTree.Element, path: str, file: Path) -> str:
    text = (node.findtext(path) or "").strip()
    if not text:
        raise DataError(f"{file}: an <object> has no <{path}>")
    return text


def _number(node: ElementTree.Element, path: str, file: Path) -> float:
    text = _text(node, path, file)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise DataError(f"{file}: <{path}> must be a number, got {text!r}")
    return number
