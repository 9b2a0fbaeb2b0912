"""The documentation builds, its examples run, and it says what commands print."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from detcore.data import load

ROOT = Path(__file__).parents[1]


def printed_by(script: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / script)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, check=True, capture_output=True, encoding="utf-8", env=environment
    ).stdout


def test_contributing_holds_the_table_of_cuda_limits() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, after = text.split("<!-- scripts/cuda_limits.py -->\n")
    held, _ = after.split("<!-- end -->\n")
    assert held == printed_by("cuda_limits.py")


def test_stubs_are_the_schemas() -> None:
    held = (ROOT / "detcore/_C.pyi").read_text(encoding="utf-8")
    assert held == printed_by("write_stubs.py"), "run python scripts/write_stubs.py --write"


def test_contributing_holds_the_table_of_ops() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, after = text.split("<!-- scripts/op_table.py -->\n")
    held, _ = after.split("<!-- end of ops -->\n")
    assert held == printed_by("op_table.py"), "run python scripts/op_table.py --write"


def test_the_documentation_builds_without_a_warning_and_its_examples_run() -> None:
    """`make docs`: a link that leads nowhere, a picture without its file, a wrong output."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/build.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tests = re.search(r"(\d+) tests\n +0 failures in tests", done.stdout)
    assert tests and int(tests[1]) > 100, done.stdout


def sample(heading: str, language: str) -> list[str]:
    """The code blocks of that language under a heading of the page on data formats."""
    page = (ROOT / "docs/reference/formats.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section, heading
    return re.findall(rf"```{language}\n(.*?)```", section[1], re.DOTALL)


def picture(path: Path, size: tuple[int, int] = (640, 480)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_the_sample_of_coco_is_read(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(sample("COCO", "json")[0])
    picture(tmp_path / "a.jpg")
    data = load(tmp_path / "instances.json", "all")
    assert data.classes == ["cat", "dog"] and len(data[0][1]["boxes"]) == 2


def test_the_sample_of_voc_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(sample("PASCAL VOC", "xml")[0])
    picture(tmp_path / "a.jpg")
    assert load(tmp_path, "all")[0][1]["boxes"].tolist() == [[10, 20, 110, 100]]


def test_the_sample_of_yolo_is_read(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(sample("YOLO", "yaml")[0])
    for split in ("train", "val"):
        picture(tmp_path / f"images/{split}/a.jpg")
        (tmp_path / f"labels/{split}").mkdir(parents=True)
        (tmp_path / f"labels/{split}/a.txt").write_text(sample("YOLO", "text")[0])
    data = load(tmp_path, "train")
    assert data.classes == ["cat", "dog"]
    assert data[0][1]["boxes"].round().tolist() == [[10, 20, 110, 100], [300, 40, 360, 130]]


def test_the_sample_of_boxes_in_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text(sample("Boxes in a CSV", "text")[0])
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg", (800, 600))
    data = load(tmp_path / "boxes.csv", "all")
    assert [len(data[k][1]["boxes"]) for k in range(2)] == [2, 1]


def test_the_sample_of_open_images_is_read(tmp_path: Path) -> None:
    boxes, names = sample("Open Images", "text")
    (tmp_path / "train-annotations-bbox.csv").write_text(boxes)
    (tmp_path / "class-descriptions-boxable.csv").write_text(names)
    picture(tmp_path / "train/000002b66c9c498e.jpg")
    assert len(load(f"openimages:{tmp_path}", "train")[0][1]["boxes"]) == 1


def test_the_sample_of_kitti_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "training/image_2/000000.png", (1242, 375))
    (tmp_path / "training/label_2").mkdir()
    (tmp_path / "training/label_2/000000.txt").write_text(sample("KITTI", "text")[0])
    assert len(load(f"kitti:{tmp_path}", "all")[0][1]["boxes"]) == 2


def test_the_sample_of_dota_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "images/P0000.png")
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt/P0000.txt").write_text(sample("DOTA", "text")[0])
    data = load(tmp_path, "all", oriented=True)
    assert data.record(0).corners[1].tolist() == [500, 100, 520, 100, 520, 110, 500, 110]
    assert data.record(0).ignore.tolist() == [False, True]


def test_the_samples_of_turned_boxes_are_read(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(sample("COCO", "json")[1])
    picture(tmp_path / "a.jpg")
    turned, diamond = load(tmp_path / "instances.json", "all", oriented=True).record(0).rectangles
    assert turned == pytest.approx([300, 200, 120, 40, 30])
    assert diamond == pytest.approx([50, 50, 1800**0.5, 1800**0.5, -45])
    (tmp_path / "yolo/labels").mkdir(parents=True)
    (tmp_path / "yolo/labels/a.txt").write_text(sample("YOLO", "text")[1])
    (tmp_path / "yolo/classes.txt").write_text("ship\n")
    picture(tmp_path / "yolo/images/a.jpg")
    corners = load(tmp_path / "yolo", "all", oriented=True).record(0).corners[0]
    assert corners == pytest.approx([160, 120, 320, 168, 294.4, 216, 134.4, 168])


def test_the_sample_of_cityscapes_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "gtFine/train/aachen"
    folder.mkdir(parents=True)
    (folder / "x_gtFine_polygons.json").write_text(sample("Cityscapes", "json")[0])
    picture(tmp_path / "leftImg8bit/train/aachen/x_leftImg8bit.png", (2048, 1024))
    assert load(f"cityscapes:{tmp_path}", "train")[0][1]["boxes"].tolist() == [[100, 400, 300, 520]]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_samples_of_labels_are_read(tmp_path: Path, which: int) -> None:
    heading = "Labels of whole pictures"
    text = (sample(heading, "text") + sample(heading, "json"))[which]
    file = tmp_path / ("labels.json" if which == 2 else "labels.csv")
    file.write_text(text)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(tmp_path / name)
    data = load(file, "all")
    assert data.classes == ["cat", "dog"]
    assert [data[k][1]["labels"].tolist() for k in range(2)] == [[1, 1], [1, 0]]


def test_the_sample_of_results_is_coco_results() -> None:
    page = (ROOT / "docs/howto/evaluate.md").read_text(encoding="utf-8")
    rows = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    assert {"file_name", "category_name", "bbox", "score"} == set(rows[0])
