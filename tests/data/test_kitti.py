import pytest
from PIL import Image

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
