import numpy as np
import pytest
import supervision
import yaml
from PIL import Image

from detcore.data import DataError, YoloText, load
from detcore.data.faults import Faults, Kind, NoSplit
from detcore.data.oriented import smallest_rectangle
from detcore.data.readers.folder import Folder
from detcore.data.validation.check import check
from detcore.inference.export_formats import Save, write_answers
from tests.commands.test_cli import SMALL, call

NAMES = ["cat", "dog", "owl"]
OBJECTS = "1 0.5 0.5 0.25 0.5\n0 0.125 0.25 0.25 0.5 0.9\n"


def picture(path, text=None, size=(64, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    if text is not None:
        label = path.parents[0] / f"{path.stem}.txt"
        if "images" in path.parts:
            parts = ["labels" if p == "images" else p for p in label.parts]
            label = type(path)(*parts)
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text)
    return path


def describe(root, **keys):
    (root / "data.yaml").write_text(yaml.safe_dump({"names": NAMES, **keys}))


def names(data):
    return [r.file_name for r in data.records]


@pytest.fixture
def ultralytics(tmp_path):
    """Like Ultralytics' own small sets: splits in images/ and labels/, names as a mapping."""
    for split, count in (("train", 3), ("val", 2)):
        for k in range(count):
            picture(tmp_path / "set" / "images" / split / f"{k}.jpg", OBJECTS)
    keys = {"path": str(tmp_path / "set"), "names": dict(enumerate(NAMES))}
    describe(tmp_path / "set", train="images/train", val="images/val", **keys)
    return tmp_path / "set"


def test_boxes_and_classes(ultralytics):
    data = load(ultralytics, "train")
    assert isinstance(data, YoloText)
    assert data.classes == NAMES
    image, target = data[0]
    assert image.shape == (3, 32, 64)
    assert target["labels"].tolist() == [2, 1]
    assert target["boxes"].tolist() == [[24, 8, 40, 24], [0, 0, 16, 16]]
    assert names(data) == [f"images/train/{k}.jpg" for k in range(3)]
    # the path of the YAML file selects the set too
    assert names(load(ultralytics / "data.yaml", "val")) == ["images/val/0.jpg", "images/val/1.jpg"]
    assert len(load(ultralytics, "all")) == 5
    with pytest.raises(NoSplit, match=r"no split 'test' \(there are train, val\)"):
        load(ultralytics, "test")


def test_roboflows_export(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "a.jpg", OBJECTS)
    describe(tmp_path, train="../train/images", val="../valid/images", test="../test/images")
    assert names(load(tmp_path, "train")) == ["train/images/a.jpg"]
    assert names(load(tmp_path, "val")) == ["valid/images/a.jpg"]
    with pytest.raises(
        DataError, match=r"\.\./test/images is not there \(looked for .*test/images"
    ):
        load(tmp_path, "test")
    assert len(load(tmp_path, "all")) == 2


def test_lists_of_pictures(tmp_path):
    picture(tmp_path / "images" / "x" / "b.png", OBJECTS)
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "train.txt").write_text("./images/x/b.png\r\n\r\nimages/a.png\r\nimages/no.png\n")
    describe(tmp_path, train=["train.txt"], val="images")
    faults = Faults(tolerant=True)
    data = YoloText(tmp_path, faults=faults)
    assert names(data) == ["images/x/b.png", "images/a.png"]  # in the list's order
    assert [len(data[k][1]["labels"]) for k in (0, 1)] == [2, 0]  # no .txt file means no objects
    (fault,) = faults
    assert fault.kind is Kind.MISSING and fault.file.endswith("no.png")


def test_a_folder_of_one_split(tmp_path):
    picture(tmp_path / "valid" / "images" / "a.jpg", OBJECTS)
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    assert names(load(tmp_path, "val")) == ["valid/images/a.jpg"]
    with pytest.raises(NoSplit, match=r"split 'train' \(there are val\)"):
        load(tmp_path, "train")


@pytest.mark.parametrize("folder", ["images", "."])
def test_a_folder_with_names_alone_is_shared_out(tmp_path, folder):
    for k in range(20):
        picture(tmp_path / folder / f"{k}.jpg", OBJECTS)
    (tmp_path / "classes.txt").write_text("\ufeffcat\r\ndog\r\nowl\r\n")
    sides = [names(load(tmp_path, s)) for s in ("train", "val")]
    assert len(sides[0]) > len(sides[1]) > 0
    assert sorted(sides[0] + sides[1]) == sorted(names(load(tmp_path, "all")))
    assert len(set(sides[0] + sides[1])) == 20
    assert load(tmp_path, "val").classes == NAMES
    assert len(load(tmp_path, "val")[0][1]["labels"]) == 2


def test_what_supervision_writes(tmp_path):
    pixels = np.zeros((32, 64, 3), np.uint8)
    files = [f"{k}.png" for k in range(4)]
    found = supervision.Detections(np.array([[3.0, 4, 20, 30]]), class_id=np.array([2]))
    written = supervision.DetectionDataset(
        NAMES, {f: pixels for f in files}, {f: found for f in files}
    )
    written.as_yolo(
        images_directory_path=str(tmp_path / "images"),
        annotations_directory_path=str(tmp_path / "labels"),
        data_yaml_path=str(tmp_path / "data.yaml"),  # only for the names
    )
    data = load(tmp_path, "all")
    assert isinstance(data, YoloText) and data.classes == NAMES
    assert names(data) == [f"images/{f}" for f in files]
    for record in data.records:
        assert record.labels.tolist() == [3]
        assert record.boxes[0].tolist() == pytest.approx([3, 4, 20, 30], abs=0.01)


def test_a_training_part_alone_is_shared_out_too(tmp_path):
    for k in range(20):
        picture(tmp_path / "images" / f"{k}.jpg", OBJECTS)
    describe(tmp_path, train="images")
    sides = [names(load(tmp_path, s)) for s in ("train", "val")]
    assert len(sides[0]) + len(sides[1]) == 20 and all(sides)
    assert not set(sides[0]) & set(sides[1])


def test_polygons_become_their_boxes(tmp_path):
    picture(
        tmp_path / "images" / "a.png",
        "2 0.25 0.25 0.5 0.75 0.75 0.5\n2.0 0.1 0.2 0.3 0.1 0.2 0.4 0.1 0.4\n",
    )
    describe(tmp_path, train="images")
    boxes = load(tmp_path, "all")[0][1]["boxes"]
    assert boxes[0].tolist() == [16, 8, 48, 24]
    assert boxes[1].tolist() == pytest.approx([6.4, 3.2, 19.2, 12.8])


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("cat 0.5 0.5 0.1 0.1", Kind.ENTRY, "wanted a class and numbers"),
        ("-1 0.5 0.5 0.1 0.1", Kind.ENTRY, "wanted a class and numbers"),
        ("1.5 0.5 0.5 0.1 0.1", Kind.ENTRY, "wanted a class and numbers"),
        ("inf 0.5 0.5 0.1 0.1", Kind.ENTRY, "wanted a class and numbers"),
        ("0 0.5 0.5 0.1", Kind.ENTRY, "wanted class, centre x, centre y, width, height"),
        ("0 0.5 0.5 0.1 0.1 0.2 0.3 0.4", Kind.ENTRY, "or class and a polygon"),
        ("0 nan 0.5 0.1 0.1", Kind.NOT_FINITE, "wanted finite numbers"),
        ("3 0.5 0.5 0.1 0.1", Kind.UNKNOWN_CLASS, "there are 3 classes, from 0"),
        ("0 320 240 60 50", Kind.ENTRY, "wanted shares of the sides, not pixels"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_and_named(tmp_path, line, kind, words):
    picture(tmp_path / "images" / "a.png", f"0 0.5 0.5 0.5 0.5\n\n{line}\n")
    describe(tmp_path, train="images")
    with pytest.raises(DataError, match=r"a\.txt: line 3 is .*" + words):
        YoloText(tmp_path, "all")
    faults = Faults(tolerant=True)
    data = YoloText(tmp_path, "all", faults=faults)
    assert len(data[0][1]["labels"]) == 1
    assert [f.kind for f in faults] == [kind]


def test_no_size_and_outside_are_left_out(tmp_path, caplog):
    picture(tmp_path / "images" / "a.png", "0 0.5 0.5 0 0.5\n0 1.5 0.5 0.2 0.2\n0 0.5 0.5 0.5 0.5")
    (tmp_path / "images" / "b.png").write_bytes(b"")
    describe(tmp_path, train="images")
    data = YoloText(tmp_path, "all")
    assert len(data) == 1 and len(data[0][1]["labels"]) == 1
    assert "without area; left out" in caplog.text
    assert "1 box outside the picture" in caplog.text
    assert "b.png: not a readable picture (the file is empty); left out" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [a\n", r"data\.yaml: not readable as YAML"),
        ("train: images\n", "wanted a key names"),
        ("- a\n", "wanted a key names"),
        ("names: {1: a}\ntrain: images\n", r"names must count from 0 without gaps, got \[1\]"),
        ("names: 3\ntrain: images\n", "names must be a list, or a mapping from 0 on, got 3"),
        ("names: [a]\ntrain: nowhere\n", r"nowhere is not there"),
        ("names: [a]\ntrain: empty\n", r"no picture of split 'train' can be read"),
    ],
)
def test_a_description_that_makes_no_sense(tmp_path, text, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=words):
        load(tmp_path / "data.yaml", "train")


def test_texts_without_names_are_no_classes_of_pictures(tmp_path):
    picture(tmp_path / "images" / "a.png", OBJECTS)
    with pytest.raises(DataError, match="nothing says what the classes are"):
        load(tmp_path)


def test_classes_of_pictures_with_a_list_of_names_stay_what_they_are(tmp_path):
    for name in NAMES:
        picture(tmp_path / name / "a.png")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    (tmp_path / "README.txt").write_text("pictures of animals\n")
    assert isinstance(load(tmp_path, "all"), Folder)


def test_check_reads_every_split_of_a_description(ultralytics):
    found = check(str(ultralytics / "data.yaml"))
    assert {k: v["images"] for k, v in found["splits"].items()} == {"train": 3, "val": 2}
    assert found["errors"] == 0


def test_a_run_on_a_description(ultralytics, tmp_path):
    options = ["--option", "neck_channels=16", "--option", "head_width=16", "--steps", 2]
    data = ["--data", ultralytics / "data.yaml"]
    call("train", "--model", "yolo", *data, "--out", tmp_path / "run", *options, *SMALL)
    assert "2 images" in call("eval", "--checkpoint", tmp_path / "run")


def test_what_predict_writes_can_be_read(tmp_path):
    size = {"width": 64, "height": 32}
    found = [{"class": "owl", "score": 0.5, "box": [3.25, 4, 20, 30.5]}]
    answers = [
        {"file": "a.jpg", **size, "detections": found},
        {"file": "b.jpg", **size, "detections": []},
    ]
    write_answers(Save(tmp_path, "yolo"), answers, NAMES)
    for answer in answers:
        picture(tmp_path / answer["file"])
    data = load(tmp_path, "all")
    assert data.classes == NAMES
    assert [r.labels.tolist() for r in data.records] == [[3], []]
    assert data.record(0).boxes[0].tolist() == pytest.approx([3.25, 4, 20, 30.5], abs=1e-4)
    (tmp_path / "a.txt").write_text("")  # all are empty
    assert isinstance(load(tmp_path, "all"), YoloText)


OBB = (
    "0 0.25 0.25 0.5 0.25 0.5 0.75 0.25 0.75\n"  # four corners: x y x y x y x y
    "1 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5\n"
    "2 0.5 0.5 0.25 0.5\n"  # an upright box
    "2 0.1 0.1 0.4 0.1 0.4 0.2 0.25 0.3 0.1 0.2\n"  # a polygon of five points
)


def test_oriented_boxes(tmp_path):
    picture(tmp_path / "images" / "a.jpg", OBB)  # 64 by 32 pixels
    describe(tmp_path, train="images")
    data = load(tmp_path, "all", oriented=True)
    assert data.oriented
    rec = data.record(0)
    assert rec.corners[0].tolist() == [16, 8, 32, 8, 32, 24, 16, 24]
    assert rec.corners[1].tolist() == [32, 8, 48, 16, 32, 24, 16, 16]
    assert rec.corners[2].tolist() == [24, 8, 40, 8, 40, 24, 24, 24]
    # 6.4 to 25.6 across, 3.2 to 9.6 down, upright though its lowest point is alone
    wide = rec.rectangles[3]
    assert wide == pytest.approx([16, 6.4, 19.2, 6.4, 0])
    boxes = data[0][1]["boxes"]
    assert boxes[0].tolist() == [24, 16, 16, 16, 0]
    # a rhombus of 32 by 16: along a side it is 64 by 32, over root 5
    assert boxes[1, 2:4].tolist() == pytest.approx([64 / 5**0.5, 32 / 5**0.5])
    # the smallest rectangle is one of pixels, which shares of unequal sides are not
    assert rec.rectangles[1] == pytest.approx(
        smallest_rectangle([[32, 8], [48, 16], [32, 24], [16, 16]])
    )
    upright = load(tmp_path, "all")
    assert upright.record(0).corners is None
    assert upright[0][1]["boxes"][1].tolist() == [16, 8, 48, 24]


@pytest.mark.parametrize(
    ("text", "words", "kind"),
    [
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4 0.4\n", "without area", Kind.NO_AREA),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3\n", "without area", Kind.NO_AREA),
        ("0 10 10 20 10 20 20 10 20\n", "wanted shares of the sides", Kind.ENTRY),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4\n", "or class and a polygon", Kind.ENTRY),
        ("0 0.1 nan 0.2 0.2 0.3 0.3 0.4 0.4\n", "wanted finite numbers", Kind.NOT_FINITE),
    ],
)
def test_bad_oriented_lines(tmp_path, text, words, kind):
    picture(tmp_path / "images" / "a.jpg", text + OBB)
    describe(tmp_path, train="images")
    faults = Faults(tolerant=True)
    assert len(load(tmp_path, "all", oriented=True, faults=faults).record(0).labels) == 4
    (fault,) = faults
    assert fault.kind == kind
    assert words in fault.text
