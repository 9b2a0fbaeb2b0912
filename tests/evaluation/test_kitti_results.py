"""Labels and results in KITTI's form as files: found, complete, and whole."""

import pytest

from detcore.data.faults import DataError
from detcore.evaluation.kitti_results import (
    kitti_label_files,
    kitti_result_files,
    read_kitti_labels,
    read_kitti_results,
)
from tests.helpers.kitti import found, thing
from tests.helpers.plain_kitti import line


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / f"{name}.txt").write_text("".join(f"{line(row)}\n" for row in rows))
    return folder


def test_labels_are_found_without_pictures_and_by_split(tmp_path):
    base = write(tmp_path / "training" / "label_2", {f"{k:06d}": [thing()] for k in range(3)})
    every = [(f"{k:06d}", base / f"{k:06d}.txt") for k in range(3)]
    for spec in (str(tmp_path), f"kitti:{tmp_path}", f"kitti:{tmp_path / 'training'}"):
        assert kitti_label_files(spec, None) == every
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "val.txt").write_text("000002\n")
    (tmp_path / "ImageSets" / "train.txt").write_text("000000\n000001\n")
    assert kitti_label_files(str(tmp_path), None) == every[2:]
    assert kitti_label_files(str(tmp_path), "train") == every[:2]
    with pytest.raises(DataError, match=r"no KITTI labels there \(looked for label_2"):
        kitti_label_files(str(base), None)
    with pytest.raises(DataError, match=r"^coco:.*: no KITTI labels there"):
        kitti_label_files(f"coco:{tmp_path}", None)
    with pytest.raises(DataError, match=r"no split 'test'"):
        kitti_label_files(str(tmp_path), "test")


def test_every_picture_must_have_a_result_file(tmp_path, caplog):
    folder = write(tmp_path / "mine", {"000000": [found()], "000001": [], "000007": []})
    files = kitti_result_files(folder, ["000000", "000001"])
    assert files == [folder / "000000.txt", folder / "000001.txt"]
    assert "1 result file of pictures that are not measured; left out" in caplog.text
    assert [len(read_kitti_results(file)) for file in files] == [1, 0]
    words = (
        r"mine/000002.txt: no such file, and 1 more are missing; there must be one for each of "
        r"the 3 pictures, an empty one where nothing was found"
    )
    with pytest.raises(DataError, match=words):
        kitti_result_files(folder, ["000000", "000002", "000003"])
    with pytest.raises(DataError, match=r"nowhere: no such folder of results"):
        kitti_result_files(tmp_path / "nowhere", [])
    # the devkit's own place
    inside = write(tmp_path / "run" / "data", {"000000": []})
    assert kitti_result_files(tmp_path / "run", ["000000"]) == [inside / "000000.txt"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (" 0.9", "", r"line 1 has 15 columns, wanted 16"),
        (" 0.9", " nan", r"line 1 has score nan, wanted a finite number"),
        (" 20.0", " inf", r"line 1 has z inf, wanted a finite number"),
        (" 20.0", " far", r"line 1 has z far, wanted a finite number"),
        ("100 100 200", "100 x 200", r"line 1 has box 100 x 200 200, wanted four numbers"),
        ("Car 0.0", "Car", r"line 1 has 15 columns, wanted 16"),
    ],
)
def test_results_that_are_none_are_named(tmp_path, old, new, words):
    file = tmp_path / "000000.txt"
    file.write_text(line(found()).replace(old, new, 1) + "\n")
    with pytest.raises(DataError, match=rf"000000.txt: {words}$"):
        read_kitti_results(file)


def test_labels_must_be_whole(tmp_path):
    file = tmp_path / "000000.txt"
    for columns in (8, 14):
        file.write_text(" ".join(line(thing()).split()[:columns]) + "\n")
        with pytest.raises(DataError, match=rf"line 1 has {columns} columns, wanted 15$"):
            read_kitti_labels(file)
    file.write_text(line(found()) + "\n\n")  # a result is a label with a score
    assert len(read_kitti_labels(file)) == 1
