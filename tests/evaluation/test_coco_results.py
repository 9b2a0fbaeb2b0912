import json

import pytest

from detcore.data import DataError
from detcore.evaluation.coco_results import (
    are_oriented,
    checked_results,
    data_to_score,
    read_results,
)
from detcore.evaluation.evaluator import evaluate_results
from detcore.inference.export_formats import write_results
from tests.helpers.documents import FAR, A, B, found, truth

ENTRY = {"image_id": 1, "category_id": 5, "bbox": [10, 10, 20, 20], "score": 0.9}


def named(*file_names):
    """A ground truth of two pictures with file names."""
    document = truth()
    for image, name in zip(document["images"], file_names, strict=True):
        image["file_name"] = name
    return document


def checked(path, document, *, oriented=False):
    return checked_results(path, read_results(path), document, oriented=oriented)


def read(tmp_path, document, *changes, oriented=False):
    path = tmp_path / "dets.json"
    path.write_text(json.dumps([{**ENTRY, **change} for change in changes]))
    return checked(path, document, oriented=oriented)


def test_what_is_written_is_read_again_to_the_last_digit(tmp_path):
    rows = found((1, 5, [1 / 3, 10, 20, 2**0.5], 0.1), (2, 10, A, 1e-9))
    write_results(tmp_path / "new" / "dets.json", rows)
    assert checked(tmp_path / "new" / "dets.json", truth()) == rows
    write_results(tmp_path / "none.json", [])
    assert checked(tmp_path / "none.json", truth()) == []


def test_oriented_boxes_have_five_numbers(tmp_path):
    turned = {"bbox": [20, 20, 20, 10, -30.5]}
    assert read(tmp_path, truth(), turned, oriented=True) == [{**ENTRY, **turned}]
    assert are_oriented(read_results(tmp_path / "dets.json"))
    assert not are_oriented([ENTRY])
    assert not any(are_oriented(odd) for odd in ([], [3], [{}], [{"bbox": 5}]))
    words = r"entry 0 has bbox .*, wanted \[centre x, centre y, width, height, degrees\] of finite"
    with pytest.raises(DataError, match=words):
        read(tmp_path, truth(), {}, oriented=True)
    with pytest.raises(DataError, match="whose width or height is negative"):
        read(tmp_path, truth(), {"bbox": [20, 20, 20, -1, 0]}, oriented=True)
    with pytest.raises(DataError, match=r"wanted \[x, y, width, height\]"):
        read(tmp_path, truth(), turned)


def test_pycocotools_reads_what_is_written(tmp_path):
    from pycocotools.coco import COCO

    document = truth((1, 5, A))
    (tmp_path / "truth.json").write_text(json.dumps(document))
    write_results(tmp_path / "dets.json", found((1, 5, A, 0.9), (1, 5, FAR, 0.8)))
    loaded = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "dets.json"))
    assert [a["bbox"] for a in loaded.dataset["annotations"]] == [A, FAR]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_id": 7}, "entry 1 is of image 7, which the data doesn't have"),
        ({"image_id": "01"}, "entry 1 is of image '01'"),
        ({"image_id": 1.0}, "entry 1 is of image 1.0"),
        ({"image_id": "x"}, "entry 1 is of image 'x'"),
        ({"image_id": [1]}, r"entry 1 is of image \[1\]"),
        ({"category_id": 1}, "entry 1 is of category 1, which the data doesn't have"),
        ({"category_id": True}, "entry 1 is of category True"),
        ({"bbox": [1, 2, 3]}, r"entry 1 has bbox \[1, 2, 3\], wanted \[x, y, width, height\]"),
        ({"bbox": [[1, 2, 3, 4]]}, "entry 1 has bbox"),
        ({"bbox": {"x": 1}}, "entry 1 has bbox"),
        ({"bbox": [1, 2, float("nan"), 4]}, r"entry 1 has bbox \[1, 2, nan, 4\]"),
        ({"bbox": [1, 2, float("inf"), 4]}, "entry 1 has bbox"),
        ({"bbox": [1, 2, "3", 4]}, "entry 1 has bbox"),
        ({"bbox": [1, 2, -3, 4]}, "entry 1 has bbox .* whose width or height is negative"),
        ({"bbox": [10**400, 2, 3, 4]}, "entry 1 has bbox"),
        ({"score": float("nan")}, "entry 1 has score nan, wanted a finite number"),
        ({"score": None}, "entry 1 has score None"),
        ({"score": 58.5}, "entry 1 has score 58.5, wanted 0..1, not percent"),
        ({"score": -0.1}, "entry 1 has score -0.1, wanted 0..1"),
        ({"file_name": "c.jpg"}, "entry 1 is of c.jpg, which the data doesn't have"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, change, words):
    path = tmp_path / "dets.json"
    path.write_text(json.dumps([ENTRY, {**ENTRY, **change}]))
    with pytest.raises(DataError, match=words):
        checked(path, named("a.jpg", "b.jpg"))


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_lacking_key_is_named(tmp_path, key):
    path = tmp_path / "dets.json"
    path.write_text(json.dumps([{k: v for k, v in ENTRY.items() if k != key}]))
    with pytest.raises(DataError, match=f"dets.json: entry 0 has no '{key}'"):
        checked(path, truth())


def test_a_wrong_file_is_named(tmp_path):
    path = tmp_path / "dets.json"
    with pytest.raises(DataError, match=r"dets.json: no such file"):
        checked(path, truth())
    for text, words in (
        ("[", "not readable as JSON"),
        ('{"annotations": []}', "must be a list of detections, got dict"),
        ("[3]", "entry 0 must be an object, got 3"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            checked(path, truth())


def test_more_keys_are_no_fault(tmp_path):
    path = tmp_path / "dets.json"
    path.write_text(json.dumps([{**ENTRY, "segmentation": {}, "id": 3}]))
    assert checked(path, truth()) == [ENTRY]


def test_a_byte_order_mark_and_numbers_as_text_are_read(tmp_path):
    path = tmp_path / "dets.json"
    path.write_text(json.dumps([{**ENTRY, "image_id": "1", "category_id": "5"}]), "utf-8-sig")
    assert checked(path, truth()) == [ENTRY]


@pytest.mark.parametrize(
    ("pictures", "name", "image_id"),
    [
        (("a.jpg", "b.jpg"), "photos/b.jpg", 2),
        (("a.jpg", "b.jpg"), "C:\\photos\\b.jpg", 2),
        (("set/a.jpg", "set/b.jpg"), "b.jpg", 2),
        (("one/x.jpg", "two/x.jpg"), "/data/two/x.jpg", 2),  # by the folder
        (("x.jpg", "two/x.jpg"), "/data/two/x.jpg", 2),
        (("two/x.jpg", "x.jpg"), "x.jpg", 2),
        (("one/x.jpg", "two/x.jpg"), "x.jpg", 1),  # by the id
    ],
)
def test_pictures_are_known_by_name_before_number(tmp_path, pictures, name, image_id):
    (found,) = read(tmp_path, named(*pictures), {"image_id": 1, "file_name": name})
    assert found == {**ENTRY, "image_id": image_id}


def test_a_name_of_several_pictures_or_several_names_of_one_are_refused(tmp_path):
    two = named("one/x.jpg", "two/x.jpg")
    for change in ({"image_id": 7, "file_name": "x.jpg"}, {"file_name": "three/x.jpg"}):
        with pytest.raises(DataError, match=r"x\.jpg: the data has 2 pictures of that name"):
            read(tmp_path, two, change)
    both = {"file_name": "one/a.jpg"}, {"file_name": "two/a.jpg"}
    with pytest.raises(DataError, match=r"entry 1 is of two/a\.jpg, one before of one/a\.jpg"):
        read(tmp_path, named("a.jpg", "b.jpg"), *both)


def test_frames_of_a_video_are_known_by_number(tmp_path):
    rows = read(tmp_path, named("a.jpg", "b.jpg"), {"file_name": "f.mp4", "frame": 0})
    assert rows == [ENTRY]


def test_classes_are_known_by_name_before_number(tmp_path, caplog):
    rows = read(tmp_path, truth(), {"category_name": "y"}, {"category_name": "cat"}, {})
    assert [r["category_id"] for r in rows] == [10, 5]
    (line,) = caplog.messages
    assert line.endswith("1 detection of classes that the data doesn't have: cat; left out")
    with pytest.raises(DataError, match="its classes are cat, dog, the data's x, y"):
        read(tmp_path, truth(), {"category_name": "dog"}, {"category_name": "cat"})


def test_a_coco_file_is_scored_without_its_pictures(tmp_path):
    document = truth((1, 5, A), (2, 10, B))
    for image in document["images"]:
        image["file_name"] = f"{image['id']}.jpg"
    (tmp_path / "truth.json").write_text(json.dumps(document))
    data = data_to_score(str(tmp_path / "truth.json"), "val")
    measured = evaluate_results(data.to_coco(), found((1, 5, A, 0.9)), details=True)
    assert measured.figures["images"] == 2
    assert measured.figures["AP50"] == pytest.approx(0.5)
    assert measured.figures["errors"]["counts"]["missed"] == 1
    with pytest.raises(DataError, match="no such data"):
        data_to_score(str(tmp_path / "no.json"), "val")
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match="is for classification"):
        data_to_score(str(tmp_path / "photos"), "all")


def test_names_stand_in_for_numbers(tmp_path):
    entry = {"file_name": "b.jpg", "category_name": "y", "bbox": [10, 10, 20, 20], "score": 0.9}
    path = tmp_path / "dets.json"
    path.write_text(json.dumps([entry]))
    (row,) = checked(path, named("a.jpg", "b.jpg"))
    assert (row["image_id"], row["category_id"]) == (2, 10)
    for key, words in (("file_name", "no 'image_id'"), ("category_name", "no 'category_id'")):
        path.write_text(json.dumps([{k: v for k, v in entry.items() if k != key}]))
        with pytest.raises(DataError, match=words):
            checked(path, named("a.jpg", "b.jpg"))
