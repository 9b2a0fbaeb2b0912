"""COCO detection JSON with its folder of pictures (Lin et al., ECCV 2014)."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from detcore.data.base import (
    FileDetection,
    Record,
    Transform,
    hashed_split,
    split_names,
)
from detcore.data.faults import DataError, Faults, Kind, NoSplit


class Coco(FileDetection):
    """A detection set in COCO's form.

    Args:
        annotations: the instances JSON.
        images: the folder of pictures; None looks beside the JSON and where COCO itself and
            common exporters put them.
        split: ``all`` takes the whole file; ``train`` or ``val`` takes 80% or 20% of its images
            by a hash of the file name, for files that hold no split.
        transforms: applied to each item.
        faults: takes up what is wrong; the default raises what training can't do without.
        need_pictures: False takes up images whose files are missing too, for work on annotations
            alone.

    Category ids, sparse in COCO itself (1..90 with gaps), become labels 1..C in ascending order
    of id; `category_ids` leads back. Crowd regions (``iscrowd: 1``) are in no item's target and
    in the evaluation's ground truth. Boxes without area and missing pictures are left out, of
    training and evaluation, and reported once with the file's name.

    Raises:
        DataError: no such file or folder, malformed JSON, annotations that point nowhere.
    """

    def __init__(
        self,
        annotations: str | Path,
        images: str | Path | None = None,
        *,
        split: str = "all",
        transforms: Transform | None = None,
        faults: Faults | None = None,
        need_pictures: bool = True,
    ) -> None:
        self.file = Path(annotations)
        super().__init__([], transforms, faults)
        document = _read(self.file, self.faults)
        categories = sorted(document["categories"], key=lambda c: int(c["id"]))
        self.classes = [str(c["name"]) for c in categories]
        self.category_ids = [int(c["id"]) for c in categories]
        document["images"] = self._once(document["images"])
        of_image = self._by_image(document)
        keep = set(hashed_split((str(i["file_name"]) for i in document["images"]), split))
        # annotations before pictures: what is wrong with them is found where no picture is
        records = [
            self._record(info, of_image.get(int(info["id"]), []))
            for info in document["images"]
            if info["file_name"] in keep
        ]
        try:
            folder = Path(images) if images else _image_folder(self.file, document["images"])
        except DataError:
            if need_pictures:
                raise
            folder = self.file.parent
        for record in records:
            path = folder / record.file_name
            if path.is_file() or not need_pictures:
                self.add(record, path)
            else:
                self.faults.left_out(Kind.MISSING, path, "picture is missing; left out")
        if not self.records:
            raise DataError(
                f"{self.file}: none of its {len(document['images'])} pictures is in {folder}"
            )
        self.report()

    def _once(self, images: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept: dict[int, dict[str, Any]] = {}
        for info in images:
            first = kept.setdefault(int(info["id"]), info)
            if first is not info:
                both = f"{first['file_name']} and {info['file_name']}"
                text = f"two images have the same id {info['id']}: {both}"
                self.faults.refuse(Kind.DUPLICATE, self.file, text)
        return list(kept.values())

    def _by_image(self, document: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
        known, categories = {int(i["id"]) for i in document["images"]}, set(self.category_ids)
        grouped = defaultdict(list)
        for a in document["annotations"]:
            if int(a["image_id"]) not in known:
                text = (
                    f"annotation {a.get('id')} is of image {a['image_id']}, "
                    f"which is not in the file"
                )
                self.faults.refuse(Kind.UNKNOWN_IMAGE, self.file, text)
            elif int(a["category_id"]) not in categories:
                text = (
                    f"annotation {a.get('id')} has category {a['category_id']}, "
                    f"which is not in the file"
                )
                self.faults.refuse(Kind.UNKNOWN_CLASS, self.file, text)
            else:
                grouped[int(a["image_id"])].append(a)
        return grouped

    def _record(self, info: dict[str, Any], annotations: list[dict[str, Any]]) -> Record:
        label_of = {c: i for i, c in enumerate(self.category_ids, start=1)}
        kept = []
        for a in annotations:
            bbox = a["bbox"]
            if not _is_box(bbox):
                text = f"annotation {a.get('id')} has bbox {bbox}, wanted [x, y, width, height]"
                self.faults.refuse(Kind.NOT_FINITE, self.file, text)
            elif bbox[2] > 0 and bbox[3] > 0:
                kept.append(a)
            else:
                text = (
                    f"box {bbox} of annotation {a.get('id')} in {self.file.name} "
                    f"has no area; left out"
                )
                self.faults.left_out(Kind.NO_AREA, info["file_name"], text)
        boxes = np.array([a["bbox"] for a in kept], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return Record(
            image_id=int(info["id"]),
            file_name=info["file_name"],
            width=int(info["width"]),
            height=int(info["height"]),
            boxes=boxes,
            labels=np.array([label_of[int(a["category_id"])] for a in kept], np.int64),
            area=np.array([a.get("area", a["bbox"][2] * a["bbox"][3]) for a in kept], np.float64),
            iscrowd=np.array([bool(a.get("iscrowd", 0)) for a in kept], bool),
            ignore=np.array([bool(a.get("ignore", 0)) for a in kept], bool),
        )


def annotation_file(root: Path, split: str) -> tuple[Path, str] | None:
    """The JSON for `split` under a folder, and the split to take of it (``all`` or `split`).

    Returns None where the folder holds no COCO JSON at all.

    Raises:
        NoSplit: there are COCO files, and none is for this split.
    """
    found = sorted(
        f
        for pattern in ("*.json", "annotations/*.json", "*/_annotations.coco.json")
        for f in root.glob(pattern)
        if _looks_like_coco(f)
    )
    if not found:
        return None
    # COCO itself: instances_val2017.json; Roboflow: valid/_annotations.coco.json
    for file in found:
        if _names_split(file, root, split_names(split)):
            return file, "all"
    every = [
        s
        for s in ("train", "val", "test")
        if any(_names_split(f, root, split_names(s)) for f in found)
    ]
    if len(found) == 1 and (split == "all" or not every):
        return found[0], split
    raise NoSplit(
        f"{root}: no COCO file for split {split!r} "
        f"(there are {', '.join(str(f.relative_to(root)) for f in found)})"
    )


def _names_split(file: Path, root: Path, names: tuple[str, ...]) -> bool:
    words = file.stem.lower().replace("-", "_").split("_")
    folder = file.parent.name.lower() if file.parent != root else ""
    return folder in names or any(w.rstrip("0123456789") in names for w in words)


def _looks_like_coco(file: Path) -> bool:
    """Cheap: a large file is not parsed to find out what it is."""
    if file.stem.startswith(("instances", "_annotations")):
        return True
    with file.open("rb") as stream:
        if file.stat().st_size > 1 << 24:
            return b'"images"' in stream.read(1 << 20)
        text = stream.read()
    return all(key in text for key in (b'"images"', b'"annotations"', b'"categories"'))


def _read(file: Path, faults: Faults) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as JSON ({error})") from error
    wanted = {
        "images": (("id", int), ("file_name", str), ("width", int), ("height", int)),
        "annotations": (("image_id", int), ("category_id", int), ("bbox", list)),
        "categories": (("id", int), ("name", object)),
    }
    for part, keys in wanted.items():
        entries = document.get(part) if isinstance(document, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"{file}: not a COCO file, it has no list {part!r}")
        document[part] = [e for e in entries if _is_whole(e, part, keys, file, faults)]
    if not document["categories"]:
        raise DataError(f"{file}: it has no categories")
    return document


_WORDS: dict[type, str] = {int: "a whole number", str: "text", list: "a list"}


def _is_whole(
    entry: Any, part: str, keys: tuple[tuple[str, type], ...], file: Path, faults: Faults
) -> bool:
    for key, kind in keys:
        if not isinstance(entry, dict) or key not in entry:
            faults.refuse(Kind.ENTRY, file, f"an entry of {part!r} has no {key!r}")
            return False
        try:
            # ids come as numbers and as text; names of classes as whatever can be printed
            fits = isinstance(entry[key], kind) or (kind is int and int(entry[key]) is not None)
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            text = f"an entry of {part!r} has {key} {entry[key]!r}, wanted {_WORDS[kind]}"
            faults.refuse(Kind.ENTRY, file, text)
            return False
    return True


def _is_box(bbox: Any) -> bool:
    try:
        numbers = np.array(bbox, np.float64)
    except (TypeError, ValueError):
        return False
    return numbers.shape == (4,) and bool(np.isfinite(numbers).all())


def _image_folder(file: Path, images: list[dict[str, Any]]) -> Path:
    """The first likely folder that holds one of the first pictures."""
    if not images:
        raise DataError(f"{file}: its list 'images' is empty")
    tail = file.stem.removeprefix("instances_")
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    likely = [root / tail, root / "images" / tail, root / "images", root, file.parent]
    for folder in likely:
        if any((folder / str(i["file_name"])).is_file() for i in images[:20]):
            return folder
    tried = ", ".join(str(f) for f in dict.fromkeys(likely))
    raise DataError(f"{file}: its pictures were not found (looked in {tried})")
