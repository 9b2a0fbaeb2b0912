import json
import sys

import pytest
from PIL import Image

from detcore.engine import opening
from tests.engine.films import INFO, Finder, fake_opencv, scene
from tests.test_cli import call


@pytest.fixture
def finder(monkeypatch):
    """A model that finds what is red and blue, whatever checkpoint is asked for."""
    net = Finder()
    monkeypatch.setattr(opening, "open_model", lambda *a, **k: (net.eval(), INFO))
    return net


@pytest.fixture
def photos(tmp_path):
    for k in range(3):
        path = tmp_path / "photos" / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(scene(red=(k, 4), blue=(40, 20))).save(path)
    return tmp_path / "photos"


def test_every_format(finder, photos, tmp_path):
    options = ["--checkpoint", "x", "--batch-size", 2]
    text = call("predict", photos, *options, "--save", tmp_path / "a.json")
    assert "0.png: 1 blue, 1 red" in text
    assert finder.calls == [2, 1]
    answers = json.loads((tmp_path / "a.json").read_text())
    assert [d["class"] for d in answers[0]["detections"]] == ["red", "blue"]
    where = ["--format", "coco", "--save", tmp_path / "b.json"]
    call("predict", f"{photos}/*.png", *options, *where)
    rows = json.loads((tmp_path / "b.json").read_text())
    assert [r["image_id"] for r in rows] == [1, 1, 2, 2, 3, 3]
    assert rows[2]["bbox"] == [1, 4, 12, 12]
    call("predict", photos, *options, "--format", "yolo", "--save", tmp_path / "texts")
    names = {"classes.txt", "0.txt", "1.txt", "2.txt"}
    assert {p.name for p in (tmp_path / "texts").iterdir()} == names
    call("predict", photos, *options, "--format", "csv", "--save", tmp_path / "a.csv")
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 7
    text = call("predict", photos, *options, "--format", "csv", code=2)
    assert "--format csv needs --save" in text


def test_a_data_sets_own_ids_go_into_coco(finder, photos, tmp_path):
    document = {
        "images": [
            {"id": 10 + k, "file_name": f"{k}.png", "width": 64, "height": 48} for k in range(3)
        ],
        "annotations": [],
        "categories": [{"id": 9, "name": "red"}, {"id": 4, "name": "green"}],
    }
    (photos / "truth.json").write_text(json.dumps(document))
    data = ["--data", photos / "truth.json", "--count", 2]
    files = ["--format", "coco", "--save", tmp_path / "d.json"]
    call("predict", "--checkpoint", "x", *data, *files)
    rows = json.loads((tmp_path / "d.json").read_text())
    assert [(r["image_id"], r["category_id"]) for r in rows] == [(10, 9), (11, 9)]
    answers = tmp_path / "a.json"
    call("predict", "--checkpoint", "x", *data, "--json", answers)
    assert [a["image_id"] for a in json.loads(answers.read_text())] == [10, 11]
    # and what comes out can be scored
    text = call("eval", "--results", tmp_path / "d.json", "--data", photos / "truth.json")
    assert "2 background" in text


def test_a_data_sets_damaged_picture_is_left_out(finder, photos, tmp_path):
    (photos / "0.png").write_bytes(b"")
    images = [{"id": 10 + k, "file_name": f"{k}.png", "width": 64, "height": 48} for k in range(3)]
    document = {"images": images, "annotations": [], "categories": [{"id": 9, "name": "red"}]}
    (photos / "truth.json").write_text(json.dumps(document))
    files = ["--format", "coco", "--save", tmp_path / "d.json"]
    text = call("predict", "--checkpoint", "x", "--data", photos / "truth.json", *files)
    assert "0.png: not a readable picture" in text and "; left out" in text
    rows = json.loads((tmp_path / "d.json").read_text())
    assert [r["image_id"] for r in rows] == [11, 12]


def test_a_video_and_a_camera(finder, tmp_path, monkeypatch):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"")
    shots = [scene(red=(4 * k, 10)) for k in range(6)]
    cv2 = fake_opencv({str(film): shots, 1: [*shots[:2], KeyboardInterrupt()]})
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    files = ["--out", tmp_path / "out.avi", "--json", tmp_path / "a.json"]
    text = call("predict", film, "--checkpoint", "x", "--frames", 4, *files)
    assert f"{film}: 4 frames, 1 red" in text
    assert "the video is" in text
    assert len(cv2.written[str(tmp_path / "out.avi")]["frames"]) == 4
    answers = json.loads((tmp_path / "a.json").read_text())
    assert [a["detections"][0]["track"] for a in answers] == [1] * 4
    text = call("predict", "camera:1", "--checkpoint", "x", "--json", tmp_path / "b.json")
    assert "camera:1: 2 frames, 1 red" in text
    assert len(json.loads((tmp_path / "b.json").read_text())) == 2


def test_without_opencv_a_video_is_one_sentence(finder, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    text = call("predict", "film.mp4", "--checkpoint", "x", code=2)
    assert "needs opencv-python-headless: pip install 'detcore[video]'" in text
