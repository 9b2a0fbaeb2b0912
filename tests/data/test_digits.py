import numpy as np
import pytest
import torch

from detcore.data import DataError, DigitPatches, Digits, DigitScenes, load


def same(a, b):
    return torch.equal(a[0], b[0]) and torch.equal(a[1]["boxes"], b[1]["boxes"])


def test_an_item_is_a_function_of_seed_split_and_index():
    wanted = Digits("train", length=9, seed=3)[7]
    again = Digits("train", length=500, seed=3)
    assert not same(wanted, again[8])
    assert same(wanted, again[7])  # even after another item
    assert not same(wanted, Digits("train", length=9, seed=4)[7])
    assert not same(wanted, Digits("val", length=9, seed=3)[7])


def test_no_source_digit_and_no_writer_is_in_both_splits():
    drawn = {}
    for split in ("train", "val"):
        data = Digits(split, length=300)
        drawn[split] = {s for i in range(300) for s in data.source_digits(i)}
        assert len(drawn[split]) > 200
    assert not drawn["train"] & drawn["val"]
    # the digits are sorted by writer, so one border between them also separates writers
    assert max(drawn["train"]) < min(drawn["val"])


def test_the_splits_part_where_a_writer_begins():
    from sklearn.datasets import load_digits

    first = Digits("val").sources[0]
    assert first == len(Digits("train").sources)
    # a writer begins with 0 to 9, twice
    assert load_digits().target[first : first + 20].tolist() == [*range(10)] * 2


def test_labels_are_the_source_digits():
    from sklearn.datasets import load_digits

    target, data = load_digits().target, Digits("val", length=20)
    for i in range(20):
        labels = data[i][1]["labels"]
        assert [data.classes[k - 1] for k in labels.tolist()] == [
            str(target[s]) for s in data.source_digits(i)
        ]


def test_boxes_hold_the_ink_tightly(monkeypatch):
    # on a flat background without noise, every different pixel is ink
    import detcore.data.readers.digits as module

    monkeypatch.setattr(
        module, "background", lambda rng, size: np.full((3, size, size), 0.5, np.float32)
    )
    data = Digits("train", length=40, scenes=DigitScenes(size=96, digits=(1, 1)))
    for i in range(40):
        image, target = data[i]
        (x0, y0, x1, y1) = target["boxes"][0].int().tolist()
        assert 0 <= x0 < x1 <= 96
        assert 0 <= y0 < y1 <= 96
        # noise has a standard deviation of up to 0.04; ink differs by at least 0.3 * 0.35
        far = (image.float().mean(0) / 255 - 0.5).abs()
        inside = far[y0:y1, x0:x1]
        outside = far.clone()
        outside[y0:y1, x0:x1] = 0
        assert outside.max() < 0.12 < inside.max()
        strength = inside.max()
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.max() > 0.2 * strength, i


def test_digits_do_not_overlap_heavily():
    from detcore.ops import box_iou

    data = Digits("train", length=100, scenes=DigitScenes(digits=(4, 8)))
    assert max(len(data[i][1]["boxes"]) for i in range(20)) >= 6
    for i in range(100):
        boxes = data.record(i).target()["boxes"]
        overlap = box_iou(boxes, boxes).fill_diagonal_(0)
        assert overlap.max() <= 0.12


def test_ink_is_both_lighter_and_darker_than_the_ground():
    data, lighter = Digits("train", length=60, scenes=DigitScenes(digits=(1, 1))), 0
    for i in range(60):
        image, target = data[i]
        x0, y0, x1, y1 = target["boxes"][0].int().tolist()
        grey = image.float().mean(0)
        lighter += int(grey[y0:y1, x0:x1].mean() > grey.mean())
    assert 12 <= lighter <= 48


def test_target_form_and_sizes():
    data = load("digits", "val", size=160, length=5)
    image, target = data[0]
    assert image.dtype == torch.uint8
    assert image.shape == (3, 160, 160)
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].shape[1] == 4
    assert target["labels"].dtype == torch.int64
    assert target["labels"].min() >= 1
    assert target["image_id"] == 1
    assert len(data) == 5
    assert target["area"].shape == target["iscrowd"].shape == target["labels"].shape
    with pytest.raises(IndexError):
        data[5]


def test_coco_export_is_what_the_items_say():
    data = Digits("val", length=6)
    document = data.to_coco()
    assert [c["name"] for c in document["categories"]] == [str(d) for d in range(10)]
    for i in range(6):
        _image, target = data[i]
        mine = [a for a in document["annotations"] if a["image_id"] == target["image_id"]]
        boxes = torch.tensor([a["bbox"] for a in mine])
        boxes[:, 2:] += boxes[:, :2]
        assert torch.equal(boxes, target["boxes"])
        assert [a["category_id"] for a in mine] == target["labels"].tolist()


def test_patches_are_for_the_classifier():
    data = load("digits", "val", task="classification", length=30)
    assert isinstance(data, DigitPatches)
    assert data.task == "classification"
    labels = {int(data[i][1]["label"]) for i in range(30)}
    assert labels <= set(range(10))
    assert len(labels) > 5
    assert data[0][0].shape == (3, 32, 32)
    assert data[0][1]["label"].dtype == torch.int64


def test_a_digit_too_large_for_the_picture_is_made_smaller():
    data = Digits("train", length=60, scenes=DigitScenes(digits=(1, 1), size=32, height=(0.9, 1.3)))
    for i in range(60):
        boxes = data.record(i).boxes
        assert len(boxes) == 1
        assert boxes.min() >= 0
        assert boxes.max() <= 32
    patches = DigitPatches("train", length=4000, size=64)
    assert min(len(patches.scene.record(i).boxes) for i in range(0, 4000, 4)) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"split": "test"}, "train or val, got 'test'"), ({"length": 0}, "at least 1, got 0")],
)
def test_senseless_arguments_are_named(options, words):
    with pytest.raises(DataError, match=words):
        Digits(**options)
    with pytest.raises(DataError, match=r"at least 32 pixels, got 8"):
        DigitScenes(size=8)


def test_upright_digits_are_those_from_before_there_were_oriented_ones():
    image, target = Digits("val", length=50)[7]
    wanted = [[36, 12, 57, 44], [96, 89, 111, 114], [74, 48, 90, 72], [12, 2, 36, 43]]
    assert target["boxes"].tolist() == [*wanted, [62, 0, 90, 49]]
    assert target["labels"].tolist() == [3, 6, 3, 8, 3]
    means = image.float().mean((1, 2)).tolist()
    assert means == pytest.approx([92.4048, 173.7787, 150.7308], abs=0.01)


def test_missing_scikit_learn_is_one_sentence(monkeypatch):
    import sys

    from detcore.data.readers.digits import _glyphs

    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    _glyphs.cache_clear()
    with pytest.raises(ImportError, match=r"needs scikit-learn: pip install"):
        Digits("train")
    _glyphs.cache_clear()
