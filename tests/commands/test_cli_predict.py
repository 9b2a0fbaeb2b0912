import json
import sys

import pytest
from PIL import Image

from detcore.checkpoints import load_model
from tests.commands.test_cli import call
from tests.helpers.films import INFO, Finder, fake_opencv, scene


@pytest.fixture
def finder(monkeypatch):
    """A model that finds red and blue objects, used for any checkpoint."""
    net = Finder()
    monkeypatch.setattr(load_model, "open_model", lambda *a, **k: (net.eval(), INFO))
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


def test_several_formats_of_one_run(finder, photos, tmp_path):
    places = [tmp_path / name for name in ("a.json", "b.json", "texts", "c.csv")]
    options = ["--checkpoint", "x", *[word for place in places for word in ("--save", place)]]
    forms = [word for form in ("json", "coco", "yolo", "csv") for word in ("--format", form)]
    call("predict", photos, *options, *forms)
    assert len(finder.calls) == 1
    assert len(json.loads(places[0].read_text())) == 3
    assert len(json.loads(places[1].read_text())) == 6
    assert (places[2] / "0.txt").is_file()
    assert len(places[3].read_text().splitlines()) == 7
    twice = ["--checkpoint", "x", "--save", places[0], "--save", places[0]]
    text = call("predict", photos, *twice, code=2)
    assert "--save and --save number 2 are both" in text


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
    # and the result can be evaluated
    text = call("eval", "--results", tmp_path / "d.json", "--data", photos / "truth.json")
    assert "2 nothing there" in text


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


def test_no_input_is_overwritten(finder, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", fake_opencv({}))
    film = tmp_path / "film.avi"
    film.write_bytes(b"film")
    link = tmp_path / "link"
    link.symlink_to(photos)
    scene_of = {p: p.read_bytes() for p in photos.iterdir()}
    for arguments, words in (
        ([photos, "--out", photos], "0.png"),
        ([photos / "0.png", "--out", link], "0.png"),
        ([photos / "0.png", "--out", link / "0.png"], "0.png"),
        ([film, "--out", film], "film.avi"),
        ([photos, "--json", photos / "1.png"], "1.png"),
    ):
        text = call("predict", *arguments, "--checkpoint", "x", code=2)
        assert "would overwrite the input" in text and words in text
    assert finder.calls == []
    assert {p: p.read_bytes() for p in photos.iterdir()} == scene_of
    # the input folder as output is allowed if no file would be overwritten
    Image.fromarray(scene()).save(photos / "sub.jpg")
    call("predict", photos / "sub.jpg", "--out", photos, "--checkpoint", "x")
    assert (photos / "sub.png").is_file()
    # labels and outputs of other options must not be overwritten either
    labels = photos / "0.txt"
    labels.write_text("0 0.5 0.5 1 1")
    yolo = ["--format", "yolo", "--save", photos]
    text = call("predict", photos / "0.png", *yolo, "--checkpoint", "x", code=2)
    assert "--save would overwrite" in text and labels.read_text() == "0 0.5 0.5 1 1"
    both = ["--save", tmp_path / "a.json", "--json", tmp_path / "a.json"]
    text = call("predict", photos, *both, "--checkpoint", "x", code=2)
    assert "--json and --save are both" in text


def test_no_picture_of_a_data_set_is_overwritten(finder, photos):
    images = [{"id": k, "file_name": f"{k}.png", "width": 64, "height": 48} for k in range(3)]
    document = {"images": images, "annotations": [], "categories": [{"id": 9, "name": "red"}]}
    truth = photos / "truth.json"
    truth.write_text(json.dumps(document))
    for places in (["--out", photos], ["--save", truth]):
        text = call("predict", "--checkpoint", "x", "--data", truth, *places, code=2)
        assert "would overwrite the input" in text
    assert finder.calls == []


def test_places_that_cannot_be_written_are_said_before_the_work(finder, photos, tmp_path):
    there = tmp_path / "file"
    there.write_text("")
    for option, place, words in (
        ("--out", there, "file is a file, wanted a folder"),
        ("--out", there / "x.png", "file is a file, wanted a folder"),
        ("--json", photos, "photos is a folder, wanted a file"),
        ("--json", "/dev/null", "null is a device, wanted a file"),
        ("--out", "/proc/x/y.png", "nothing can be written in /proc"),
        ("--out", tmp_path / "o.mov", "o.mov: a picture is written as .png"),
    ):
        text = call("predict", photos / "0.png", "--checkpoint", "x", option, place, code=2)
        assert words in text and "Errno" not in text
    assert finder.calls == []


def test_what_was_written_is_said_in_the_singular_too(finder, photos, tmp_path):
    one, more = tmp_path / "one.png", tmp_path / "more"
    options = ["--checkpoint", "x", "--out"]
    assert f"the picture is {one}\n" in call("predict", photos / "0.png", *options, one)
    assert f"pictures are in {more}\n" in call("predict", photos, *options, more)


def test_options_of_tiles_need_tiles(finder, photos):
    for option, value in (("--tile-size", 64), ("--tile-overlap", 0.5)):
        text = call("predict", photos, "--checkpoint", "x", option, value, code=2)
        assert f"{option} needs --tiles" in text


def test_a_folders_coco_is_scored_by_names(finder, photos, tmp_path):
    # the ground truth has another order of pictures and classes than the folder
    names = ["2.png", "0.png", "1.png"]
    images = [{"id": k, "file_name": n, "width": 64, "height": 48} for k, n in enumerate(names, 1)]
    boxes = {"red": [4, 12, 12], "blue": [40, 20, 12, 12]}
    rows = []
    for image in images:
        place = int(image["file_name"][0])
        for category, box in ((1, boxes["blue"]), (2, [place, *boxes["red"]])):
            rows.append({"image_id": image["id"], "category_id": category, "bbox": box})
    rows = [{**row, "id": k, "iscrowd": 0, "area": 144} for k, row in enumerate(rows, 1)]
    categories = [{"id": 1, "name": "blue"}, {"id": 2, "name": "red"}]
    document = {"images": images, "annotations": rows, "categories": categories}
    (tmp_path / "truth.json").write_text(json.dumps(document))
    files = ["--format", "coco", "--save", tmp_path / "d.json"]
    call("predict", photos, "--checkpoint", "x", *files)
    text = call("eval", "--results", tmp_path / "d.json", "--data", tmp_path / "truth.json")
    assert "mAP 1.000" in text


def test_without_opencv_a_video_is_one_sentence(finder, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    text = call("predict", "film.mp4", "--checkpoint", "x", code=2)
    assert "needs opencv-python-headless: pip install 'detcore[video]'" in text
