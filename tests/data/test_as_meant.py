"""Folders and files as people have them, each read as its owner meant it."""

import json
import os
import struct

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from detcore.data import DataError, load
from detcore.data.faults import Faults, Kind, NoSplit
from detcore.data.images import image_size, read_image
from detcore.data.loading.transforms import mosaic
from detcore.data.readers.folder import Folder
from detcore.data.readers.voc import Voc
from tests.data.test_coco import document, write
from tests.data.test_voc import annotate, splits
from tests.data.test_yolo import names, picture

SIZE = (12, 8)
DOTA = "1 1 5 1 5 5 1 5 {} 0\n"
KITTI = "{} 0 0 0 1 1 5 5 0 0 0 0 0 0 0\n"


def paint(path, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)
    return path


def test_captions_beside_instances(tmp_path):
    write(tmp_path)
    captions = {"images": [], "annotations": [{"caption": "x" * 100}], "padding": " " * 100}
    file = tmp_path / "annotations" / "captions_val2017.json"
    file.write_text(json.dumps(captions))
    with file.open("ab") as stream:
        stream.truncate(20 << 20)  # larger than the files that are parsed to detect their form
    assert load(tmp_path, "val").file.name == "instances_val2017.json"
    keypoints = tmp_path / "annotations" / "a_person_keypoints_val2017.json"
    keypoints.write_text(json.dumps(document()))
    assert load(tmp_path, "val").file.name == "instances_val2017.json"


def test_hidden_and_system_entries_are_no_data(tmp_path):
    for name in ("cat", ".ipynb_checkpoints", "__MACOSX", "dog/.thumbs"):
        paint(tmp_path / name / "a.jpg")
    for name in ("dog/._a.jpg", "dog/a.jpg"):
        paint(tmp_path / name)
    data = load(tmp_path, "all")
    assert data.classes == ["cat", "dog"]
    assert [s[1].name for s in data.samples] == ["a.jpg", "a.jpg"]


@pytest.mark.parametrize("form", ["voc", "yolo", "kitti", "dota", "csv"])
def test_hidden_annotations_are_none(tmp_path, form):
    """macOS writes a ._NAME for each file that it copies to a foreign disk."""
    if form == "voc":
        annotate(tmp_path, "a", [("dog", (1, 2, 9, 8))])
        hidden = tmp_path / "Annotations" / "._a.xml"
    elif form == "yolo":
        picture(tmp_path / "a.jpg", "0 0.5 0.5 0.5 0.5\n")
        (tmp_path / "classes.txt").write_text("dog\n")
        hidden = tmp_path / "._b.jpg"
    elif form == "kitti":
        paint(tmp_path / "image_2" / "a.png")
        (tmp_path / "label_2").mkdir()
        (tmp_path / "label_2" / "a.txt").write_text(KITTI.format("Car"))
        hidden = tmp_path / "label_2" / "._a.txt"
    elif form == "dota":
        paint(tmp_path / "images" / "a.png")
        (tmp_path / "labelTxt").mkdir()
        (tmp_path / "labelTxt" / "a.txt").write_text(DOTA.format("ship"))
        hidden = tmp_path / "labelTxt" / "._a.txt"
    else:
        paint(tmp_path / "a.jpg")
        (tmp_path / "a.csv").write_text("filename,class,xmin,ymin,xmax,ymax\na.jpg,dog,1,1,5,5\n")
        hidden = tmp_path / "._a.csv"
    hidden.write_bytes(b"\0\5\26\7\0")
    assert len(load(tmp_path, "all")) == 1


def test_splits_in_any_letter_case(tmp_path):
    for split, name in (("Train", "cat"), ("Train", "dog"), ("Val", "cat"), ("Val", "dog")):
        paint(tmp_path / split / name / f"{split}.jpg")
    assert load(tmp_path, "train").classes == ["cat", "dog"]
    assert [p.name for _, p, _ in load(tmp_path, "val").samples] == ["Val.jpg"] * 2


def test_train_beside_bus_is_a_class(tmp_path):
    for name in ("train", "bus"):
        paint(tmp_path / name / "a.jpg")
    assert load(tmp_path, "all").classes == ["bus", "train"]


@pytest.mark.parametrize("lists", [("default",), ("trainval", "test")])
def test_voc_lists_that_are_divided(tmp_path, lists, caplog):
    stems = [f"{k}" for k in range(20)]
    for stem in [*stems, "t"]:
        annotate(tmp_path, stem, [("dog", (1, 2, 9, 8))])
    splits(tmp_path, **{name: ["t"] if name == "test" else stems for name in lists})
    sides = [names(load(tmp_path, s)) for s in ("train", "val")]
    assert sorted(sides[0] + sides[1]) == sorted(f"{s}.jpg" for s in stems)
    assert "by a hash of their names" in caplog.text
    if "test" in lists:
        assert names(load(tmp_path, "test")) == ["t.jpg"]
    assert len(load(tmp_path, lists[0])) == 20


def test_a_development_kit_is_found_in_its_folder(tmp_path, caplog):
    annotate(tmp_path / "VOCdevkit" / "VOC2007", "a", [("dog", (1, 2, 9, 8))])
    data = load(tmp_path / "VOCdevkit", "all")
    assert isinstance(data, Voc)
    assert "VOCdevkit: read as voc:" in caplog.text
    annotate(tmp_path / "VOCdevkit" / "VOC2012", "a", [("dog", (1, 2, 9, 8))])
    with pytest.raises(DataError, match=r"holds 2 sets of boxes; name one of voc:.*VOC2007, voc:"):
        load(tmp_path / "VOCdevkit", "all")


def test_boxes_are_never_read_as_classes_unasked(tmp_path):
    paint(tmp_path / "cat" / "a.jpg")
    annotate(tmp_path / "a" / "b" / "c", "x", [("dog", (1, 2, 9, 8))], folder="marks/x")
    with pytest.raises(DataError, match=r"it holds boxes \(a/b/c/marks/x/x.xml\).*folder:"):
        load(tmp_path, "all")
    assert "cat" in load(f"folder:{tmp_path}", "all").classes


def test_imagenet_with_its_boxes_stays_imagenet(tmp_path):
    for split in ("train", "val"):
        annotate(
            tmp_path / split,
            f"{split}",
            [("x", (1, 1, 5, 5))],
            folder="n01440764",
            pictures="n01440764",
        )
    data = load(tmp_path, "val")
    assert isinstance(data, Folder)
    assert data.classes == ["n01440764"]


@pytest.mark.parametrize("tool", ["darknet", "cvat", "lists alone"])
def test_lists_of_pictures_are_followed(tmp_path, tool):
    root = tmp_path / "data"
    for k in range(6):
        picture(root / "obj_train_data" / f"{k}.jpg", "0 0.5 0.5 0.5 0.5\n")
    (root / "obj.names").write_text("dog\n")
    valid = "validation.txt" if tool == "darknet" else "valid.txt"
    if tool != "lists alone":
        (root / "obj.data").write_text(
            f"classes = 1\ntrain  = data/train.txt\nvalid = data/{valid}\nnames=data/obj.names\n"
        )
    (root / "train.txt").write_text("".join(f"data/obj_train_data/{k}.jpg\n" for k in (4, 0, 2)))
    (root / valid).write_text("data/obj_train_data/5.jpg\n")
    if tool == "cvat":
        root = root.rename(tmp_path / "exported")  # its zip has no folder data
    assert [p.stem for p in load(root, "train").paths] == ["4", "0", "2"]
    assert [p.stem for p in load(root, "val").paths] == ["5"]


def test_keypoints_stand_behind_the_box(tmp_path):
    row = "0 0.5 0.5 0.25 0.5 0.1 0.1 0.9 0.9 0.1 0.9 0.2 0.3\n"
    picture(tmp_path / "images" / "a.jpg", row)
    text = "names: [hand]\ntrain: images\nkpt_shape: [4, 2]\n"
    (tmp_path / "data.yaml").write_text(text)
    assert load(tmp_path, "all")[0][1]["boxes"].tolist() == [[24, 8, 40, 24]]
    (tmp_path / "data.yaml").write_text(text.replace("[4, 2]", "[4, x]"))
    with pytest.raises(DataError, match=r"kpt_shape must be \[points, 2 or 3\], got"):
        load(tmp_path, "all")


def test_class_names_are_as_written(tmp_path):
    picture(tmp_path / "images" / "a.jpg", "0 0.5 0.5 0.25 0.5\n")
    written = ["no", "yes", "off", "1.0", "0x10", "2001-01-01", "null ", "1_000", "~x"]
    (tmp_path / "data.yaml").write_text(f"names: [{', '.join(written)}]\ntrain: images\n")
    assert load(tmp_path, "all").classes == [w.strip() for w in written]
    (tmp_path / "data.yaml").write_text("names: {0: no, 1: !!binary aGk=}\ntrain: images\n")
    assert load(tmp_path, "all").classes == ["no", "aGk="]


def _exif(tag, kind, value):
    """A JPEG's APP1 segment with one EXIF entry of any type."""
    entry = struct.pack(">HHI4s", tag, kind, 4, value)
    body = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1) + entry + b"\0\0\0\0"
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("tag", [0x011A, 0x011B, 0x0128, 0x0112, 0x8769])
@pytest.mark.parametrize("kind", [1, 2, 3, 5, 7, 12, 13])
def test_exif_of_a_wrong_type_costs_no_picture(tmp_path, tag, kind):
    file = paint(tmp_path / "a.jpg")
    content = file.read_bytes()
    length = struct.unpack(">H", content[4:6])[0]  # of JFIF's APP0, which also has a resolution
    file.write_bytes(content[:2] + _exif(tag, kind, b"abc\0") + content[4 + length :])
    assert image_size(file) == SIZE
    assert read_image(file).shape == (3, 8, 12)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_size_and_pixels_are_of_one_way_up(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"tiffinfo": {0x0112: 6}} if suffix == "tif" else {"exif": exif}
    file = paint(tmp_path / f"a.{suffix}", **options)
    assert image_size(file) == (8, 12)
    assert read_image(file).shape == (3, 12, 8)


def test_a_png_with_much_text_is_sound(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("notes", "x" * 3_000_000, zip=True)
    file = paint(tmp_path / "a.png", pnginfo=info)
    assert image_size(file) == SIZE
    assert read_image(file).shape == (3, 8, 12)


def test_the_size_of_the_picture_counts(tmp_path, caplog):
    annotate(tmp_path, "a", [("dog", (1, 2, 90, 70))], size=(80, 100))
    paint(tmp_path / "JPEGImages" / "a.jpg", (100, 80))
    image, target = load(tmp_path, "all")[0]
    assert image.shape == (3, 80, 100)
    assert target["boxes"].tolist() == [[1, 2, 90, 70]]
    assert "a.jpg: 100 x 80 pixels, annotated as 80 x 100" in caplog.text


def test_faults_of_one_kind_are_counted_and_the_first_named(tmp_path, caplog):
    for k in range(9):
        annotate(tmp_path, f"{k}", [("dog", (1, 2, 9, 8))], size=(40, 30))
        paint(tmp_path / "JPEGImages" / f"{k}.jpg", (50, 30))
    load(tmp_path, "all")
    assert caplog.text.count("annotated as 40 x 30") == 5
    assert "image of another size than annotated: 4 more" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_class_lists_in_any_encoding(tmp_path, encoding, caplog):
    picture(tmp_path / "a.jpg", "0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "classes.txt").write_bytes("Bär\nVogel\n".encode(encoding))
    assert load(tmp_path, "all").classes == ["Bär", "Vogel"]
    assert ("not UTF-8; read as cp1252" in caplog.text) == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("foo", "utf-8"), ("gb2312", "gb2312"), ("shift_jis", "shift_jis"), ("utf-16", "utf-16")],
)
def test_annotations_in_the_encoding_that_they_declare(tmp_path, declared, encoding):
    annotate(tmp_path, "a", [("dog", (1, 2, 9, 8))])
    file = tmp_path / "Annotations" / "a.xml"
    text = file.read_text().replace("dog", "日本")
    file.write_bytes(f'<?xml version="1.0" encoding="{declared}"?>{text}'.encode(encoding))
    assert load(tmp_path, "all").classes == ["日本"]


def test_a_text_of_no_encoding_is_named(tmp_path):
    picture(tmp_path / "a.jpg", "0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "classes.txt").write_bytes(b"a\x81\x8d\n")
    with pytest.raises(DataError, match=r"classes.txt: not readable as text .*save it as UTF-8"):
        load(tmp_path, "all")


def test_pictures_of_every_format(tmp_path, caplog):
    frames = [Image.new("P", SIZE, k) for k in (1, 2)]
    (tmp_path / "cat").mkdir()
    frames[0].save(tmp_path / "cat" / "a.gif", save_all=True, append_images=frames[1:])
    paint(tmp_path / "cat" / "b.ppm")
    paint(tmp_path / "cat" / "c.jfif", format="JPEG")
    (tmp_path / "cat" / "d.heic").write_bytes(b"x")
    (tmp_path / "cat" / "notes.txt").write_text("x")
    data = load(tmp_path, "all")
    assert [data[k][0].shape for k in range(len(data))] == [(3, 8, 12)] * 3
    assert "1 file is of no kind that is read as a picture and left out, the first is d.heic" in (
        caplog.text
    )


def test_each_picture_of_a_list_is_looked_for_itself(tmp_path, caplog):
    content = document()
    content["images"] = [
        {"id": k, "file_name": f"gone{k}.jpg", "width": 40, "height": 30} for k in range(20, 50)
    ] + [
        {"id": 7, "file_name": "s1/a.jpg", "width": 40, "height": 30},
        {"id": 9, "file_name": "s2\\b.jpg", "width": 40, "height": 30},
    ]
    for name in ("s1/a.jpg", "s2/b.jpg"):
        paint(tmp_path / "val2017" / name, (40, 30))
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "instances_val2017.json"
    file.write_text(json.dumps(content))
    assert [p.name for p in load(file).paths] == ["a.jpg", "b.jpg"]
    assert "gone20.jpg: picture is missing" in caplog.text
    assert "missing image: 25 more" in caplog.text


def test_kitti_with_its_own_classes(tmp_path, caplog):
    for stem, word in (("a", "helmet"), ("b", "Car"), ("c", "DONTCARE")):
        paint(tmp_path / "image_2" / f"{stem}.png")
        (tmp_path / "label_2").mkdir(exist_ok=True)
        (tmp_path / "label_2" / f"{stem}.txt").write_text(KITTI.format(word))
    data = load(tmp_path, "all")
    assert data.classes == ["Car", "helmet"]
    assert "with its own classes: Car, helmet" in caplog.text
    assert data.record(2).iscrowd.tolist() == [True, True]


def test_kitti_without_3d(tmp_path, caplog):
    """Tools that label pictures alone end after the box, or write zeros for the rest."""
    for stem, line in (("a", "Car 0 0 0 1 1 5 5\n"), ("b", KITTI.format("Car"))):
        paint(tmp_path / "image_2" / f"{stem}.png")
        (tmp_path / "label_2").mkdir(exist_ok=True)
        (tmp_path / "label_2" / f"{stem}.txt").write_text(line)
    data = load(tmp_path, "all")
    assert [data.record(k).boxes.tolist() for k in range(2)] == [[[1, 1, 5, 5]]] * 2
    assert all(np.isnan(data.record(k).extra["boxes3d"]).all() for k in range(2))
    assert not caplog.text


def test_an_area_that_is_none(tmp_path):
    content = document()
    content["annotations"][0]["area"] = -1
    file = write(tmp_path, content)
    faults = Faults()
    assert load(file, faults=faults).record(0).area.tolist() == [80, 700]
    assert [f.kind for f in faults if f.kind == Kind.AREA] == [Kind.AREA]


def test_a_link_upward_leads_nowhere_new(tmp_path):
    picture(tmp_path / "images" / "a.jpg", "0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "classes.txt").write_text("x\n")
    os.symlink("..", tmp_path / "images" / "up")
    assert len(load(tmp_path, "all")) == 1


def test_what_a_missing_split_says(tmp_path):
    for split in ("train", "test"):
        annotate(tmp_path, split, [("x", (1, 1, 9, 9))], folder=split, pictures=split)
    with pytest.raises(NoSplit, match=r"no split 'val' \(there are test, train\).*--split test"):
        load(tmp_path, "val", val_share=0)


@pytest.mark.parametrize("size", [(3, 3), (1, 1), (3, 4), (1, 50)])
def test_mosaics_of_tiny_pictures(size):
    target = {"boxes": torch.tensor([[0.0, 0, size[1], size[0]]]), "labels": torch.tensor([1])}
    item = (torch.full((3, *size), 7, dtype=torch.uint8), target)
    for seed in range(5):
        torch.manual_seed(seed)
        image, _ = mosaic([item] * 4)
        assert image.dtype == torch.uint8
        assert image.unique().tolist() == [7]


@pytest.mark.parametrize(
    "names", [("train", "val"), ("Train", "Valid"), ("training", "validation")]
)
def test_dota_by_splits_in_any_spelling(tmp_path, names):
    for name in names:
        paint(tmp_path / name / "images" / f"{name}.png")
        (tmp_path / name / "labelTxt").mkdir()
        (tmp_path / name / "labelTxt" / f"{name}.txt").write_text(DOTA.format("ship"))
    assert [p.stem for p in load(tmp_path, "val").paths] == [names[1]]
    assert [p.stem for p in load(tmp_path, "train").data.paths] == [names[0]]


def test_dota_of_trainval_is_divided(tmp_path, caplog):
    for k in range(20):
        paint(tmp_path / "trainval" / "images" / f"{k}.png")
        (tmp_path / "trainval" / "annfiles").mkdir(exist_ok=True)
        (tmp_path / "trainval" / "annfiles" / f"{k}.txt").write_text(DOTA.format("ship"))
    sides = [load(tmp_path, split, tile=0) for split in ("train", "val")]
    assert sum(map(len, sides)) == 20
    assert "by a hash of their names" in caplog.text


def test_a_yolo_set_beside_what_is_named_like_dotas_labels(tmp_path):
    picture(tmp_path / "images" / "a.jpg", "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n")
    (tmp_path / "classes.txt").write_text("x\n")
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt" / "notes.txt").write_text("these were converted to labels/\n")
    assert load(tmp_path, "all", oriented=True).record(0).corners[0].tolist() == [
        *(16, 8, 32, 8, 32, 24, 16, 24)
    ]
