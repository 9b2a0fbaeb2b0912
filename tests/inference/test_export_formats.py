import csv
import json
import sys
from pathlib import Path

import pytest
import supervision
import torch

from detcore.evaluation.evaluator import coco_results
from detcore.inference.export_formats import (
    Save,
    check_texts,
    saves_of,
    to_supervision,
    write_answers,
)
from detcore.inference.input_sources import Source
from detcore.inference.predictor import to_json
from detcore.utils.errors import UsageError
from detcore.utils.optional_imports import MissingPackage

CLASSES = ["cat", "dog"]


def detection(name, score, *box, **more):
    return {"class": name, "score": score, "box": list(box), **more}


@pytest.fixture
def pictures():
    first = [detection("dog", 0.75, 10, 20, 30, 60), detection("cat", 0.5, 0, 0, 100, 50)]
    return [
        {"file": "a/x.jpg", "width": 100, "height": 200, "detections": first},
        {"file": "b/x.jpg", "width": 100, "height": 200, "detections": []},
    ]


@pytest.fixture
def film():
    rows = [detection("dog", 0.75, 10, 20, 30, 60, track=4)]
    return [{"file": "f.mp4", "frame": 7, "width": 100, "height": 200, "detections": rows}]


def test_coco(pictures, film, tmp_path):
    path = tmp_path / "new" / "dets.json"
    write_answers(Save(path, "coco"), pictures, CLASSES)
    first, second = json.loads(path.read_text())
    assert first == {
        "image_id": 1, "category_id": 2, "category_name": "dog", "bbox": [10, 20, 20, 40],
        "score": 0.75, "file_name": "a/x.jpg",
    }  # fmt: skip
    assert second["category_id"] == 1
    # with the ids of a data set that has no cats
    known = [{**one, "image_id": k} for one, k in zip(pictures, (70, 80), strict=True)]
    write_answers(Save(path, "coco"), known, CLASSES, category_ids={"dog": 18})
    (only,) = json.loads(path.read_text())
    assert (only["image_id"], only["category_id"]) == (70, 18)
    write_answers(Save(path, "coco"), film, CLASSES)
    (tracked,) = json.loads(path.read_text())
    assert (tracked["frame"], tracked["track_id"]) == (7, 4)


def test_coco_loses_nothing_of_what_the_model_said(tmp_path):
    torch.manual_seed(0)
    corners = torch.rand(50, 4) * 90
    corners[:, 2:] += corners[:, :2]
    found = {"boxes": corners, "scores": torch.rand(50), "labels": torch.ones(50, dtype=torch.long)}
    answer = {"file": "x.jpg", **to_json(found, CLASSES, torch.zeros(3, 200, 200))}
    write_answers(Save(tmp_path / "dets.json", "coco"), [answer], CLASSES)
    rows = json.loads((tmp_path / "dets.json").read_text())
    order = found["scores"].argsort(descending=True)
    wanted = coco_results([{k: v[order] for k, v in found.items()}], [1], [1])
    for key in ("score", "bbox"):
        written, meant = (torch.tensor([r[key] for r in one]) for one in (rows, wanted))
        assert torch.equal(written, meant)
    # and no more digits than needed
    digits = [len(str(number).replace(".", "")) for row in rows for number in row["bbox"]]
    assert max(digits) <= 10


def test_yolo(pictures, film, tmp_path, caplog):
    write_answers(Save(tmp_path / "out", "yolo"), pictures, CLASSES)
    files = {p.name: p.read_text() for p in (tmp_path / "out").iterdir()}
    assert files == {
        "classes.txt": "cat\ndog\n",
        "x.txt": (
            "1 0.200000 0.200000 0.200000 0.200000 0.750000\n"
            "0 0.500000 0.125000 1.000000 0.250000 0.500000\n"
        ),
        "x-2.txt": "",
        "index.csv": "text,file\nx.txt,a/x.jpg\nx-2.txt,b/x.jpg\n",
    }
    (line,) = caplog.messages
    assert line.startswith("pictures share names; which text is whose is in")
    write_answers(Save(tmp_path / "film", "yolo"), film, CLASSES)
    text = (tmp_path / "film" / "f-000007.txt").read_text()
    assert text == "1 0.200000 0.200000 0.200000 0.200000 0.750000 4\n"
    # here all names are different
    assert not (tmp_path / "film" / "index.csv").exists()


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("x.txt", r"--save would overwrite .*x\.txt"),
        ("x-2.txt", "x-2.txt"),
        ("classes.txt", "classes.txt"),
        ("[f]-000012.txt", "000012.txt"),
    ],
)
def test_texts_that_are_there_are_not_overwritten(tmp_path, there, words):
    sources = [Source("a/x.jpg"), Source("b/x.jpg"), Source("[f].mp4", moving=True)]
    check_texts(Save(tmp_path / "new", "yolo"), sources, CLASSES)
    for other in ("y.txt", "x.png", "f-000012.txt", "[f]-notes.txt"):
        (tmp_path / other).write_text("")
    save = Save(tmp_path, "yolo")
    check_texts(save, sources, CLASSES)
    (tmp_path / there).write_text("")
    with pytest.raises(UsageError, match=words):
        check_texts(save, sources, CLASSES)
    # of DOTA's files the classes' count, and no picture's
    save = Save(tmp_path, "dota")
    check_texts(save, sources, CLASSES)
    (tmp_path / f"Task1_{CLASSES[0]}.txt").write_text("")
    with pytest.raises(UsageError, match=f"Task1_{CLASSES[0]}.txt"):
        check_texts(save, sources, CLASSES)


def test_csv(pictures, film, tmp_path):
    path = tmp_path / "a.csv"
    write_answers(Save(path, "csv"), pictures, CLASSES)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["file", "class", "score", "x0", "y0", "x1", "y1"]
    assert list(rows[0].values()) == ["a/x.jpg", "dog", "0.75", "10", "20", "30", "60"]
    assert len(rows) == 2
    write_answers(Save(path, "csv"), film, CLASSES)
    with path.open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["frame"], row["track"]) == ("7", "4")
    named = [{"file": "a,b.jpg", "classes": [{"class": "cat", "score": 0.5}]}]
    write_answers(Save(path, "csv"), named, CLASSES)
    assert path.read_text().splitlines() == ["file,class,score", '"a,b.jpg",cat,0.5']


def test_json_is_the_answers_themselves(pictures, tmp_path):
    write_answers(Save(tmp_path / "a.json", "json"), pictures, CLASSES)
    assert json.loads((tmp_path / "a.json").read_text()) == pictures


def test_what_a_format_cannot_hold_is_refused():
    x, y = Path("x"), Path("y")
    for paths, forms, task, words in (
        (
            [],
            ["xml"],
            "detection",
            "--format must be one of json, coco, yolo, csv, dota, got 'xml'",
        ),
        ([], ["csv"], "detection", "--format csv needs --save"),
        ([x], ["coco"], "classification", "--format coco is for detectors"),
        ([x], ["yolo"], "classification", "--format yolo is for detectors"),
        ([x, y], ["csv"], "detection", "give one --format for each --save.*got 2 --save, 1 --for"),
        ([x], ["csv", "yolo"], "detection", "give one --format for each --save.*got 1 --save, 2"),
    ):
        with pytest.raises(UsageError, match=words):
            saves_of(paths, forms, task)
    assert saves_of([x], ["csv"], "classification") == [Save(x, "csv")]
    assert saves_of([], ["json"], "classification") == []
    assert saves_of([x, y], ["yolo", "coco"], "detection") == [Save(x, "yolo"), Save(y, "coco")]


def test_without_a_format_the_ending_tells():
    paths = [Path("a.json"), Path("b.CSV"), Path("c"), Path("d.txt")]
    saves = saves_of(paths, [], "detection")
    assert [save.form for save in saves] == ["json", "csv", "json", "json"]


def prediction(**more):
    return {
        "boxes": torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]),
        "scores": torch.tensor([0.5, 0.25]),
        "labels": torch.tensor([2, 1]),
        **more,
    }


def test_supervision_gets_its_detections():
    found = to_supervision(prediction(), CLASSES)
    assert isinstance(found, supervision.Detections) and len(found) == 2
    assert found.xyxy.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert found.confidence.tolist() == [0.5, 0.25]
    assert found.class_id.tolist() == [1, 0]
    assert found.data["class_name"].tolist() == ["dog", "cat"]
    assert found.tracker_id is None
    tracked = to_supervision(prediction(tracks=torch.tensor([7, -1])), CLASSES)
    assert tracked.tracker_id.tolist() == [7, -1]
    nothing = {k: v[:0] for k, v in prediction().items()}
    empty = to_supervision(nothing, CLASSES)
    assert empty.xyxy.shape == (0, 4) and empty.data["class_name"].shape == (0,)


def test_without_supervision_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingPackage) as error:
        to_supervision(prediction(), CLASSES)
    assert str(error.value) == "this part of detcore needs supervision: pip install supervision"
