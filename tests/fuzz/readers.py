"""Mutations of small real sets: a reader soon returns data, or raises one clear message."""

import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detcore.data import DataError, Record, load
from detcore.data.base import DetectionDataset
from detcore.data.faults import Faults
from detcore.data.tiling import Tiles, in_tiles
from tests.fuzz.mutate import mutated

SECONDS = 20.0  # of processor time that a case may take: the machine may be busy
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>7</ymax></bndbox>"


def paint(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (9, 90, 200)).save(path)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def coco(root: Path) -> list[Path]:
    paint(root / "images/a.jpg")
    images = [{"id": 1, "file_name": "a.jpg", "width": 12, "height": 8}]
    mask = {"size": [8, 12], "counts": [3, 4, 89]}
    notes = [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 5, 4], "area": 9, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 5, 1, 5, 5]]},
        {"id": 3, "image_id": 1, "category_id": 3, "segmentation": mask, "iscrowd": 1},
    ]
    kinds = [{"id": 3, "name": "cat"}]
    text = json.dumps({"images": images, "annotations": notes, "categories": kinds})
    return [_write(root / "a.json", text)]


def voc(root: Path) -> list[Path]:
    paint(root / "JPEGImages/a.jpg")
    thing = f"<object><name>cat</name><difficult>1</difficult>{BOX}</object>"
    size = "<size><width>12</width><height>8</height></size>"
    text = f'<?xml version="1.0"?><annotation><filename>a.jpg</filename>{size}{thing}</annotation>'
    return [
        _write(root / "Annotations/a.xml", text),
        _write(root / "ImageSets/Main/train.txt", "a\n"),
    ]


def yolo(root: Path) -> list[Path]:
    paint(root / "images/a.jpg")
    text = "names: {0: cat, 1: no}\ntrain: list.txt\nval: images\nkpt_shape: [2, 2]\nmore: &m [1]\n"
    return [
        _write(root / "data.yaml", text + "again: *m\n"),
        _write(root / "list.txt", "images/a.jpg\n"),
        _write(root / "labels/a.txt", "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.1 0.2 0.2\n"),
    ]


def darknet(root: Path) -> list[Path]:
    paint(root / "obj/a.jpg")
    (root / "obj/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return [
        _write(root / "obj.data", "train = data/train.txt\nnames = data/obj.names\n"),
        _write(root / "obj.names", "cat\n"),
        _write(root / "train.txt", "data/obj/a.jpg\n"),
    ]


def openimages(root: Path) -> list[Path]:
    paint(root / "train/a.jpg")
    header = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
    return [
        _write(root / "class-descriptions-boxable.csv", "/m/01,Cat\n"),
        _write(root / "train-annotations-bbox.csv", f"{header}a,/m/01,0.1,0.5,0.2,0.6,0\n"),
    ]


def kitti(root: Path) -> list[Path]:
    paint(root / "image_2/a.png")
    rows = (
        "Car 0.1 1 1.5 1 1 9 7 1.5 1.6 4.2 -2.5 1.7 20.25 1.57\n"
        "DontCare -1 -1 -10 1 1 5 5 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )
    return [_write(root / "label_2/a.txt", rows), _write(root / "ImageSets/train.txt", "a\n")]


def dota(root: Path) -> list[Path]:
    paint(root / "images/a.png")
    turned = "5 1 9 3 7 7 3 5"
    rows = f"imagesource:x\ngsd:0.5\n{turned} ship 0\n1 1 4 1 4 3 1 3 plane 2\n"
    return [_write(root / "labelTxt/a.txt", rows)]


def yolo_oriented(root: Path) -> list[Path]:
    paint(root / "images/a.jpg")
    rows = (
        "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n1 0.1 0.1 0.3 0.1 0.3 0.2\n1 0.5 0.5 0.5 0.25\n"
    )
    return [
        _write(root / "data.yaml", "names: [cat, no]\ntrain: images\n"),
        _write(root / "labels/a.txt", rows),
    ]


def coco_oriented(root: Path) -> list[Path]:
    paint(root / "images/a.jpg")
    images = [{"id": 1, "file_name": "a.jpg", "width": 12, "height": 8}]
    own = {"image_id": 1, "category_id": 3}
    notes = [
        {"id": 1, **own, "bbox": [6, 4, 6, 3, 30]},
        {"id": 2, **own, "bbox": [1, 1, 9, 6], "segmentation": [[2, 2, 6, 2, 6, 4, 2, 4]]},
        {"id": 3, **own, "bbox": [1, 1, 9, 6], "iscrowd": 1},
        {"id": 4, **own, "bbox": [1, 1, 6, 4]},
    ]
    kinds = [{"id": 3, "name": "cat"}]
    text = json.dumps({"images": images, "annotations": notes, "categories": kinds})
    return [_write(root / "a.json", text)]


def cityscapes(root: Path) -> list[Path]:
    paint(root / "leftImg8bit/train/ulm/a_leftImg8bit.png")
    thing = {"label": "cargroup", "polygon": [[1, 1], [5, 1], [5, 6]], "deleted": 0}
    text = json.dumps({"imgWidth": 12, "imgHeight": 8, "objects": [thing]})
    return [_write(root / "gtFine/train/ulm/a_gtFine_polygons.json", text)]


def csv(root: Path) -> list[Path]:
    paint(root / "a.jpg")
    header = "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    return [_write(root / "a.csv", header + 'a.jpg,12,8,"cat, black",1,2,9,7\n')]


def multilabel(root: Path) -> list[Path]:
    paint(root / "a.jpg")
    return [_write(root / "a.csv", "file,labels,split\na.jpg,cat;dog,train\n")]


def multilabel_json(root: Path) -> list[Path]:
    paint(root / "a.jpg")
    said = {"classes": ["cat"], "images": [{"file": "a.jpg", "labels": ["cat"], "split": "train"}]}
    return [_write(root / "a.json", json.dumps(said))]


def folder(root: Path) -> list[Path]:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = []
    for name, options in (
        ("cat/a.jpg", {"exif": exif}),
        ("cat/b.png", {}),
        ("dog/c.gif", {}),
        ("dog/d.tif", {}),
        ("dog/e.bmp", {}),
        ("dog/f.webp", {}),
        ("dog/g.ppm", {}),
    ):
        file = root / name
        file.parent.mkdir(exist_ok=True)
        Image.effect_noise((12, 8), 60).convert("RGB").save(file, **options)
        files.append(file)
    return files


Build = Callable[[Path], list[Path]]
FORMS: dict[str, Build] = {
    "coco": coco,
    "voc": voc,
    "yolo": yolo,
    "darknet": darknet,
    "openimages": openimages,
    "kitti": kitti,
    "dota": dota,
    "dota_oriented": dota,
    "yolo_oriented": yolo_oriented,
    "coco_oriented": coco_oriented,
    "cityscapes": cityscapes,
    "csv": csv,
    "multilabel": multilabel,
    "multilabel_json": multilabel_json,
    "folder": folder,
}
# Editors leave the last line without an end, and Windows' have another one
_IN_LINES = (".txt", ".csv", ".data", ".names", ".yaml")
_LINE_ENDS: dict[str, Callable[[bytes], bytes]] = {
    "without a last end of line": lambda said: said.rstrip(b"\n"),
    "with Windows' ends of lines": lambda said: said.replace(b"\n", b"\r\n"),
}
_ORIENTED = "_oriented"
_READERS = {
    **{"darknet": "yolo", "multilabel_json": "multilabel"},
    **{form: form.removesuffix(_ORIENTED) for form in FORMS if form.endswith(_ORIENTED)},
}
# What the sound sets hold: split, then per image its classes and boxes; of a classification set the
# classes alone.
_TURN = -math.degrees(math.atan2(2, 4))
_HALF = [4.8, 3.2, 7.2, 4.8]
SOUND: dict[str, dict[str, list[tuple[list[int], list[list[float]]]]]] = {
    "coco": {"train": [([1, 1], [[1, 2, 6, 6], [1, 1, 5, 5]])]},
    "voc": {"train": [([1], [[1, 2, 9, 7]])]},
    "yolo": {split: [([1, 2], [_HALF, [1.2, 0.8, 2.4, 1.6]])] for split in ("train", "val", "all")},
    "darknet": {"train": [([1], [_HALF])]},
    "openimages": {"train": [([1], [[1.2, 1.6, 6, 4.8]])]},
    "kitti": {"train": [([1], [[1, 1, 9, 7]])]},
    "dota": {"all": [([7, 1], [[3, 1, 9, 7], [1, 1, 4, 3]])]},
    # a square whose first side goes 4 across and 2 down
    "dota_oriented": {"all": [([7, 1], [[6, 4, 20**0.5, 20**0.5, _TURN], [2.5, 2, 3, 2, 0]])]},
    "yolo_oriented": {
        "all": [
            ([1, 2, 2], [[4.5, 4, 4, 3, -90], [2.4, 1.2, 2.4, 0.8, 0], [6, 4, 6, 2, 0]]),
        ]
    },
    "coco_oriented": {"train": [([1, 1, 1], [[6, 4, 6, 3, 30], [4, 3, 4, 2, 0], [4, 3, 6, 4, 0]])]},
    "cityscapes": {"train": [([], [])]},  # a group alone, which is a crowd
    "csv": {"train": [([1], [[1, 2, 9, 7]])]},
    "multilabel": {"train": [([1, 1], [])]},
    "multilabel_json": {"train": [([1], [])]},
    "folder": {
        "train": [([k], []) for k in (0, 1, 1, 1, 1)],
        "val": [([k], []) for k in (0, 1)],
        "all": [([k], []) for k in (0, 0, 1, 1, 1, 1, 1)],
    },
}


def _check_3d(record: Record) -> None:
    """What KITTI's reader keeps has a row for each box; of a box in space all numbers or none."""
    if "boxes3d" not in record.extra:
        return
    for name, values in record.extra.items():
        assert len(values) == len(record.boxes), name
        assert not np.isinf(values).any(), name
    known = np.isfinite(record.extra["boxes3d"])
    assert (known.all(1) == known.any(1)).all()
    assert (record.extra["boxes3d"][known.all(1), 3:6] > 0).all()


class ReaderFuzz:
    """Cases of one format in a folder. Each case restores the folder."""

    def __init__(self, form: str, root: Path) -> None:
        self.form, self.root = form, root
        self.spec = f"{_READERS.get(form, form)}:{root}"
        self.oriented = form.endswith(_ORIENTED)
        self.split = "train" if form == "openimages" else "all"
        self.sound = {file: file.read_bytes() for file in FORMS[form](root)}
        self.cases = 0
        self.compare()

    def case(self, rng: random.Random) -> None:
        """Run one case; raises AssertionError, or an exception of the reader."""
        file = rng.choice(list(self.sound))
        file.write_bytes(mutated(self.sound[file], rng))
        started = time.process_time()
        try:
            self.read(tolerant=rng.random() < 0.5, in_parts=rng.random() < 0.3)
        except DataError as error:
            said = str(error)
            assert said.startswith(str(self.root)), said  # it names the file
        finally:
            file.write_bytes(self.sound[file])
        self.cases += 1
        if self.cases % 100 == 0:
            self.compare()
        took = time.process_time() - started
        assert took < SECONDS, f"{took:.0f} s for {file}"

    def compare(self) -> None:
        """What the sound files hold is what was written, however their lines end."""
        self._compare("as written")
        texts = {file: said for file, said in self.sound.items() if file.suffix in _IN_LINES}
        for what, ended in _LINE_ENDS.items():
            try:
                for file, said in texts.items():
                    file.write_bytes(ended(said))
                self._compare(what)
            finally:
                for file, said in texts.items():
                    file.write_bytes(said)

    def _compare(self, what: str) -> None:
        for split, wanted in SOUND[self.form].items():
            where = f"{self.form}, {what}, {split}"
            data = load(self.spec, split, oriented=self.oriented)
            assert len(data) == len(wanted), f"{where}: {len(data)} images"
            for k, (classes, boxes) in enumerate(wanted):
                _, target = data[k]
                labels = torch.as_tensor(target.get("labels", target.get("label"))).view(-1)
                assert labels.tolist() == classes, f"{where}, image {k}: {labels}"
                found = target["boxes"].tolist() if "boxes" in target else []
                near = [[pytest.approx(side, abs=1e-5) for side in box] for box in boxes]
                assert found == near, f"{where}, image {k}: {found}"

    def read(self, tolerant: bool, in_parts: bool) -> None:
        faults = Faults(tolerant=tolerant)
        data = load(self.spec, self.split, faults=faults, oriented=self.oriented)
        if isinstance(data, DetectionDataset) and in_parts:
            data = in_tiles(data, Tiles(5, 0.4))
        for k in range(len(data)):
            image, target = data[k]
            assert image.dim() == 3 and image.shape[0] == 3
            if "boxes" in target:
                boxes, (height, width) = target["boxes"], image.shape[-2:]
                assert boxes.isfinite().all()
                if self.oriented:
                    assert (boxes[:, 2] >= boxes[:, 3]).all() and (boxes[:, 3] > 0).all()
                    left_top, right_low = boxes[:, :2], boxes[:, :2]
                else:
                    left_top, right_low = boxes[:, :2], boxes[:, 2:]
                    assert (left_top < right_low).all()
                assert (left_top >= 0).all()
                assert (right_low <= torch.tensor([width, height])).all()
                _check_3d(data.record(k))
                labels = target["labels"]
                assert ((labels >= 1) & (labels <= len(data.classes))).all()
        if self.oriented:
            json.dumps(data.to_coco(), allow_nan=False)
