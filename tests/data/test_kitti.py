import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from detcore import ops
from detcore.data import DataError, Kitti, load
from detcore.data.faults import Faults, Kind, NoSplit
from detcore.data.readers.kitti import CLASSES

# as in KITTI's training/label_2: 15 columns, with -1 and -10 for DontCare's unknown values
LABELS = """Car 0.00 0 1.85 387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57
Cyclist 0.00 3 -1.65 676.60 163.95 688.98 193.93 1.86 0.60 2.02 4.59 1.32 45.84 -1.55
DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10
"""


@pytest.fixture
def root(tmp_path):
    for folder in ("label_2", "image_2"):
        (tmp_path / "training" / folder).mkdir(parents=True)
    for k in range(20):
        (tmp_path / "training/label_2" / f"{k:06d}.txt").write_text(LABELS)
        Image.new("RGB", (1242, 375)).save(tmp_path / "training/image_2" / f"{k:06d}.png")
    return tmp_path


def test_objects_and_regions_not_cared_for(root):
    data = load(root, "all")
    assert isinstance(data, Kitti)
    assert data.classes == list(CLASSES)
    image, target = data[3]
    assert image.shape == (3, 375, 1242)
    assert [data.classes[k - 1] for k in target["labels"]] == ["Car", "Cyclist"]
    assert target["boxes"][0].tolist() == pytest.approx([387.63, 181.54, 423.81, 203.12])
    crowds = [a for a in data.to_coco()["annotations"] if a["iscrowd"] and a["image_id"] == 4]
    assert [a["category_id"] for a in crowds] == list(range(1, 9))
    assert all(a["bbox"] == pytest.approx([503.89, 169.71, 86.72, 20.42]) for a in crowds)


def test_what_a_label_says_of_3d(root):
    record = load(root, "all").record(3)
    extra = record.extra
    assert {k: v.shape for k, v in extra.items()} == {
        "boxes3d": (10, 7), "truncated": (10,), "occluded": (10,), "alpha": (10,)
    }  # fmt: skip
    assert all(values.dtype == np.float64 for values in extra.values())
    # 1.67 high, 1.87 wide, 3.69 long; its bottom 2.39 m under the camera, 16.53 m to the left
    car = [58.49, 16.53, 1.67 / 2 - 2.39, 3.69, 1.87, 1.67, -1.57 - math.pi / 2]
    assert extra["boxes3d"][0] == pytest.approx(car)
    assert extra["occluded"][:3].tolist() == [0, 3, -1]
    assert extra["truncated"][:3].tolist() == [0, 0, -1]
    assert extra["alpha"][:3].tolist() == [1.85, -1.65, -10]
    # a region has no place in space; there is one of every class
    assert record.iscrowd.tolist() == [False] * 2 + [True] * 8
    assert np.isnan(extra["boxes3d"][2:]).all()


def test_3d_boxes_are_as_the_ops_take_them(root):
    """The same car twice: moved by half its length along its heading, a third of it is shared."""
    car = "Car 0 0 0 1 1 50 50 1.5 2 4 {x} 1.6 20 {turn}\n"
    file = root / "training/label_2/000000.txt"
    file.write_text(car.format(x=0, turn=0) + car.format(x=2, turn=0) + car.format(x=0, turn=1.5))
    boxes = torch.from_numpy(load(root, "all").record(0).extra["boxes3d"])
    assert ops.box3d_iou(boxes[:1], boxes[1:2]).item() == pytest.approx(1 / 3)
    assert ops.bev_iou(boxes[:1], boxes[2:]).item() < 0.4


@pytest.mark.parametrize(
    ("old", "new", "words", "lost"),
    [
        ("1.67 1.87", "nan 1.87", "line 1 has h nan, wanted a finite number; left out", "boxes3d"),
        ("58.49 1.57", "58.49 x", "line 1 has rotation_y x, wanted a finite", "boxes3d"),
        ("58.49", "1e999", "line 1 has z 1e999, wanted a finite number; left out", "boxes3d"),
        (" 58.49 1.57", "", "line 1 has 13 columns, wanted 15; its 3D box is left", "boxes3d"),
        ("Car 0.00", "Car ?", "line 1 has truncated [?], wanted a finite", "truncated"),
        ("0 1.85", "0 inf", "line 1 has alpha inf, wanted a finite", "alpha"),
    ],
)
def test_a_bad_3d_label_costs_no_box(root, caplog, old, new, words, lost):
    (root / "training/label_2/000000.txt").write_text(LABELS.replace(old, new, 1))
    faults = Faults()
    data = load(root, "all", faults=faults)
    assert [f.kind for f in faults] == [Kind.LABEL_3D]
    assert not Kind.LABEL_3D.is_error
    assert re.search(rf"000000.txt: {words}", caplog.text)
    assert len(data[0][1]["boxes"]) == 2
    for name, values in data.record(0).extra.items():
        assert np.isnan(values[0]).all() == (name == lost), name
        assert np.isfinite(values[1]).all(), name


def test_a_box_without_area_is_left_out_by_its_line(root, caplog):
    file = root / "training/label_2/000000.txt"
    file.write_text("\n" + LABELS.replace("423.81", "387.63"))
    data = load(root, "all")
    assert "line 2 has box 387.63 181.54 387.63 203.12 without area; left out" in caplog.text
    assert data.record(0).extra["occluded"].tolist() == [3] + [-1] * 8


def test_a_detection_in_such_a_region_is_forgiven_whatever_its_class(root):
    from detcore.evaluation.coco_metrics import coco_metrics

    data = load(root, "all")
    truth = data.to_coco()
    found = [
        {**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.5}
        for a in truth["annotations"]
        if not a["iscrowd"]
    ]
    stray = {"image_id": 1, "category_id": 1, "score": 0.9}
    forgiven = coco_metrics(truth, [*found, {**stray, "bbox": [510, 172, 40, 15]}])
    assert forgiven["mAP"] == pytest.approx(1)
    assert coco_metrics(truth, [*found, {**stray, "bbox": [10, 10, 40, 15]}])["mAP"] < 1


def test_the_split_is_the_same_every_time_and_shares_nothing(root):
    sides = [
        [p.name for p in load(f"kitti:{root / 'training'}", s).paths] for s in ("train", "val")
    ]
    assert len(sides[0]) > len(sides[1]) > 0
    assert not set(sides[0]) & set(sides[1])
    assert len(set(sides[0] + sides[1])) == 20
    assert [p.name for p in load(root, "val").paths] == sides[1]
    with pytest.raises(NoSplit):
        load(root, "test")


def test_a_published_split_is_followed(root):
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "val.txt").write_text("000003\n000001\n")
    (root / "ImageSets" / "train.txt").write_text("000000\n")
    assert [p.stem for p in load(root, "val").paths] == ["000003", "000001"]
    assert len(load(root, "train")) == 1


@pytest.mark.parametrize(
    ("old", "new", "words", "kind"),
    [
        ("387.63", "nan", "line 1 has box nan 181.54", Kind.NOT_FINITE),
        (
            "387.63 181.54 423.81 203.12 1.67 1.87 3.69 -16.53 2.39 58.49 1.57",
            "",
            "wanted 15",
            Kind.ENTRY,
        ),
    ],
)
def test_bad_lines_are_named(root, old, new, words, kind):
    file = root / "training/label_2/000000.txt"
    file.write_text(LABELS.replace(old, new))
    with pytest.raises(DataError, match=rf"000000.txt: .*{words}"):
        load(root, "all")
    faults = Faults(tolerant=True)
    assert len(load(root, "all", faults=faults).record(0).boxes) == 1 + 8
    assert [f.kind for f in faults] == [kind]


def test_pictures_that_are_missing_or_damaged_are_left_out(root, caplog):
    (root / "training/image_2/000000.png").unlink()
    (root / "training/image_2/000001.png").write_bytes(b"")
    assert len(load(root, "all")) == 18
    assert "000000.png: picture is missing" in caplog.text
    assert "000001.png: not a readable picture" in caplog.text
    with pytest.raises(DataError, match=r"looked for label_2/ here and in training/"):
        load(f"kitti:{root / 'training/image_2'}")
