import json

import pytest
from PIL import Image

from detcore.data import Coco, DataError, load
from detcore.data.faults import NoSplit
from detcore.evaluation.evaluator import coco_results


def document():
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30},
            {"id": 9, "file_name": "b.jpg", "width": 40, "height": 30},
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 90,
                "bbox": [1, 2, 10, 8],
                "area": 55.5,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 7,
                "category_id": 3,
                "bbox": [0, 0, 30, 30],
                "area": 700,
                "iscrowd": 1,
                "segmentation": {"counts": [0, 900], "size": [30, 30]},
            },
            {
                "id": 3,
                "image_id": 9,
                "category_id": 3,
                "bbox": [4, 4, 0, 9],
                "area": 0,
                "iscrowd": 0,
            },
            {
                "id": 4,
                "image_id": 9,
                "category_id": 18,
                "bbox": [30, 20, 20, 20],
                "area": 400,
                "iscrowd": 0,
            },
        ],
        "categories": [
            {"id": 18, "name": "dog"},
            {"id": 3, "name": "car"},
            {"id": 90, "name": "brush"},
        ],
    }


def write(root, content=None, name="instances_val2017.json", pictures="val2017"):
    folder = root / pictures
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 30)).save(folder / file)
    (root / "annotations").mkdir(exist_ok=True)
    path = root / "annotations" / name
    path.write_text(json.dumps(document() if content is None else content))
    return path


def test_sparse_category_ids_become_labels_and_come_back(tmp_path):
    data = Coco(write(tmp_path))
    assert data.classes == ["car", "dog", "brush"]
    assert data.category_ids == [3, 18, 90]
    targets = [data[i][1] for i in range(2)]
    assert targets[0]["labels"].tolist() == [3]
    assert targets[1]["labels"].tolist() == [2]
    found = [{"boxes": t["boxes"], "labels": t["labels"], "scores": t["area"]} for t in targets]
    results = coco_results(found, [t["image_id"] for t in targets], data.category_ids)
    assert [(r["image_id"], r["category_id"]) for r in results] == [(7, 90), (9, 18)]
    assert results[0]["bbox"] == [1, 2, 10, 8]


def test_crowds_are_ground_truth_but_no_training_target(tmp_path):
    data = Coco(write(tmp_path))
    assert len(data[0][1]["boxes"]) == 1
    assert not data[0][1]["iscrowd"].any()
    crowds = [a for a in data.to_coco()["annotations"] if a["iscrowd"]]
    assert len(crowds) == 1
    assert crowds[0]["bbox"] == [0, 0, 30, 30]
    assert crowds[0]["area"] == 700


def test_the_export_has_the_files_own_categories(tmp_path):
    exported = Coco(write(tmp_path)).to_coco()
    assert [a["category_id"] for a in exported["annotations"]] == [90, 3, 18]
    assert {c["id"]: c["name"] for c in exported["categories"]} == {
        3: "car",
        18: "dog",
        90: "brush",
    }


def test_boxes_are_clipped_for_training_only(tmp_path):
    data = Coco(write(tmp_path))
    assert data[1][1]["boxes"].tolist() == [[30, 20, 40, 30]]
    assert data.to_coco()["annotations"][-1]["bbox"] == [30, 20, 20, 20]


def test_zero_size_is_reported_once_with_the_file_name(tmp_path, caplog):
    data = Coco(write(tmp_path))
    data[0], data[1], data.to_coco()
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert "b.jpg" in said[0]
    assert "annotation 3" in said[0]
    assert data.problems == said


def test_a_file_that_names_no_picture_says_so(tmp_path):
    document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "none.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"none\.json: 'images' is empty"):
        Coco(tmp_path / "none.json")


def test_missing_picture_is_reported_and_left_out(tmp_path, caplog):
    path = write(tmp_path)
    (tmp_path / "val2017" / "a.jpg").unlink()
    data = Coco(path)
    assert len(data) == 1
    assert "a.jpg: picture is missing" in caplog.text
    assert [i["id"] for i in data.to_coco()["images"]] == [9]
    (tmp_path / "val2017" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"pictures were not found"):
        Coco(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not readable as JSON"),
        ([], "no list 'images' .*wanted 'images', 'annotations' and 'categories' .*labels"),
        ({**document(), "categories": []}, "no categories"),
        ({**document(), "images": [{**document()["images"][0], "id": "x"}]}, "wanted a whole num"),
        ({**document(), "images": [{**document()["images"][0], "file_name": 7}]}, "wanted text"),
        ({**document(), "annotations": [{"image_id": 7, "category_id": 3}]}, "no 'bbox'"),
        ({**document(), "images": document()["images"][:1]}, "annotation 3 is of image 9"),
        ({**document(), "categories": document()["categories"][:2]}, "1 has category 90"),
        ({**document(), "images": document()["images"] * 2}, "two images have the same id"),
    ],
)
def test_bad_documents_are_named(tmp_path, content, words):
    path = write(tmp_path, content if not isinstance(content, str) else {})
    if isinstance(content, str):
        path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        Coco(path)
    assert str(path) in str(caught.value)


def test_a_bbox_that_is_none(tmp_path):
    content = document()
    content["annotations"][0]["bbox"] = [1, 2, float("nan"), 4]
    with pytest.raises(DataError, match=r"annotation 1 has bbox .* wanted \[x, y, width, height"):
        Coco(write(tmp_path, content))


def test_null_is_as_good_as_absent(tmp_path):
    content = document()
    for a in content["annotations"]:
        a.update(area=None, iscrowd=None, ignore=None, segmentation=None)
    data = Coco(write(tmp_path, content))
    exported = data.to_coco()["annotations"]
    assert [(a["area"], a["iscrowd"], a["ignore"]) for a in exported] == [
        (80, 0, 0),
        (900, 0, 0),
        (400, 0, 0),
    ]


MASK = [[0] * 40 for _ in range(30)]
for row in MASK[5:9]:
    row[11:31] = [1] * 20


def run_lengths(mask):
    """COCO's uncompressed RLE: run lengths along columns, beginning with zeros."""
    flat = [row[x] for x in range(40) for row in mask]
    counts, value = [0], 0
    for pixel in flat:
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"counts": counts, "size": [30, 40]}


def compressed(mask):
    import numpy as np
    from pycocotools.mask import encode

    coded = encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"counts": coded["counts"].decode(), "size": coded["size"]}


@pytest.mark.parametrize("bbox", [{}, {"bbox": None}, {"bbox": []}])
@pytest.mark.parametrize(
    "segmentation",
    [
        [[11, 5, 31, 5, 31, 9], [11, 9, 12, 5, 12, 6]],
        run_lengths(MASK),
        compressed(MASK),
    ],
)
def test_a_box_is_that_of_its_segmentation_where_there_is_no_other(tmp_path, bbox, segmentation):
    content = document()
    content["annotations"] = [
        {"id": 1, "image_id": 7, "category_id": 3, "segmentation": segmentation, **bbox}
    ]
    (made,) = Coco(write(tmp_path, content)).to_coco()["annotations"]
    assert made["bbox"] == [11, 5, 20, 4]
    assert made["area"] == 80


@pytest.mark.parametrize(
    "segmentation",
    [[], [[]], [[1, 2, 3]], "x", [3], {"counts": [5]}, {"counts": [9], "size": [0, 3]}, {"size": 1}]
    + [{"counts": 7, "size": [3, 3]}, {"counts": ["a"], "size": [3, 3]}],
)
def test_a_segmentation_that_is_none_gives_no_box(tmp_path, segmentation):
    content = document()
    del content["annotations"][0]["bbox"]
    content["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(DataError, match=r"annotation 1 has no 'bbox', nor a segmentation"):
        Coco(write(tmp_path, content))


@pytest.mark.parametrize("stated", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}])
def test_a_size_not_stated_is_the_pictures(tmp_path, stated):
    content = document()
    content["images"][0] = {"id": 7, "file_name": "a.jpg", **stated}
    path = write(tmp_path, content)
    Image.new("RGB", (77, 55)).save(tmp_path / "val2017" / "a.jpg")
    assert Coco(path).size(0) == (77, 55)
    (tmp_path / "val2017" / "a.jpg").unlink()
    assert len(Coco(path)) == 1
    with pytest.raises(DataError, match=r"image 7 has no 'width' and 'height', and no picture"):
        Coco(path, need_pictures=False)


def test_a_byte_order_mark(tmp_path):
    path = write(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load(path)) == 2


def test_two_categories_of_one_name_or_id(tmp_path):
    content = document()
    content["categories"][0]["name"] = "car"
    with pytest.raises(DataError, match=r"val2017.json: categories 18 and 3 have the same name"):
        Coco(write(tmp_path, content))
    # Roboflow adds the name of the project as a class, which no object has
    content = document()
    content["categories"].append({"id": 0, "name": "dog", "supercategory": "none"})
    assert Coco(write(tmp_path, content)).classes == ["dog", "car", "dog", "brush"]
    content = document()
    content["categories"].append({"id": 3, "name": "van"})
    with pytest.raises(DataError, match=r"two categories have the same id 3"):
        Coco(write(tmp_path, content))


def test_a_set_without_a_box_says_so(tmp_path, caplog):
    content = document()
    path = write(tmp_path, {**content, "annotations": []})
    assert len(Coco(path)) == 2
    assert [r.getMessage() for r in caplog.records] == [f"{path}: no picture has a box"]
    caplog.clear()
    content["annotations"] = content["annotations"][:2]
    write(tmp_path, content)
    assert len(Coco(path)) == 2
    assert not caplog.records


def test_a_share_without_pictures(tmp_path):
    content = document()
    content["images"], content["annotations"] = content["images"][:1], []
    write(tmp_path, content, name="labels.json", pictures="images")
    with pytest.raises(NoSplit, match=r"split '\w+' has no pictures .* of its 1 picture a hash"):
        load(tmp_path, "val")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("/data/upload/1/{}", "images"),
        ("images\\{}", "images"),
        ("C:\\me\\pictures\\{}", "images"),
        ("images/{}", "images"),
        ("images\\train\\{}", "images/train"),
    ],
)
def test_pictures_are_found_however_their_names_are_written(tmp_path, name, place):
    content = document()
    for info in content["images"]:
        info["file_name"] = name.format(info["file_name"])
    path = write(tmp_path, content, name="result.json", pictures=place)
    path = path.rename(tmp_path / "result.json")
    assert [p.name for p in Coco(path).paths] == ["a.jpg", "b.jpg"]
    assert Coco(path).record(0).file_name == name.format("a.jpg")


def test_a_base_name_that_two_pictures_share_is_no_name(tmp_path):
    content = document()
    content["images"][0]["file_name"] = "/x/a.jpg"
    content["images"][1]["file_name"] = "/y/a.jpg"
    with pytest.raises(DataError, match=r"pictures were not found, the first is /x/a.jpg \(in "):
        Coco(write(tmp_path, content))


def roboflow(root, folders=("train", "valid", "test")):
    for k, folder in enumerate(folders):
        content = document()
        content["images"][0]["file_name"] = f"{k}.jpg"
        (root / folder).mkdir(parents=True)
        (root / folder / "_annotations.coco.json").write_text(json.dumps(content))
        for info in content["images"]:
            Image.new("RGB", (40, 30)).save(root / folder / info["file_name"])


def test_all_is_the_union_of_the_splits(tmp_path):
    roboflow(tmp_path)
    data = load(tmp_path, "all")
    assert [str(p.relative_to(tmp_path)) for p in data.paths] == [
        *("train/0.jpg", "train/b.jpg", "valid/1.jpg", "valid/b.jpg", "test/2.jpg", "test/b.jpg")
    ]
    exported = data.to_coco()
    ids = [i["id"] for i in exported["images"]]
    assert ids[:2] == [7, 9]
    assert len(set(ids)) == 6
    owners = [a["image_id"] for a in exported["annotations"]]
    assert owners == [ids[k] for k in (0, 0, 1, 2, 2, 3, 4, 4, 5)]
    assert len(load(tmp_path, "val")) == 2
    file = tmp_path / "valid" / "_annotations.coco.json"
    file.write_text(file.read_text().replace("brush", "broom"))
    with pytest.raises(DataError, match=r"valid.*: its categories are 3 car, 18 dog, 90 broom; th"):
        load(tmp_path, "all")


def test_folders_are_recognised_with_their_splits(tmp_path):
    write(tmp_path)
    assert isinstance(load(tmp_path, "val"), Coco)
    with pytest.raises(
        DataError, match=r"no COCO file for split 'train' .*there are val.*--split val"
    ):
        load(tmp_path, "train")
    write(tmp_path, name="instances_train2017.json", pictures="train2017")
    assert load(tmp_path, "train").file.name == "instances_train2017.json"


def test_a_file_is_taken_whole_and_a_file_without_split_is_shared_out(tmp_path):
    path = write(tmp_path, name="labels.json", pictures="images")
    assert len(load(path, "train")) == len(load(path, "val")) == 2
    content = document()
    content["images"] = [
        {**content["images"][0], "id": k, "file_name": f"{k}.jpg"} for k in range(30)
    ]
    content["annotations"] = []
    path.write_text(json.dumps(content))
    for k in range(30):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{k}.jpg")
    sides = [{p.name for p in load(tmp_path, s).paths} for s in ("train", "val")]
    assert len(sides[0]) > len(sides[1]) > 0
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == len(load(tmp_path, "all")) == 30


def test_real_coco(shared):
    from pycocotools.coco import COCO

    root = shared("data/coco-mini")
    data, official = load(root, "all"), COCO(str(root / "instances_train2017.json"))
    assert len(data) == 46
    assert len(data.classes) == 80
    assert data.category_ids[-1] == 90
    exported = data.to_coco()["annotations"]
    assert len(exported) == 320
    assert sum(a["iscrowd"] for a in exported) == 4
    for i in range(len(data)):
        target = data.record(i).target()
        truth = official.loadAnns(official.getAnnIds(imgIds=[target["image_id"]], iscrowd=False))
        assert [data.category_ids[k - 1] for k in target["labels"]] == [
            a["category_id"] for a in truth
        ]
