"""`detcore data check` of sets with turned boxes."""

from detcore.data.validation.check import check
from tests.data.test_check import of_kind, picture, run, voc


def dota(root, texts):
    for name, text in texts.items():
        picture(root / "images" / f"{name}.png", (100, 80))
        (root / "labelTxt").mkdir(exist_ok=True)
        (root / "labelTxt" / f"{name}.txt").write_text(text)


def test_oriented_boxes(tmp_path):
    turned = "20 10 50 40 40 50 10 20"  # 30 root 2 by 10 root 2, down to the right by 45 degrees
    good = f"{turned} ship 0\n60 20 90 20 90 30 60 30 plane 1\n"
    odd = (
        "10 10 30 20 30 10 10 20 ship 0\n"  # sides that cross
        "50 10 60 10 53 13 50 20 ship 0\n"  # a corner that points inward
        f"{turned} ship 0\n{turned} ship 0\n"  # twice
        "90 60 104 60 104 70 90 70 ship 0\n"  # its centre at 97 of 100
        "95 30 109 30 109 40 95 40 ship 0\n"  # at 102
        "5 70 15 70 25 70 30 70 ship 0\n"  # a line
        "1 2 3 4 5 6 7 8\n"
    )
    dota(tmp_path, {"good": good, "odd": odd, "none": "gsd:0.5\n"})
    found = check(str(tmp_path), "all", oriented=True)
    kinds = of_kind(found)
    assert {k: (f["count"], f["files"][0].rsplit("/", 1)[1]) for k, f in kinds.items()} == {
        "malformed entry": (1, "odd.txt"),
        "box without area": (1, "odd.txt"),
        "corners that are no convex quadrilateral": (2, "odd.png"),
        "box outside the image": (1, "odd.png"),
        "box partly outside the image": (1, "odd.png"),
        "duplicate box": (1, "odd.png"),
        "image without annotations": (1, "none.png"),
        "class without objects": (13, tmp_path.name),
    }
    assert (
        "2 objects; taken by the hull of the corners"
        in (kinds["corners that are no convex quadrilateral"]["examples"][0])
    )
    assert "1 box; kept whole" in kinds["box partly outside the image"]["examples"][0]
    assert found["splits"]["all"] == {"images": 3, "objects": 8, "crowds": 0}


def test_sizes_of_oriented_boxes_are_their_own_sides(tmp_path):
    dota(tmp_path, {"a": "20 10 50 40 40 50 10 20 ship 0\n", "b": "9 9 39 9 39 19 9 19 ship 0\n"})
    found = check(str(tmp_path), "all", oriented=True)
    size, angle = found["box_size"], found["box_angle"]
    assert (size["width"]["max"], size["width"]["min"]) == (round(1800**0.5, 2), 30)
    assert (size["height"]["max"], size["height"]["min"]) == (round(200**0.5, 2), 10)
    assert (angle["min"], angle["50%"], angle["max"]) == (-45, -22.5, 0)
    upright = check(str(tmp_path), "all")
    assert upright["box_size"]["width"]["max"] == 40
    assert "box_angle" not in upright
    code, text = run(tmp_path, "--split", "all", "--oriented")
    assert code == 0
    assert "box angle, °" in text
    assert "box angle" not in run(tmp_path, "--split", "all")[1]


def test_training_pictures_are_checked_whole_and_once(tmp_path):
    for split in ("train", "val"):
        dota(tmp_path / split, {split: "20 10 50 40 40 50 10 20 ship 0\n"})
        picture(tmp_path / split / "images" / f"{split}.png", (1500, 1100))
    found = check(str(tmp_path))
    assert found["splits"] == {
        split: {"images": 1, "objects": 1, "crowds": 0} for split in ("train", "val")
    }
    assert list(of_kind(found)) == ["class without objects"]


def test_oriented_boxes_of_a_form_without(tmp_path):
    voc(tmp_path, "a", (1, 1, 9, 9))
    found = check(str(tmp_path), "all", oriented=True)
    assert "its form has upright boxes alone" in found["faults"][0]["examples"][0]
    assert "digits and coco:PATH, yolo:PATH, dota:PATH" in found["faults"][0]["examples"][0]
    assert check("digits", "val", oriented=True)["box_angle"]["max"] < 90
