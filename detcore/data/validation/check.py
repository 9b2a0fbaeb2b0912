"""What is in a data set and what is wrong with it: the work of ``detcore data check``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from os.path import exists
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detcore.data.base import ClassificationDataset, DetectionDataset, Record
from detcore.data.faults import DamagedImage, DataError, Faults, Kind, NoSplit
from detcore.data.images import image_size, read_image, unwarned
from detcore.data.loading.registry import AnyDataset, load, named
from detcore.data.polygons import are_convex
from detcore.data.readers.torchvision_sets import Packed
from detcore.data.splits import SPLITS
from detcore.utils.text import counted

ENORMOUS_SIDE = 20_000  # pixels; a side of this or more is reported
Progress = Callable[[int, int], None]
_QUANTILES = {"min": 0.0, "5%": 0.05, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}
_FILES = 20  # named of each kind of fault
_CLASSES = 20  # named of those without objects
_SLACK = 0.5  # pixels that a box may stick out; annotation tools round
_Size = tuple[int, int]


def check(
    spec: str,
    split: str | None = None,
    progress: Progress | None = None,
    oriented: bool = False,
) -> dict[str, Any]:
    """Read a whole data set, decode every picture, and find all that is wrong with it.

    Args:
        spec: what `detcore.data.load` takes.
        split: one of its splits; None checks every split that it has, ``all`` if it has none.
        progress: called with (pictures decoded, pictures in all).
        oriented: read boxes with an angle, as `detcore.data.load` does.

    Returns:
        JSON-able: ``data``; ``splits`` (of each: ``images``, ``objects`` and, for detection,
        ``crowds``, a region counted once though it be of several classes); ``classes`` (of each:
        ``name``, ``images``, ``objects``); quantiles in pixels of ``image_size`` and, for
        detection, ``box_size`` (width, height, and side: the root of the area) with counts of
        COCO's ``small``, ``medium`` and ``large``, and of oriented boxes quantiles of ``box_angle``
        in degrees (width is then the rectangle's longer side, height the shorter one, and the
        angle is the longer one's, counter-clockwise from -90 to below 90); ``faults`` (of each
        kind: ``kind``, ``error``, ``count``, ``files`` and ``examples``, the first 20); ``errors``
        and ``warnings``, their counts. Errors are what training would stop at or lose pictures by;
        warnings what it clips, leaves out or takes as it is. The order of everything is that of
        the data.

    Raises:
        DataError: there is no such file or folder. Any fault in it is in the answer instead.
    """
    path = _path_of(spec)
    faults, figures = Faults(tolerant=True), _Figures()
    # whole images, not tiles: each is decoded once
    opening = partial(load, spec, faults=faults, oriented=oriented, tile=0)
    opened = dict(_open(opening, path, split, faults))
    _compare(opened, faults)
    total = sum(len(data) for data in opened.values())
    done = 0
    for name, data in opened.items():
        figures.begin(name, data)
        for index, size in enumerate(_sizes(data, faults)):
            figures.add(data, index, size, faults)
            done += 1
            if progress:
                progress(done, total)
    _name_unused(figures, path or spec, faults)
    listed = _listed(faults)
    return {
        "data": str(spec),
        **figures.summary(),
        "faults": listed,
        "errors": sum(f["count"] for f in listed if f["error"]),
        "warnings": sum(f["count"] for f in listed if not f["error"]),
    }


def _path_of(spec: str) -> Path | None:
    if spec == "digits":
        return None
    path = named(spec)[1]
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return path


def _open(
    opening: Callable[[str], AnyDataset], path: Path | None, split: str | None, faults: Faults
) -> Iterator[tuple[str, AnyDataset]]:
    """The splits that can be opened; why another can't is noted."""
    missing: list[DataError] = []
    there = False
    for name in SPLITS if split is None else (split,):
        try:
            data = opening(name)
        except NoSplit as error:
            missing.append(error)
            continue
        except DataError as error:
            faults.refuse(Kind.ANNOTATIONS, *_file_and_text(error, path))
            there = True
            continue
        there = True
        if data.whole:
            yield split or "all", data
            break
        # torchvision's sets have no third part: test is val over again
        if not (isinstance(data, Packed) and name == "test" and split is None):
            yield name, data
    if not there:
        faults.refuse(Kind.ANNOTATIONS, *_file_and_text(missing[0], path))
    named = {fault.file for fault in faults}
    for file in _empty_files(path):
        if str(file) not in named:
            faults.refuse(Kind.ANNOTATIONS, file, "the file is empty")


def _file_and_text(error: DataError, path: Path | None) -> tuple[Path | None, str]:
    """Errors begin with the file or folder that they are about; else it is the data set."""
    file, _, text = str(error).partition(": ")
    return (Path(file), text) if text and exists(file) else (path, str(error))


def _empty_files(path: Path | None) -> list[Path]:
    """Annotation files without a byte, which no recogniser takes for one."""
    if path is None or not path.is_dir():
        return []
    patterns = ("*.json", "*.csv", "annotations/*.json", "annotations/*.csv")
    return [f for p in patterns for f in sorted(path.glob(p)) if f.stat().st_size == 0]


def _compare(opened: dict[str, AnyDataset], faults: Faults) -> None:
    """What must agree between splits, and what must not be in two."""
    seen: dict[Path, str] = {}
    first = next(iter(opened.items()), None)
    for name, data in opened.items():
        if first and data.classes != first[1].classes:
            text = f"its classes are {', '.join(data.classes)}; those of {first[0]} "
            text += ", ".join(first[1].classes)
            faults.refuse(Kind.CLASSES, f"split {name}", text)
        for index in range(len(data)):
            path = data.path(index)
            if path is None:
                break
            if path in seen:
                faults.refuse(Kind.DUPLICATE, path, f"is in {seen[path]} and again in {name}")
            seen.setdefault(path, name)


def _sizes(data: AnyDataset, faults: Faults) -> Iterator[_Size | None]:
    """(width, height) of each picture after decoding it; None where that fails."""

    def look(index: int) -> tuple[_Size | None, list[tuple[Kind, str]]]:
        path = data.path(index)
        if path is None:
            height, width = data.image(index).shape[-2:]
            return (width, height), []
        return _look(path, data.size(index) if isinstance(data, DetectionDataset) else None)

    # the report says itself what is enormous
    with unwarned(), ThreadPoolExecutor(os.cpu_count()) as pool:
        # in slices: a pool takes up all its work at once, and a set may have millions
        for start in range(0, len(data), 256):
            indices = range(start, min(start + 256, len(data)))
            for index, (size, found) in zip(indices, pool.map(look, indices), strict=True):
                for kind, text in found:
                    faults.left_out(kind, data.path(index), text)
                yield size


def _look(path: Path, stated: _Size | None) -> tuple[_Size | None, list[tuple[Kind, str]]]:
    """The size of a picture, and what is wrong with it. stated: as its annotation says."""
    found = []
    try:
        size = image_size(path)
        pixels = size[0] * size[1]
        if max(size) >= ENORMOUS_SIDE or pixels > (Image.MAX_IMAGE_PIXELS or pixels):
            found.append((Kind.ENORMOUS, f"{size[0]} x {size[1]} pixels"))
        height, width = read_image(path, stated).shape[-2:]
    except DamagedImage as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            found.append((Kind.ENORMOUS, "so many pixels that Pillow refuses it"))
        return None, [*found, (Kind.UNREADABLE, str(error).removeprefix(f"{path}: "))]
    if stated is not None and (width, height) != stated:
        text = f"{width} x {height} pixels, annotated as {stated[0]} x {stated[1]}"
        found.append((Kind.SIZE, text))
    return (width, height), found


@dataclass
class _Figures:
    """Counts and sizes, taken up picture by picture."""

    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    objects: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    sizes: list[_Size] = field(default_factory=list)
    boxes: list[NDArray[np.float64]] = field(default_factory=list)  # [n, 2] width, height each
    areas: list[NDArray[np.float64]] = field(default_factory=list)
    angles: list[NDArray[np.float64]] = field(default_factory=list)  # of oriented boxes, degrees
    split: str = ""

    def begin(self, name: str, data: AnyDataset) -> None:
        self.split = name
        columns = ["images", "objects"] + ["crowds"] * isinstance(data, DetectionDataset)
        self.splits[name] = dict.fromkeys(columns, 0)
        self.names = list(dict.fromkeys([*self.names, *data.classes]))

    def add(self, data: AnyDataset, index: int, size: _Size | None, faults: Faults) -> None:
        counts = self.splits[self.split]
        counts["images"] += 1
        if size is not None:
            self.sizes.append(size)
        if isinstance(data, ClassificationDataset):
            label = data.label(index)
            shown = label.nonzero().flatten() if label.ndim else label[None]
            labels = [data.classes[k] for k in shown.tolist()]
        else:
            record = data.record(index)
            _judge(record, data.path(index) or record.file_name, faults)
            single = ~record.iscrowd
            labels = [data.classes[k - 1] for k in record.labels[single].tolist()]
            # a region of every class, such as KITTI's DontCare, is a box of each
            counts["crowds"] += len(np.unique(record.boxes[record.iscrowd], axis=0))
            self.areas.append(record.area[single])
            if record.corners is None:
                boxes = record.boxes[single]
                self.boxes.append(boxes[:, 2:] - boxes[:, :2])
            else:
                boxes = record.rectangles[single]
                self.boxes.append(boxes[:, 2:4])
                self.angles.append(boxes[:, 4])
        counts["objects"] += len(labels)
        self.objects.update(labels)
        self.images.update(set(labels))

    def summary(self) -> dict[str, Any]:
        sizes = np.array(self.sizes, np.float64).reshape(-1, 2)
        answer: dict[str, Any] = {
            "splits": self.splits,
            "classes": [
                {"name": n, "images": self.images[n], "objects": self.objects[n]}
                for n in self.names
            ],
            "image_size": {k: _quantiles(sizes[:, i]) for i, k in enumerate(("width", "height"))},
        }
        if self.boxes:
            sides, areas = np.concatenate(self.boxes), np.concatenate(self.areas)
            root = np.sqrt(sides.prod(axis=1))
            answer["box_size"] = {
                "width": _quantiles(sides[:, 0]),
                "height": _quantiles(sides[:, 1]),
                "side": _quantiles(root),
                "small": int((areas < 32**2).sum()),
                "medium": int(((areas >= 32**2) & (areas <= 96**2)).sum()),
                "large": int((areas > 96**2).sum()),
            }
        if self.angles:
            answer["box_angle"] = _quantiles(np.concatenate(self.angles))
        return answer


def _name_unused(figures: _Figures, source: object, faults: Faults) -> None:
    if unused := [name for name in figures.names if not figures.objects[name]]:
        shown = ", ".join(unused[:_CLASSES]) + ", ..." * (len(unused) > _CLASSES)
        faults.left_out(Kind.NO_OBJECTS, source, f"nothing is of class {shown}", len(unused))


def _judge(record: Record, file: object, faults: Faults) -> None:
    """Boxes of an odd form or place or that are there twice, and pictures without any."""
    if len(record.boxes) == 0:
        faults.left_out(Kind.EMPTY, file, "no boxes")
        return
    single = ~record.iscrowd
    x0, y0, x1, y1 = record.boxes.T
    out = (np.minimum(x0, y0) < -_SLACK) | (x1 > record.width + _SLACK)
    out |= y1 > record.height + _SLACK
    # those wholly outside the reader has named
    if record.corners is None:
        place, then = record.boxes, "clipped"
        inside = (x1 > 0) & (y1 > 0) & (x0 < record.width) & (y0 < record.height)
    else:
        place, then = record.corners, "kept whole"
        x, y = record.rectangles[:, 0], record.rectangles[:, 1]
        inside = (x >= 0) & (y >= 0) & (x <= record.width) & (y <= record.height)
        if odd := int((~are_convex(place) & single).sum()):
            text = f"{counted(odd, 'object', 'objects')}; taken by the hull of the corners"
            faults.left_out(Kind.NOT_CONVEX, file, text, odd)
    if partly := int((inside & out & single).sum()):
        text = f"{counted(partly, 'box', 'boxes')}; {then}"
        faults.left_out(Kind.PARTLY_OUTSIDE, file, text, partly)
    objects = np.column_stack([record.labels, place])[single]
    if repeated := len(objects) - len(np.unique(objects, axis=0)):
        text = f"{counted(repeated, 'box', 'boxes')} in the place of another of the same class"
        faults.left_out(Kind.DUPLICATE_BOX, file, text, repeated)


def _quantiles(values: NDArray[np.float64]) -> dict[str, float] | None:
    if len(values) == 0:
        return None
    cuts = np.quantile(values, list(_QUANTILES.values()))
    return {name: round(float(cut), 2) for name, cut in zip(_QUANTILES, cuts, strict=True)}


def _listed(faults: Iterable[Any]) -> list[dict[str, Any]]:
    """One entry a kind that occurs, errors first."""
    grouped: dict[Kind, list[Any]] = {}
    for fault in faults:
        grouped.setdefault(fault.kind, []).append(fault)
    return [
        {
            "kind": str(kind),
            "error": kind.is_error,
            "count": sum(f.count for f in grouped[kind]),
            "files": list(dict.fromkeys(f.file for f in grouped[kind]))[:_FILES],
            "examples": [str(f) for f in grouped[kind][:_FILES]],
        }
        for kind in sorted(grouped, key=lambda k: (not k.is_error, list(Kind).index(k)))
    ]
