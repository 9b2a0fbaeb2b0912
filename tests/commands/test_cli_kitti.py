"""`detcore eval --kitti`: a folder of result files against labels."""

import json
import re

import pytest

from tests.commands.test_cli import call

CAR = "Car 0.00 0 1.85 {} 181 {} 241 1.67 1.87 3.69 {} 2.39 28.5 1.57"
REGION = "DontCare -1 -1 -10 503 169 590 190 -1 -1 -1 -1000 -1000 -1000 -10\n"


@pytest.fixture
def place(tmp_path):
    """Three pictures with two cars each; five of the six are found, and there is one false one."""
    for folder in ("kitti/training/label_2", "results"):
        (tmp_path / folder).mkdir(parents=True)
    cars = [CAR.format(100 * k, 100 * k + 80, 10 * k) for k in range(3)]
    for k in range(3):
        text = "".join(f"{car}\n" for car in cars[:2]) + REGION
        (tmp_path / f"kitti/training/label_2/{k:06d}.txt").write_text(text)
        shown = [f"{car} {0.9 - k / 10}\n" for car in cars[: (2, 2, 1)[k]]]
        shown += [f"{cars[2]} 0.95\n"] if k == 1 else []
        (tmp_path / f"results/{k:06d}.txt").write_text("".join(shown))
    return tmp_path


def kitti(place, *more, code=0):
    arguments = ["--data", f"kitti:{place / 'kitti'}", "--results", place / "results", "--kitti"]
    return call("eval", *arguments, *more, code=code)


def cells(text, name):
    """The figures of a row of the table."""
    (row,) = re.findall(rf"{name} +([-0-9.]+) +([-0-9.]+) +([-0-9.]+) *$", text, re.MULTILINE)
    return row


def test_a_table_and_json(place):
    """Five are found, behind a false one: precisions 5/6 at five recalls, of which 40 leave out 0.

    The scores are 0.95 (false), 0.9 twice, 0.8 twice, 0.7: precisions 2/3, 2/3, 4/5, 4/5, 5/6, and
    from the first on 5/6 is the highest to come.
    """
    text = kitti(place, "--json", place / "a.json")
    wanted = f"{5 / 6 * 4 / 40:.4f}"
    shown = text[text.index(" Car ") : text.index(" Pedestrian ")]
    assert cells(shown, "objects") == ("6", "6", "6")
    for name in ("2D AP", "bird's-eye AP", "3D AP", "AOS"):
        assert cells(shown, name) == (wanted,) * 3
    for words in ("easy", "moderate", "hard", "means over 40 recalls  (3 images)"):
        assert words in text
    assert "note: Pedestrian: not among the results, so it is not measured" in text
    assert "note: Car: with so few objects no figure can be above 0.125 (easy, 6 objects)" in text
    figures = json.loads((place / "a.json").read_text())
    assert figures["results"] == str(place / "results") and figures["split"] == "val"
    assert [row["name"] for row in figures["per_class"]] == ["Car", "Pedestrian", "Cyclist"]
    assert figures["per_class"][0]["AP_3d"]["hard"] == pytest.approx(5 / 6 * 4 / 40)
    assert figures["per_class"][1]["AP_3d"] == dict.fromkeys(("easy", "moderate", "hard"))


def test_eleven_points(place):
    text = kitti(place, "--kitti-points", 11)
    shown = text[text.index(" Car ") : text.index(" Pedestrian ")]
    assert cells(shown, "2D AP") == (f"{5 / 6 * 2 / 11:.4f}",) * 3
    assert "means over 11 recalls" in text
    text = kitti(place, "--kitti-points", 12, code=2)
    assert "--kitti-points must be one of 40, 11, got '12'" in text


def test_the_split_is_the_one_that_is_listed(place):
    (place / "kitti/ImageSets").mkdir()
    for name, listed in (("train", "000000\n000001\n"), ("val", "000002\n")):
        (place / f"kitti/ImageSets/{name}.txt").write_text(listed)
    text = kitti(place)
    assert "(1 image)" in text
    assert "note: " in text and "2 result files of pictures that are not measured" in text
    assert "(2 images)" in kitti(place, "--split", "train")
    assert "(3 images)" in kitti(place, "--split", "all")


def test_files_that_are_missing_or_wrong_are_named(place):
    (place / "results/000001.txt").write_text("")  # nothing found there, which is fine
    assert "(3 images)" in kitti(place)
    (place / "results/000001.txt").unlink()
    said = kitti(place, code=2)
    assert "results/000001.txt: no such file; there must be one for each of the 3 pictures" in said
    (place / "results/000001.txt").write_text("Car 1 2\n")
    assert "000001.txt: line 1 has 3 columns, wanted 16" in kitti(place, code=2)
    (place / "kitti/training/label_2/000000.txt").write_text("Car 0 0 0 1 1 5 5\n")
    assert "label_2/000000.txt: line 1 has 8 columns, wanted 15" in kitti(place, code=2)


def test_inputs_are_not_overwritten(place):
    for file in (place / "results/000001.txt", place / "kitti/training/label_2/000001.txt"):
        before = file.read_text()
        said = kitti(place, "--json", file, code=2)
        assert f"--json would overwrite the input {file}" in said
        assert file.read_text() == before


@pytest.mark.parametrize(
    "option",
    [
        *(["--checkpoint", "r"], ["--model", "yolo"], ["--weights", "w"], ["--names", "n"]),
        *(["--limit", 3], ["--score", 0.5], ["--score-threshold", 0.1], ["--nms-threshold", 0.5]),
        *(["--max-detections", 9], ["--voc-iou", 0.5], ["--report", "r.html"], ["--plots", "p"]),
        *(["--save-results", "s.json"], ["--batch-size", 8], ["--max-damaged", 0.1]),
        *(["--optimize", "no"], ["--device", "cpu"]),
    ],
    ids=lambda option: option[0],
)
def test_what_has_no_meaning_is_refused(place, option):
    words = f"--kitti measures the files of --results, without {option[0]}"
    assert words in kitti(place, *option, code=2)


def test_what_is_lacking_is_said(place):
    results, data = ["--results", place / "results"], ["--data", f"kitti:{place / 'kitti'}"]
    file = place / "results/000000.txt"
    for arguments, words in (
        ([*data, "--kitti"], "--kitti needs --results FOLDER, with a result file for each picture"),
        ([*results, "--kitti"], "--kitti needs --data kitti:PATH"),
        ([*data, "--kitti", "--results", file], f"--results {file} is a file; --kitti wants the"),
        ([*data, "--kitti", "--results", place / "no"], "no: no such folder of results"),
        ([*results, "--kitti", "--data", "digits"], "digits: no KITTI labels there (looked for"),
        ([*results, *data, "--kitti-points", 11], "--kitti-points is for --kitti"),
        ([*results, *data], "results is a folder; --kitti measures one in KITTI's form"),
    ):
        assert words in call("eval", *arguments, code=2)
