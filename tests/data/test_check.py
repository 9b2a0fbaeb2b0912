"""`detcore data check` on folders with planted faults."""

import json
import re

import pytest
from PIL import Image
from typer.testing import CliRunner

from detcore.cli import app
from detcore.data import DataError
from detcore.data.validation.check import check
from tests.data.test_kitti import LABELS
from tests.data.test_openimages import HEADER, ROWS

BOX = {"area": 50, "iscrowd": 0}


def picture(path, size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise(size, 60).convert("RGB").save(path, **options)


def annotation(number, image, bbox, category=1):
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **BOX}


@pytest.fixture
def faulty(tmp_path):
    """A COCO set with one fault of each kind, and a val split without faults."""
    root = tmp_path / "set"
    names = ["good", "missing", "zero", "cut", "text", "odd", "huge", "good2"]
    images = [
        {"id": k, "file_name": f"{n}.jpg", "width": 40, "height": 30} for k, n in enumerate(names)
    ]
    images[6].update(file_name="huge.png", width=20000, height=10)
    images.append({**images[7], "file_name": "twice.jpg"})
    annotations = [
        annotation(1, 0, [1, 2, 10, 8]),
        annotation(2, 0, [30, 20, 20, 20]),  # sticks out
        annotation(3, 0, [50, 50, 5, 5]),  # outside
        annotation(4, 0, [1, 2, float("nan"), 8]),
        annotation(5, 0, [1, 2, 0, 8]),
        annotation(6, 0, [1, 2, 3, 8], category=77),
        annotation(7, 99, [1, 2, 3, 8]),
        {"id": 8, "image_id": 0, "category_id": 1},
        annotation(9, 6, [5, 1, 40, 5], category=2),
        *(annotation(10 + k, k, [1, 1, 5, 5]) for k in range(1, 6)),
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "instances_train.json").write_text(json.dumps(document))
    for name in ("good", "good2", "cut"):
        picture(root / "train" / f"{name}.jpg")
    picture(root / "train" / "odd.jpg", (50, 30))
    cut = root / "train" / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    (root / "train" / "zero.jpg").write_bytes(b"")
    (root / "train" / "text.jpg").write_text("no picture")
    Image.new("1", (20000, 10)).save(root / "train" / "huge.png")
    assert (root / "train" / "huge.png").stat().st_size < 1000
    (root / "annotations" / "instances_val.json").write_text("")
    (root / "annotations" / "labels.json").write_text("")
    return root


def of_kind(found):
    return {f["kind"]: f for f in found["faults"]}


def test_every_fault_is_found_and_named(faulty):
    found = check(str(faulty))
    kinds = of_kind(found)
    wanted = {
        "unreadable annotations": (True, 2, "instances_val.json"),
        "malformed entry": (True, 1, "instances_train.json"),
        "class id out of range": (True, 1, "instances_train.json"),
        "annotation for an unknown image": (True, 1, "instances_train.json"),
        "duplicate image": (True, 1, "instances_train.json"),
        "box with NaN or infinity": (True, 1, "instances_train.json"),
        "missing image": (True, 1, "missing.jpg"),
        "unreadable image": (True, 3, "zero.jpg"),
        "image of another size than annotated": (True, 1, "odd.jpg"),
        "enormous image": (False, 1, "huge.png"),
        "box without area": (False, 1, "good.jpg"),
        "box outside the image": (False, 1, "good.jpg"),
        "box partly outside the image": (False, 1, "good.jpg"),
        "image without annotations": (False, 1, "good2.jpg"),
    }
    assert list(kinds) == list(wanted)
    for kind, (error, count, file) in wanted.items():
        row = kinds[kind]
        assert (row["error"], row["count"]) == (error, count), kind
        assert row["files"][0].endswith(file), kind
        assert len(row["files"]) <= len(row["examples"])
    assert {f.rsplit("/", 1)[1] for f in kinds["unreadable image"]["files"]} == {
        "zero.jpg",
        "cut.jpg",
        "text.jpg",
    }
    assert "20000 x 10 pixels" in kinds["enormous image"]["examples"][0]
    assert "50 x 30 pixels, annotated as 40 x 30" in next(
        iter(kinds["image of another size than annotated"]["examples"])
    )
    assert found["errors"] == 12
    assert found["warnings"] == 5


def test_figures(faulty):
    found = check(str(faulty), "train")
    # missing.jpg is not an image, and unusable boxes are not objects
    assert found["splits"] == {"train": {"images": 7, "objects": 8, "crowds": 0}}
    assert found["classes"] == [
        {"name": "cat", "images": 5, "objects": 7},
        {"name": "dog", "images": 1, "objects": 1},
    ]
    assert found["image_size"]["width"]["max"] == 20000
    assert found["image_size"]["width"]["50%"] == 45  # of 40, 40, 50 and 20000
    assert found["box_size"]["width"]["max"] == 40
    assert found["box_size"]["height"]["min"] == 5
    assert sum(found["box_size"][k] for k in ("small", "medium", "large")) == 8


def run(*arguments):
    result = CliRunner().invoke(app, ["data", "check", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def test_the_command_prints_all_and_ends_with_one(faulty, tmp_path):
    code, text = run(faulty, "--json", tmp_path / "found.json")
    assert code == 1
    for words in ("12 errors, 5 warnings", "unreadable image", "zero.jpg", "enormous", "classes"):
        assert words in text
    assert json.loads((tmp_path / "found.json").read_text()) == check(str(faulty))


def test_warnings_alone_end_with_zero_and_a_missing_folder_with_two(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
        "annotations": [annotation(1, 1, [30, 20, 20, 20])],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    code, text = run(tmp_path / "a.json")
    assert code == 0
    assert "0 errors, 1 warning" in text
    assert run(tmp_path / "nix")[0] == 2
    document["annotations"][0]["bbox"] = [1, 1, 5, 5]
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert run(tmp_path / "a.json") == (0, run(tmp_path / "a.json")[1])
    assert "no faults" in run(tmp_path / "a.json")[1]


def test_a_folder_with_nothing_in_it(tmp_path):
    found = check(str(tmp_path))
    assert found["errors"] == 1
    assert "no data recognised" in found["faults"][0]["examples"][0]
    with pytest.raises(DataError, match=r"nix: no such file or folder"):
        check(f"kitti:{tmp_path / 'nix'}")
    found = check(str(tmp_path), "dev")
    assert found["errors"] == 1


def whole_set(root, **changes):
    """A COCO file of two pictures without faults, with two boxes each."""
    for name in "ab":
        picture(root / "images" / f"{name}.jpg")
    images = [
        {"id": k, "file_name": f"{n}.jpg", "width": 40, "height": 30} for k, n in enumerate("ab")
    ]
    boxes = [annotation(k, k // 2, [1 + k, 1, 9, 9], 1 + k % 2) for k in range(4)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    document = {"images": images, "annotations": boxes, "categories": categories, **changes}
    (root / "set.json").write_text(json.dumps(document))
    return document


def test_faults_of_one_kind_in_one_file_are_counted_each(tmp_path):
    document = whole_set(tmp_path)
    images = [{**info, "file_name": None} for info in document["images"]]
    boxes = [{k: v for k, v in a.items() if k not in ("bbox", "id")} for a in 3 * [BOX]]
    boxes = [{**b, "image_id": 5, "category_id": 1} for b in boxes]
    images.append({**document["images"][0], "id": 5})
    whole_set(tmp_path, images=images, annotations=document["annotations"] + boxes)
    kinds = of_kind(check(str(tmp_path / "set.json")))
    # two images without a name (their annotations are not counted), and three boxes
    assert kinds["malformed entry"]["count"] == 5
    assert "entry 2 of 'images' has no 'file_name'" in kinds["malformed entry"]["examples"][1]
    assert [f["kind"] for f in kinds.values() if f["error"]] == ["malformed entry"]


def test_a_bbox_of_another_form_is_a_malformed_entry(tmp_path):
    boxes = [annotation(k, 0, b) for k, b in enumerate([[1, 2, 3], ["a", 2, 3, 4], [1, 1, 9, 9]])]
    whole_set(tmp_path, annotations=[*boxes, annotation(9, 1, [1, float("inf"), 2, 3], 2)])
    found = of_kind(check(str(tmp_path / "set.json")))
    assert found["malformed entry"]["count"] == 2
    assert found["box with NaN or infinity"]["count"] == 1


def test_boxes_that_are_there_twice(tmp_path):
    boxes = whole_set(tmp_path)["annotations"]
    crowd = {**boxes[0], "iscrowd": 1}
    other = {**boxes[0], "category_id": 2}
    whole_set(tmp_path, annotations=[*boxes, boxes[0], boxes[0], boxes[3], crowd, other])
    found = check(str(tmp_path / "set.json"))
    (fault,) = found["faults"]
    assert (fault["kind"], fault["error"], fault["count"]) == ("duplicate box", False, 3)
    assert "a.jpg: 2 boxes in the place of another of the same class" in fault["examples"][0]


def test_two_classes_of_one_name(tmp_path):
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]
    whole_set(tmp_path, categories=categories)
    found = check(str(tmp_path / "set.json"))
    assert found["classes"] == [{"name": "cat", "images": 2, "objects": 4}]
    (fault,) = found["faults"]
    assert (fault["kind"], fault["error"]) == ("two classes of one name or id", True)


def test_classes_and_sets_without_objects(tmp_path):
    document = whole_set(tmp_path)
    more = [{"id": 3, "name": "bird"}, {"id": 4, "name": "cow"}]
    whole_set(tmp_path, categories=document["categories"] + more)
    found = check(str(tmp_path / "set.json"))
    (fault,) = found["faults"]
    assert (fault["kind"], fault["error"], fault["count"]) == ("class without objects", False, 2)
    assert "nothing is of class bird, cow" in fault["examples"][0]
    whole_set(tmp_path, annotations=[])
    kinds = of_kind(check(str(tmp_path / "set.json")))
    assert list(kinds) == [
        "image without annotations",
        "class without objects",
        "set without boxes",
    ]


def test_a_region_of_every_class_is_one_crowd(tmp_path):
    (tmp_path / "label_2").mkdir()
    (tmp_path / "label_2" / "000000.txt").write_text(LABELS)
    picture(tmp_path / "image_2" / "000000.png", (1242, 375))
    assert check(str(tmp_path), "all")["splits"] == {
        "all": {"images": 1, "objects": 2, "crowds": 1}
    }


def test_a_file_of_labels_with_splits_shows_them(tmp_path):
    images = []
    for k, split in enumerate(("train", "train", "val")):
        picture(tmp_path / f"{k}.png")
        images.append({"file": f"{k}.png", "labels": ["a"], "split": split})
    file = tmp_path / "set.json"
    file.write_text(json.dumps({"classes": ["a"], "images": images}))
    rows = {"train": {"images": 2, "objects": 2}, "val": {"images": 1, "objects": 1}}
    assert check(str(file))["splits"] == rows
    assert check(str(file), "val")["splits"] == {"val": rows["val"]}
    for info in images:
        del info["split"]
    file.write_text(json.dumps({"classes": ["a"], "images": images}))
    assert check(str(file))["splits"] == {"all": {"images": 3, "objects": 3}}
    text = run(file)[1]
    assert "objects" in text and "crowds" not in text
    file.write_text("{")
    text = run(file)[1]
    assert "not readable as JSON" in text and "split" not in text


def test_all_of_a_folder_with_a_file_a_split(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        whole_set(tmp_path / split)
        (tmp_path / split / "set.json").rename(tmp_path / split / "_annotations.coco.json")
    found = check(str(tmp_path), "all")
    assert found["splits"] == {"all": {"images": 4, "objects": 8, "crowds": 0}}
    assert found["errors"] == 0


def voc(root, name, box, size=(40, 30)):
    (root / f"{name}.xml").write_text(
        f"<annotation><filename>{name}.jpg</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height></size><object><name>cell</name><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        f"</annotation>"
    )
    picture(root / f"{name}.jpg")


def test_voc(tmp_path):
    voc(tmp_path, "a", (1, 1, 9, 9))
    voc(tmp_path, "b", ("nan", 1, 9, 9))
    voc(tmp_path, "c", (9, 1, 9, 9))
    voc(tmp_path, "d", (1, 1, 49, 9))
    voc(tmp_path, "e", (1, 1, 9, 9), (80, 60))
    voc(tmp_path, "f", (1, 1, 9, 9))
    (tmp_path / "f.xml").write_text("")
    voc(tmp_path, "g", (1, 1, 9, 9), (0, 0))
    (tmp_path / "g.jpg").write_bytes(b"")
    kinds = of_kind(check(str(tmp_path), "all"))
    assert {k: (f["count"], f["files"][0].rsplit("/", 1)[1]) for k, f in kinds.items()} == {
        "unreadable annotations": (1, "f.xml"),
        "box with NaN or infinity": (1, "b.xml"),
        "unreadable image": (1, "g.jpg"),
        "image of another size than annotated": (1, "e.jpg"),
        "box without area": (1, "c.xml"),
        "box partly outside the image": (1, "d.jpg"),
        "image without annotations": (2, "b.jpg"),
    }


def test_objects_of_one_voc_file_are_counted_each(tmp_path):
    voc(tmp_path, "a", (1, 1, 9, 9))
    file = tmp_path / "a.xml"
    text = file.read_text()
    nameless = text[text.index("<object>") : text.index("</annotation>")].replace("cell", "")
    file.write_text(text.replace("</annotation>", f"{3 * nameless}</annotation>"))
    (fault,) = check(str(tmp_path), "all")["faults"]
    assert (fault["kind"], fault["count"]) == ("malformed entry", 3)
    assert fault["examples"][2] == f"{file}: object 4 has no <name>"


def test_every_reader_is_checked(tmp_path):
    kitti, images = tmp_path / "kitti", tmp_path / "openimages"
    (kitti / "label_2").mkdir(parents=True)
    (kitti / "label_2" / "000000.txt").write_text(LABELS.replace("Cyclist", "Bike"))
    picture(kitti / "image_2" / "000000.png", (1242, 375))
    assert {"name": "Bike", "images": 1, "objects": 1} in check(f"kitti:{kitti}", "all")["classes"]
    picture(images / "train" / "000002b66c9c498e.jpg")
    (images / "class-descriptions-boxable.csv").write_text("/m/01g317,Person\n/m/0k4j,Car\n")
    (images / "train-annotations-bbox.csv").write_text(HEADER + ROWS)
    found = check(str(images))
    assert found["errors"] == 0
    assert found["splits"]["train"] == {"images": 1, "objects": 1, "crowds": 1}
    assert of_kind(found)["images not downloaded"]["count"] == 2


def test_classification(tmp_path):
    for split, names in (("train", "ab"), ("val", "abc")):
        for name in names:
            picture(tmp_path / split / name / "1.png")
    (tmp_path / "train" / "a" / "2.png").write_bytes(b"")
    kinds = of_kind(check(str(tmp_path)))
    assert kinds["unreadable image"]["files"] == [str(tmp_path / "train" / "a" / "2.png")]
    assert "split val: its classes are a, b, c; those of train a, b" in next(
        iter(kinds["classes differ between splits"]["examples"])
    )
    picture(tmp_path / "x.png")
    (tmp_path / "labels.csv").write_text("file,labels\nx.png,a;b\nx.png,a\ny.png,b\n")
    found = check(str(tmp_path / "labels.csv"))
    assert {k: f["count"] for k, f in of_kind(found).items()} == {
        "duplicate image": 1,
        "missing image": 1,
    }
    assert found["classes"][0] == {"name": "a", "images": 2, "objects": 2}
    assert check("digits", "val")["errors"] == 0


def test_annotations_are_judged_where_their_pictures_are_missing(tmp_path):
    voc(tmp_path, "a", ("nan", 1, 9, 9))
    voc(tmp_path, "b", (1, 1, 9, 9))
    (tmp_path / "a.jpg").unlink()
    assert list(of_kind(check(str(tmp_path), "all"))) == [
        "box with NaN or infinity",
        "missing image",
    ]
    document = {
        "images": [{"id": 1, "file_name": "nix.jpg", "width": 40, "height": 30}],
        "annotations": [annotation(1, 1, [1, float("inf"), 2, 3])],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    kinds = of_kind(check(str(tmp_path / "a.json")))
    assert list(kinds) == ["unreadable annotations", "box with NaN or infinity"]
    assert "its pictures were not found" in kinds["unreadable annotations"]["examples"][0]


def test_a_devkit_list_with_names_of_nothing(tmp_path):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    voc(tmp_path / "Annotations", "a", (1, 1, 9, 9))
    (tmp_path / "Annotations" / "a.jpg").rename(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nnix\n")
    found = check(str(tmp_path))
    assert found["splits"]["train"]["images"] == 1
    assert "1 of its names have no annotation" in found["faults"][0]["examples"][0]
    assert found["errors"] == 1


def test_pictures_of_the_size_of_decompression_bombs(tmp_path, monkeypatch):
    for name, side in (("a", 60), ("b", 90), ("c", 200)):
        picture(tmp_path / "x" / f"{name}.png", (side, side))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # Pillow warns above it, refuses at twice
    kinds = of_kind(check(str(tmp_path), "all"))
    assert [f.rsplit("/", 1)[1] for f in kinds["unreadable image"]["files"]] == ["c.png"]
    assert [f.rsplit("/", 1)[1] for f in kinds["enormous image"]["files"]] == ["b.png", "c.png"]
    assert list(kinds) == ["unreadable image", "enormous image"]
