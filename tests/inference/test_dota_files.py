import pytest

from detcore.evaluation.dota_metrics import dota_metrics
from detcore.inference.dota_files import write_dota
from detcore.utils.errors import UsageError
from tests.helpers.documents import truth


def answer(file, *rows):
    keys = ("class", "score", "box")
    return {"file": file, "detections": [dict(zip(keys, row, strict=True)) for row in rows]}


def test_a_file_per_class_with_a_line_per_detection(tmp_path):
    answers = [
        answer(
            "images/P0003.png", ("ship", 0.9, [50, 40, 20, 10, 0]), ("plane", 0.5, [1, 2, 9, 7])
        ),
        answer("images/P0007.png", ("ship", 0.25, [50, 40, 20, 10, 90])),
        answer("images/P0008.png"),
    ]
    write_dota(tmp_path / "new" / "folder", answers, ["plane", "ship", "small-vehicle"])
    texts = {f.name: f.read_text() for f in (tmp_path / "new" / "folder").iterdir()}
    assert texts == {
        "Task1_plane.txt": "P0003 0.5 1.0000 2.0000 9.0000 2.0000 9.0000 7.0000 1.0000 7.0000\n",
        "Task1_ship.txt": (
            "P0003 0.9 40.0000 35.0000 60.0000 35.0000 60.0000 45.0000 40.0000 45.0000\n"
            # a quarter turn counter-clockwise: what was top left is low on the left
            "P0007 0.25 45.0000 50.0000 45.0000 30.0000 55.0000 30.0000 55.0000 50.0000\n"
        ),
        "Task1_small-vehicle.txt": "",
    }


def test_read_back_they_are_the_same_boxes(tmp_path):
    box = [50.25, 40.5, 30, 10, 33.3]
    write_dota(tmp_path, [answer("P1.png", ("x", 0.75, box))], ["x"])
    name, score, *numbers = (tmp_path / "Task1_x.txt").read_text().split()
    document = truth((1, 5, box, {"corners": [float(n) for n in numbers]}))
    row = {"image_id": 1, "category_id": 5, "bbox": box, "score": float(score)}
    assert name == "P1"
    assert dota_metrics(document, [row], iou=0.9999)["AP_all_point"] == 1


def test_what_the_form_can_not_say(tmp_path, caplog):
    twice = [answer("a/P1.png"), answer("b/P1.png")]
    with pytest.raises(UsageError, match=r"a/P1.png and b/P1.png are both 'P1' there"):
        write_dota(tmp_path / "x", twice, ["plane"])
    with pytest.raises(UsageError, match=r"'a/b' is no name of a file"):
        write_dota(tmp_path / "x", [], ["a/b"])
    assert not (tmp_path / "x").exists()
    write_dota(tmp_path / "x", [answer("my photo.png")], ["plane"])
    assert "part columns by spaces, and 'my photo' has one" in caplog.text
