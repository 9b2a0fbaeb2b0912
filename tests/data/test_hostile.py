"""Hostile and broken files give one message, soon, and reach nothing outside the data set."""

import json
import os
import time

import numpy as np
import pytest
from PIL import Image

from detcore.data import DataError, load
from detcore.data.faults import Faults
from detcore.data.images import image_size, read_image
from detcore.data.readers.kitti_labels import parse_objects
from detcore.data.validation.check import check
from detcore.evaluation.kitti_metrics import kitti_metrics
from detcore.evaluation.kitti_results import read_kitti_labels
from detcore.training.config import ConfigError
from detcore.training.config_file import read as read_config
from detcore.utils.user_files import LARGEST, read_text, read_yaml
from tests.data.test_coco import document, write
from tests.data.test_voc import annotate
from tests.data.test_yolo import picture

DEEP = 100_000
LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{k}: &a{k} [{','.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 9)
)


@pytest.fixture(autouse=True)
def soon():
    started = time.perf_counter()
    yield
    assert time.perf_counter() - started < 20


@pytest.mark.parametrize("form", ["coco", "multilabel", "cityscapes"])
@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * DEEP, "\0", "nan", '"x"', "[1e999]"])
def test_json_of_any_shape(tmp_path, form, text):
    if form == "cityscapes":
        file = tmp_path / "gtFine" / "train" / "ulm" / "a_gtFine_polygons.json"
        file.parent.mkdir(parents=True)
    else:
        file = tmp_path / "a.json"
    file.write_text(text)
    given = tmp_path if form == "cityscapes" else file
    with pytest.raises(DataError, match=rf"^{file}: "):
        load(f"{form}:{given}", "all")


@pytest.mark.parametrize(
    "names",
    [
        *("[" * DEEP, f"{{a: {LAUGHS}}}", "*nowhere", "&a [*a]", "!!set {a, b}", "{? [a]: b}"),
        *("!!timestamp 2001-01-01", "!!python/object/apply:os.system 'true'", "[[a]]"),
    ],
)
def test_yaml_of_any_shape(tmp_path, names):
    picture(tmp_path / "images" / "a.jpg", "0 0.5 0.5 0.5 0.5\n")
    file = tmp_path / "data.yaml"
    file.write_text(f"names: {names}\ntrain: images\n")
    with pytest.raises(DataError, match=rf"^{file}: "):
        load(file, "all")
    assert check(str(file))["errors"]
    with pytest.raises(ConfigError, match=rf"^{file}"):
        read_config(file, {"train": list[str]})


def test_aliases_that_would_fill_the_memory(tmp_path):
    file = tmp_path / "data.yaml"
    file.write_text(LAUGHS + "names: *a8\ntrain: images\n")
    with pytest.raises(DataError, match=r"more than 1000000 entries with its aliases written out"):
        load(file)
    file.write_text("base: &b {x: 1}\nnames: [a]\nagain: [*b, *b]\n")
    assert read_yaml(file)["again"] == [{"x": "1"}] * 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be"])
def test_entities_are_not_expanded(tmp_path, encoding):
    annotate(tmp_path, "a", [("dog", (1, 2, 9, 8))])
    file = tmp_path / "Annotations" / "a.xml"
    text = file.read_text().replace("dog", "&e;")
    file.write_bytes(f'<!DOCTYPE a [<!ENTITY e "cat">]>{text}'.encode(encoding))
    with pytest.raises(DataError, match=r"a.xml: XML with a document type or entities is not read"):
        load(tmp_path, "all")


def test_deep_xml(tmp_path):
    annotate(tmp_path, "a", [("dog", (1, 2, 9, 8))])
    file = tmp_path / "Annotations" / "a.xml"
    file.write_text("<annotation>" + "<a>" * DEEP + "</a>" * DEEP + "</annotation>")
    assert len(check(str(tmp_path))["faults"]) >= 1


@pytest.mark.parametrize("place", ["/dev/zero", "/etc/passwd", "/proc/self/environ", "../out.txt"])
def test_a_description_reaches_nothing_outside(tmp_path, place):
    root = tmp_path / "set"
    root.mkdir()
    (tmp_path / "out.txt").write_text("secret words\n")
    (root / "data.yaml").write_text(f"names: [a]\ntrain: {place}\n")
    with pytest.raises(DataError, match=r"wanted a file|not read") as error:
        load(root / "data.yaml")
    assert "secret" not in str(error.value)
    assert "root:" not in str(error.value)


def test_a_list_from_elsewhere_that_names_pictures(tmp_path):
    file = picture(tmp_path / "pictures" / "a.jpg", "0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "list.txt").write_text(f"{file}\n")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.yaml").write_text(f"names: [a]\ntrain: {tmp_path / 'list.txt'}\n")
    assert load(tmp_path / "set" / "data.yaml", "all").paths == [file]


@pytest.mark.parametrize("name", ["a.jpg", "classes.txt", "a.xml", "a.json", "a.csv", "data.yaml"])
def test_pipes_are_no_data(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError):
        load(tmp_path)
    with pytest.raises(DataError):
        load(tmp_path / name)
    with pytest.raises(DataError, match="not a readable picture"):
        read_image(tmp_path / name)
    with pytest.raises(DataError):
        image_size(tmp_path / name)
    with pytest.raises(DataError, match="wanted a file, this is a pipe or device"):
        read_text(tmp_path / name)


def test_texts_have_an_end(tmp_path):
    file = tmp_path / "classes.txt"
    with file.open("wb") as stream:
        stream.truncate(LARGEST + 1)
    picture(tmp_path / "a.jpg", "0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match=rf"classes.txt: a text of {LARGEST + 1} bytes; up to"):
        load(tmp_path, "all")


@pytest.mark.parametrize(
    "bbox", [[0, 0, 1e308, 1e308], [-1e308, -1e308, 1e308, 1e308], [1e308] * 4]
)
def test_boxes_beyond_all_bounds(tmp_path, bbox):
    content = document()
    content["annotations"][0]["bbox"] = bbox
    data = load(write(tmp_path, content), "all")
    for k in range(len(data)):
        boxes = data[k][1]["boxes"]
        assert boxes.isfinite().all()
        assert (boxes >= 0).all() and (boxes <= 40).all()


@pytest.mark.parametrize("most", ["1e308", "-1e308", "1e12", "1e9", "9e8"])
@pytest.mark.parametrize("oriented", [False, True])
def test_corners_beyond_all_bounds(tmp_path, most, oriented):
    row = f"{most} 2 {most} 9 8 9 2 2"
    Image.new("RGB", (40, 30)).save(picture(tmp_path / "dota" / "images" / "a.png"))
    (tmp_path / "dota" / "labelTxt").mkdir()
    (tmp_path / "dota" / "labelTxt" / "a.txt").write_text(f"{row} ship 0\n5 5 9 5 9 9 5 9 ship 0\n")
    content = document()
    number = float(most)
    for k, bbox in enumerate(([number, 2, 3, 4, 5], [1, 2, number, 4, 5], [1, 2, 3, 4, number])):
        content["annotations"][k] |= {"bbox": bbox, "iscrowd": 0}
    write(tmp_path / "coco", content)
    for name in ("dota", "coco"):
        for tile in (0, 16):
            data = load(f"{name}:{tmp_path / name}", "all", oriented=oriented, tile=tile)
            for k in range(len(data)):
                assert data[k][1]["boxes"].isfinite().all()
            json.dumps(data.to_coco(), allow_nan=False)


def test_a_label_that_is_a_device_or_a_link_outward(tmp_path):
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "labelTxt").mkdir()
    os.mkfifo(tmp_path / "labelTxt" / "a.txt")
    with pytest.raises(DataError, match="wanted a file, this is a pipe or device"):
        load(f"dota:{tmp_path}", "all")
    (tmp_path / "labelTxt" / "a.txt").unlink()
    os.symlink("/etc/passwd", tmp_path / "labelTxt" / "a.txt")
    with pytest.raises(DataError, match=r"wanted x and y of four corners"):
        load(f"dota:{tmp_path}", "all")


LINE_3D = "Car 0.1 1 1.5 1 1 9 7 1.5 1.6 4.2 -2.5 1.7 20.25 1.57"


@pytest.mark.parametrize("column", [1, 2, 3, 8, 11, 14])
@pytest.mark.parametrize(
    "word", ["nan", "-inf", "1e999", "1e308", "-1e308", "x", "\u0661", "9" * 5000, "[red]", "0x7f"]
)
def test_3d_labels_of_any_words_keep_the_box_in_the_picture(tmp_path, column, word):
    words = LINE_3D.split()
    words[column] = word
    (tmp_path / "label_2").mkdir()
    (tmp_path / "label_2" / "a.txt").write_text(" ".join(words), encoding="utf-8")
    (tmp_path / "image_2").mkdir()
    Image.new("RGB", (12, 8)).save(tmp_path / "image_2" / "a.png")
    data = load(tmp_path, "all")
    assert data[0][1]["boxes"].tolist() == [[1, 1, 9, 7]]
    for values in data.record(0).extra.values():
        assert not np.isinf(values).any()
    file = tmp_path / "label_2" / "a.txt"
    try:
        figures = kitti_metrics([read_kitti_labels(file)], [parse_objects(file, [], Faults(), 16)])
    except DataError as error:
        assert str(error).startswith(f"{file}: line 1 has ")  # noqa: PT017
    else:
        json.dumps(figures, allow_nan=False)


def test_links_in_a_circle_end(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for k in range(3):
            os.symlink("..", tmp_path / name / f"up{k}")
    (tmp_path / "cat" / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert 1 <= len(load(f"folder:{tmp_path}", "all")) <= 4


def test_a_size_that_no_memory_holds(tmp_path):
    content = json.loads(json.dumps(document()))
    content["images"][0] |= {"width": 10**6, "height": 10**6}
    data = load(write(tmp_path, content), "all")
    assert data.size(0) == (40, 30)
