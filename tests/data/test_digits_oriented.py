"""Digits that are stretched and turned, with boxes that are turned with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detcore.data import DataError, Digits, DigitScenes, load

ONE = replace(DigitScenes.oriented(128), digits=(1, 1))


def along_axes(box, mask):
    """Where the pixels of a mask are along a box's own axes, from its middle: [n, 2]."""
    y, x = np.nonzero(mask)
    turn = np.radians(box[4])
    x, y = x + 0.5 - box[0], y + 0.5 - box[1]
    return np.column_stack(
        [np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y]
    )


def test_the_sides_touch_the_ink_along_the_digits_own_axes(monkeypatch):
    # on a flat ground every other colour is ink
    import detcore.data.readers.digits as module

    monkeypatch.setattr(
        module, "background", lambda rng, size: np.full((3, size, size), 0.5, np.float32)
    )
    data = Digits("train", length=60, scenes=ONE)
    for k in range(60):
        image, target = data[k]
        (box,) = target["boxes"].tolist()
        far = (image.float().mean(0) / 255 - 0.5).abs().numpy()
        at = along_axes(box, far > 0.3 * far.max())
        # what counts as ink for a box is less than what is bright, by the soft rim of a stroke
        assert abs(at).max(0) == pytest.approx([box[2] / 2, box[3] / 2], abs=1.6), k
        low, high = at.min(0), at.max(0)
        assert low == pytest.approx([-box[2] / 2, -box[3] / 2], abs=1.6), k
        assert high == pytest.approx([box[2] / 2, box[3] / 2], abs=1.6), k


def test_aspects_and_angles():
    data = Digits("train", length=600, scenes=ONE)
    boxes = np.concatenate([data.record(k).rectangles for k in range(600)])
    aspects = boxes[:, 2] / boxes[:, 3]
    assert 2 - 1e-9 <= aspects.min() < 2.1
    assert 3.8 < aspects.max() <= 4 + 1e-9
    counts = np.histogram(boxes[:, 4], np.arange(-90, 91, 30))[0]
    assert counts.sum() == 600
    # a sixth is 100, give or take four standard deviations of 9
    assert counts.min() > 60 and counts.max() < 140


def test_corners_are_of_rectangles_that_are_all_targets():
    data = load("digits", "val", length=30, oriented=True, size=96)
    assert data.oriented
    for k in range(30):
        rec = data.record(k)
        points = rec.corners.reshape(-1, 4, 2)
        side = np.roll(points, -1, axis=1) - points
        square = (side * np.roll(side, 1, axis=1)).sum(2)
        assert abs(square).max(initial=0) < 1e-6
        # a corner has no ink in it and may be outside
        middle = rec.rectangles[:, :2]
        assert middle.min(initial=9) > 0 and middle.max(initial=9) < 96
        assert len(rec.target()["boxes"]) == len(rec.labels)
        assert rec.target()["boxes"].shape[1] == 5


def test_the_same_seed_gives_the_same_picture():
    one, same, other = (
        Digits("val", length=8, seed=seed, scenes=DigitScenes.oriented())[3] for seed in (5, 5, 6)
    )
    assert torch.equal(one[0], same[0])
    assert torch.equal(one[1]["boxes"], same[1]["boxes"])
    assert not torch.equal(one[0], other[0])


def test_truth_has_five_numbers_and_corners():
    data = load("digits", "val", length=3, oriented=True)
    for a in data.to_coco()["annotations"]:
        assert len(a["bbox"]) == 5
        assert len(a["corners"]) == 8
    with pytest.raises(DataError, match=r"oriented boxes are of detection, the task is classific"):
        load("digits", "val", task="classification", oriented=True)
