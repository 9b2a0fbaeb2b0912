"""Sets whose images are the tiles of another's, and what a border does to objects."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from detcore.data import DataError, TiledDetection, Tiles, load
from detcore.data.base import DetectionDataset, Record
from detcore.data.loading.loader import Stream, training_loader
from detcore.data.loading.transforms import Augment
from detcore.data.tiling import in_tiles
from detcore.evaluation.voc_metrics import voc_metrics
from detcore.inference import tiles as of_inference


class One(DetectionDataset):
    """One picture of 200 by 100 pixels, whose red is the column and whose green is the row."""

    def __init__(self, record):
        super().__init__(["a", "b"])
        self.only, self.oriented = record, record.corners is not None

    def __len__(self):
        return 1

    def record(self, _index):
        return self.only

    def image(self, _index):
        column, row = torch.meshgrid(torch.arange(200), torch.arange(100), indexing="xy")
        return torch.stack([column, row, row]).to(torch.uint8)


def upright(*boxes, crowds=None):
    labels, crowds = [1] * len(boxes), crowds or [False] * len(boxes)
    return Record.of_boxes(1, "dir/a.png", (200, 100), boxes, labels, crowds)


def oriented(*corners):
    count = len(corners)
    return Record.of_corners(1, "dir/a.png", (200, 100), corners, [1] * count, [False] * count)


def halves(record):
    """The left and the right half of the picture, without overlap."""
    return TiledDetection(One(record), Tiles(100, 0))


def kinds(data):
    """Of each tile of each object in it, whether it is a region."""
    return [data.record(k).iscrowd.tolist() for k in range(len(data))]


def box(inside, top=10):
    """Ten pixels wide, of which so many are in the left half."""
    return [100 - inside, top, 110 - inside, top + 20]


@pytest.mark.parametrize(
    ("inside", "left", "right"),
    [
        (10, [False], []),
        (9.01, [False], []),  # 0.099 of it is in the right half: not there
        (9, [False], [True]),
        (7, [False], [True]),
        (6.99, [True], [True]),
        (5, [True], [True]),
        (3, [True], [False]),
        (0.99, [], [False]),
        (0, [], [False]),
    ],
)
def test_the_shares_from_which_an_object_counts(inside, left, right):
    assert kinds(halves(upright(box(inside)))) == [left, right]
    x0, y0, x1, y1 = box(inside)
    assert kinds(halves(oriented([x0, y0, x1, y0, x1, y1, x0, y1]))) == [left, right]


def test_shares_are_of_the_polygon_and_not_of_the_box_around_it():
    # a triangle, of which the border at 100 leaves 0.75 on the left, and of its box a half
    triangle = [90, 0, 110, 20, 90, 40, 90, 40]
    assert kinds(halves(oriented(triangle))) == [[False], [True]]
    assert kinds(halves(oriented(triangle).upright())) == [[True], [True]]


def test_what_lies_outside_the_picture_does_not_count():
    # 20 of its 50 columns are in the picture, of which the right tile has all
    assert kinds(halves(upright([180, 10, 230, 20]))) == [[], [False]]
    assert kinds(halves(upright([180, 10, 1e308, 20]))) == [[], [False]]
    assert kinds(halves(upright([300, 10, 310, 20]))) == [[], []]


def test_an_oriented_object_stays_whole_and_an_upright_one_is_clipped():
    data = halves(oriented([92, 10, 102, 10, 102, 30, 92, 30]))
    assert data.record(0).corners.tolist() == [[92, 10, 102, 10, 102, 30, 92, 30]]
    assert data[0][1]["boxes"].tolist() == [[97, 20, 20, 10, -90]]
    data = halves(upright([92, 10, 102, 30]))
    assert data[0][1]["boxes"].tolist() == [[92, 10, 100, 30]]
    assert data.record(0).boxes.tolist() == [[92, 10, 102, 30]]


def test_a_region_is_no_target_and_neutral_in_evaluation():
    data = halves(upright(box(5), [10, 10, 30, 30]))
    assert data[0][1]["boxes"].tolist() == [[10, 10, 30, 30]]
    truth = data.to_coco()
    assert [a["iscrowd"] for a in truth["annotations"]] == [1, 0, 1]
    found = [
        {"image_id": 1, "category_id": 1, "bbox": bbox, "score": score}
        for bbox, score in (([95, 10, 10, 20], 0.9), ([10, 10, 20, 20], 0.8))
    ]
    assert voc_metrics(truth, found)["AP_all_point"] == 1


def test_crowds_stay_and_difficult_objects_too():
    data = halves(upright([0, 0, 101, 50], crowds=[True]))
    assert kinds(data) == [[True], [True]]  # a hundredth of it is on the right
    rec = oriented([10, 10, 30, 10, 30, 20, 10, 20])
    rec.ignore[:] = True
    assert halves(rec).record(0).ignore.tolist() == [True]


def test_facts_of_an_object_go_with_it():
    whole = replace(
        upright((10, 10, 30, 30), (150, 40, 180, 60)),
        extra={"depth": np.array([[4.0], [7.0]]), "place": "a street"},
    )
    left, right = (in_tiles(One(whole), 100).record(k) for k in (0, 2))
    assert left.extra["depth"].tolist() == [[4.0]]
    assert right.extra["depth"].tolist() == [[7.0]]
    assert left.extra["place"] == "a street"


def test_names_numbers_places_and_pixels():
    rec = upright([10, 10, 30, 30], [150, 60, 170, 90])
    data = TiledDetection(One(rec), Tiles(80, 0.25))
    # by rows: 0, 60, 120 across and 0, 20 down
    assert [place for _, place in data.places] == Tiles(80, 0.25).of(100, 200)
    assert len(data) == 6
    shown = data.to_coco()["images"]
    assert [i["id"] for i in shown] == [1, 2, 3, 4, 5, 6]
    assert shown[5] == {"id": 6, "file_name": "dir/a_120_20.png", "width": 80, "height": 80}
    image, target = data[5]
    assert image.shape == (3, 80, 80)
    assert image[:, 0, 0].tolist() == [120, 20, 20]
    assert image.untyped_storage().nbytes() == 3 * 80 * 80  # and no view of the whole picture
    assert target["boxes"].tolist() == [[30, 40, 50, 70]]
    assert target["image_id"] == 6
    assert data.size(5) == (80, 80)
    assert data.path(5) is None
    with pytest.raises(IndexError):
        data[6]


def test_an_image_no_larger_than_a_tile_is_as_it_was():
    rec = upright([10, 10, 30, 30], [190, 10, 260, 30])
    data = in_tiles(One(rec), 200)
    assert len(data) == 1
    one, other = data[0], One(rec)[0]
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1]["boxes"], other[1]["boxes"])
    assert data.record(0).file_name == "dir/a.png"


def test_every_object_is_whole_in_some_tile_if_the_overlap_is_larger():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, [180, 80], (200, 2))
    rec = upright(*np.column_stack([corner, corner + 19]).tolist())
    data = TiledDetection(One(rec), Tiles(50, 0.4))
    seen = sum(len(data.record(k).target()["labels"]) for k in range(len(data)))
    whole = np.zeros(len(rec.boxes), bool)
    for _, (x0, y0, x1, y1) in data.places:
        left, top, right, low = rec.boxes.T
        whole |= (left >= x0) & (top >= y0) & (right <= x1) & (low <= y1)
    assert whole.all()
    assert seen > len(rec.boxes)


def test_transforms_are_applied_to_tiles():
    source = One(upright([10, 10, 30, 30]))
    source.transforms = lambda image, target: (image[:1], target)
    assert in_tiles(source, 100)[0][0].shape == (1, 100, 100)


def test_the_rule_is_that_of_prediction():
    assert of_inference.Tiles is Tiles


def test_load_cuts_what_is_asked_for():
    whole = load("digits", "val", length=2, size=128)
    data = load("digits", "val", length=2, size=128, tile=Tiles(64, 0))
    assert len(data) == 8
    assert torch.equal(data[3][0], whole.image(0)[:, 64:, 64:])
    # a side alone: half of it is shared, and more than half for three tiles
    assert len(load("digits", "val", length=1, size=128, tile=64)) == 9
    assert load("digits", "val", length=1, oriented=True, tile=64).oriented
    with pytest.raises(DataError, match=r"tile must be at least 1 pixel, or 0 for .* got -5"):
        load("digits", "val", tile=-5)
    with pytest.raises(DataError, match=r"tiles are cut of detection sets, got DigitPatches"):
        load("digits", "val", task="classification", tile=64)


def test_tiles_are_drawn_for_training_as_any_images():
    data = load("digits", "train", length=6, oriented=True, tile=Tiles(80, 0.4))
    stream = Stream(batch_size=4, workers=1, group_aspect=True)
    batches = training_loader(data, stream, Augment(mosaic=0.5, rotate=30))
    for _, (images, targets) in zip(range(3), batches, strict=False):
        assert len(images) == len(targets) == 4
        assert all(t["boxes"].shape[1] == 5 for t in targets)
