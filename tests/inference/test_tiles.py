import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from detcore.data import load
from detcore.inference.predictor import predict
from detcore.inference.tiles import Tiles, merge_tiles, predict_tiled
from detcore.ops import box_iou
from detcore.weights import load_darknet


def detections(*rows):
    """Rows of box, score, label."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def rows_of(found):
    parts = (found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist())
    return [(tuple(b), round(s, 4), k) for b, s, k in zip(*parts, strict=True)]


class Squares(torch.nn.Module):
    """Finds the pixels of each grey value as a box, like a detector with a limited view.

    An object is all pixels of a value; its score is its value, halved if it is larger than 50
    pixels, and it is not found below `least` of its picture's side.
    """

    def __init__(self, least=0.0):
        super().__init__()
        self.least, self.sizes = least, []

    def forward(self, images):
        self.sizes.append([tuple(i.shape[1:]) for i in images])
        return [self.look(i[0]) for i in images]

    def look(self, image):
        rows = []
        for value in image.unique().tolist():
            y, x = torch.where(image == value)
            box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
            extent = max(box[2] - box[0], box[3] - box[1])
            if value > 0 and extent >= self.least * max(image.shape):
                rows.append((box, value if extent <= 50 else value / 2, 1))
        return detections(*rows)


def picture(height, width, *objects):
    image = torch.zeros(3, height, width)
    for k, (x0, y0, x1, y1) in enumerate(objects):
        image[:, y0:y1, x0:x1] = 0.9 - k / 16
    return image


@pytest.mark.parametrize("overlap", [0.0, 0.2, 0.33, 0.9])
@pytest.mark.parametrize("size", [7, 64, (40, 100)])
@pytest.mark.parametrize("image", [(64, 64), (65, 200), (33, 101), (7, 640), (1, 1)])
def test_tiles_cover_the_image_evenly_and_overlap_enough(image, size, overlap):
    tiles = Tiles(size, overlap)
    boxes = tiles.of(*image)
    assert len(set(boxes)) == len(boxes)
    for axis, (length, side) in enumerate(zip(image, tiles.height_width, strict=True)):
        spans = sorted({(b[1 - axis], b[3 - axis]) for b in boxes})
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(end - start == min(side, length) for start, end in spans)
        gaps = [b[0] - a[0] for a, b in itertools.pairwise(spans)]
        assert all(side - gap >= round(side * overlap) for gap in gaps) or set(gaps) == {1}
        assert not gaps or max(gaps) - min(gaps) <= 1
        # # not more tiles than needed
        needed = math.ceil(max(length - side, 0) / max(1, side - round(side * overlap)))
        assert len(spans) == needed + 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tile": 0}, "size must be at least 1, got 0"),
        ({"tile": (5, -1)}, r"size must be at least 1, got \(5, -1\)"),
        ({"overlap": 1.0}, r"overlap must be at least 0 and below 1, got 1.0"),
        ({"overlap": -0.1}, "overlap must be at least 0 and below 1, got -0.1"),
        ({"overlap": math.nan}, "overlap must be at least 0 and below 1, got nan"),
    ],
)
def test_bad_tiles_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        predict_tiled(Squares(), picture(20, 20), **options)


def test_a_classifier_is_refused():
    class Namer(torch.nn.Module):
        def forward(self, images):
            return [{"scores": torch.ones(2), "labels": torch.tensor([0])} for _ in images]

    with pytest.raises(ValueError, match="model must be a detector, got one that gives no boxes"):
        predict_tiled(Namer(), picture(20, 20), tile=16)


# two adjacent tiles of 100 pixels that share 20, and the whole image
WHOLE, LEFT, RIGHT = (0, 0, 180, 100), (0, 0, 100, 100), (80, 0, 180, 100)


def merged(whole=(), left=(), right=(), **options):
    parts = [detections(*rows) for rows in (whole, left, right)]
    return rows_of(merge_tiles(parts, [WHOLE, LEFT, RIGHT], (100, 180), **options))


def test_an_object_on_a_seam_is_the_tiles_that_sees_it_whole():
    # x is 84 to 104: the left tile sees 16 of 20 pixels, with a higher score
    cut, full = ((84, 10, 100, 30), 0.9, 1), ((4, 10, 24, 30), 0.6, 1)
    assert merged(left=[cut], right=[full]) == [((84, 10, 104, 30), 0.6, 1)]


def test_two_tiles_that_both_see_an_object_whole_give_one_box():
    assert merged(left=[((84, 10, 96, 30), 0.7, 1)], right=[((4, 10, 17, 30), 0.8, 1)]) == [
        ((84, 10, 97, 30), 0.8, 1)
    ]


def test_an_object_larger_than_a_tile_is_the_whole_images():
    parts = {"left": [((20, 5, 99, 95), 0.9, 1)], "right": [((1, 5, 70, 95), 0.8, 1)]}
    seen = ((20, 5, 150, 95), 0.4, 1)
    assert merged(whole=[seen], **parts) == [seen]
    # a cut box without a matching whole one is kept
    assert merged(**parts) == [((20, 5, 99, 95), 0.9, 1), ((81, 5, 150, 95), 0.8, 1)]


def test_neighbours_and_other_classes_are_not_merged():
    cut = ((84, 10, 100, 30), 0.9, 1)
    beside, above = ((20, 10, 40, 30), 0.6, 1), ((4, 31, 24, 50), 0.5, 1)
    kept = [((84, 10, 100, 30), 0.9, 1), ((100, 10, 120, 30), 0.6, 1), ((84, 31, 104, 50), 0.5, 1)]
    assert merged(left=[cut], right=[beside, above]) == kept
    other = ((4, 10, 24, 30), 0.6, 2)
    assert merged(left=[cut], right=[other]) == [cut, ((84, 10, 104, 30), 0.6, 2)]


def test_half_of_a_cut_box_must_be_covered():
    cut = ((80, 10, 100, 30), 0.9, 1)
    for start, boxes in ((11, 2), (9, 1)):  # covers 9 or 11 of 20 columns
        assert len(merged(left=[cut], right=[((start, 10, 60, 30), 0.8, 1)])) == boxes
    # a small whole object on a large cut one covers little of it
    assert len(merged(left=[((10, 10, 100, 90), 0.9, 1), ((40, 40, 50, 50), 0.8, 1)])) == 2


@pytest.mark.parametrize(
    ("box", "is_cut"),
    [
        ((60, 40, 98, 60), True),  # 2 pixels from the tile's border
        ((60, 40, 97, 60), False),
        ((0, 40, 90, 60), False),  # at the border of the image, not only of the tile
        ((60, 0, 90, 100), False),
    ],
)
def test_only_a_tiles_inner_border_cuts(box, is_cut):
    over = ((0, 0, 180, 100), 0.1, 1)  # covers everything, and is too large for NMS to merge
    assert (len(merged(whole=[over], left=[(box, 0.9, 1)])) == 1) is is_cut


def test_every_border_of_a_tile_cuts():
    middle, size = (100, 100, 200, 200), (300, 300)
    over = detections(((0, 0, 300, 300), 0.1, 1))
    for box in ((0, 40, 20, 60), (40, 0, 60, 20), (80, 40, 100, 60), (40, 80, 60, 100)):
        found = merge_tiles([over, detections((box, 0.9, 1))], [(0, 0, 300, 300), middle], size)
        assert len(found["boxes"]) == 1, box


def test_merging_keeps_what_else_a_model_says_and_the_nms_threshold_counts():
    left = detections(((10, 10, 30, 30), 0.6, 1), ((10, 14, 30, 34), 0.5, 1))
    left["box_labels"] = torch.tensor([7, 8])
    right = {**detections(((50, 10, 60, 30), 0.8, 2)), "box_labels": torch.tensor([9])}
    both = [left, right]
    found = merge_tiles(both, [LEFT, RIGHT], (100, 180))
    assert found["box_labels"].tolist() == [9, 7]  # IoU 2/3
    found = merge_tiles(both, [LEFT, RIGHT], (100, 180), iou_threshold=0.7)
    assert found["box_labels"].tolist() == [9, 7, 8]


def test_nothing_found_is_nothing_merged():
    found = merge_tiles([detections()] * 3, [WHOLE, LEFT, RIGHT], (100, 180))
    assert {k: tuple(v.shape) for k, v in found.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
    }
    assert found["labels"].dtype == torch.int64


def test_many_cut_boxes_are_compared_in_turns():
    count = 3000
    top = 4.0 * torch.arange(count)
    cut = torch.stack((torch.full_like(top, 90), top, torch.full_like(top, 100), top + 3), 1)
    full = cut[::3] + torch.tensor([-80.0, 0, -70, 0])  # every third continues in the other tile
    left, right = (
        {
            "boxes": boxes,
            "scores": torch.full((len(boxes),), score),
            "labels": torch.ones(len(boxes), dtype=torch.int64),
        }
        for boxes, score in ((cut, 0.9), (full, 0.5))
    )
    height = 4 * count
    tiles = [(0, 0, 100, height), (80, 0, 180, height)]
    found = merge_tiles([left, right], tiles, (height, 180))
    parts = found["boxes"][found["scores"] > 0.5]
    assert parts[:, 1].tolist() == [t for t in top.tolist() if t % 12]
    assert torch.equal(found["boxes"][len(parts) :], full + torch.tensor([80.0, 0, 80, 0]))


def test_all_objects_of_a_large_picture_are_found_once():
    # small ones on seams and corners, one larger than a tile
    objects = [(70, 10, 90, 28), (84, 84, 100, 101), (160, 170, 180, 190), (230, 30, 250, 240)]
    objects += [(5, 290, 12, 299)]
    image = picture(300, 260, *objects)
    model = Squares(least=0.08)
    wanted = {tuple(map(float, o)) for o in objects}
    found = predict_tiled(model, image, tile=100, overlap=0.25, batch_size=4)
    assert {tuple(b) for b in found["boxes"].tolist()} == wanted
    assert len(found["boxes"]) == len(objects)
    assert (found["scores"].diff() <= 0).all()
    again = predict_tiled(model, image, tile=100, overlap=0.25, batch_size=4)
    assert all(torch.equal(found[k], again[k]) for k in found)
    # the large object is found only in the whole picture, the small ones only in tiles
    large = {w for w in wanted if w[3] - w[1] > 100}
    assert {tuple(b) for b in predict(model, [image])[0]["boxes"].tolist()} == large
    alone = predict_tiled(model, image, tile=100, overlap=0.25, whole=False)
    boxes = {tuple(b) for b in alone["boxes"].tolist()}
    assert wanted - large <= boxes and not large & boxes


def test_without_overlap_a_seam_leaves_two_parts_unless_the_whole_picture_shows_it():
    image = picture(100, 200, (90, 40, 110, 60))
    parts = [((90, 40, 100, 60), 0.9, 1), ((100, 40, 110, 60), 0.9, 1)]
    assert rows_of(predict_tiled(Squares(0.12), image, tile=100, overlap=0)) == parts
    assert rows_of(predict_tiled(Squares(), image, tile=100, overlap=0)) == [
        ((90, 40, 110, 60), 0.9, 1)
    ]


def test_calls_batches_and_progress():
    model, seen = Squares().train(), []
    image = picture(100, 260)
    options = {"tile": 100, "batch_size": 2, "progress": lambda done, of: seen.append((done, of))}
    found = predict_tiled(model, image, **options)
    assert model.sizes == [[(100, 260)], [(100, 100)] * 2, [(100, 100)]]
    assert seen == [(1, 4), (3, 4), (4, 4)]
    assert len(found["boxes"]) == 0
    assert model.training
    model.sizes.clear()
    predict_tiled(model, image, whole=False, **options)
    assert model.sizes == [[(100, 100)] * 2, [(100, 100)]]
    # a picture not larger than a tile is processed once, as a whole
    model.sizes.clear()
    predict_tiled(model, image[:, :, :100], whole=False, **options)
    assert model.sizes == [[(100, 100)]]


def test_what_is_not_believed_explains_nothing():
    class Unsure(Squares):
        def look(self, image):
            if image.shape[1] == 180:
                return detections(((90, 40, 110, 60), 0.2, 1))  # the whole picture
            return detections(((90, 40, 100, 60), 0.9, 1))  # a tile: 90 to 100, 170 to 180

    image, part = picture(100, 180), (90.0, 40.0, 100.0, 60.0)
    kept = {
        score: rows_of(predict_tiled(Unsure(), image, tile=100, score=score)) for score in (0, 0.3)
    }
    assert part not in [row[0] for row in kept[0]]
    assert part in [row[0] for row in kept[0.3]]


def test_tiles_find_the_small_objects_of_a_mosaic(shared):
    """46 real photos, each scaled to 320 pixels, as one mosaic for a real network."""
    folder = shared("weights/yolo-fastest-1.1")
    model = load_darknet(*(folder / f"yolo-fastest-1.1.{s}" for s in ("cfg", "weights")))
    image, boxes, labels = mosaic(load(shared("data/coco-mini")), columns=7, cell=320)
    (at_once,) = predict(model, [image], score=0.3)
    tiled = predict_tiled(model, image, tile=320, score=0.3)
    assert matched(at_once, boxes, labels) == 0  # each photo is 46 of the network's 320 pixels
    found = matched(tiled, boxes, labels)
    # it finds 69 of 316; separate photos at full size give 76
    assert found > 60
    assert found / len(tiled["boxes"]) > 0.35


def mosaic(data, columns, cell):
    rows = math.ceil(len(data) / columns)
    image = torch.full((3, rows * cell, columns * cell), 128, dtype=torch.uint8)
    boxes, labels = [], []
    for k in range(len(data)):
        photo, target = data[k]
        scale = cell / max(photo.shape)
        small = F.interpolate(
            photo[None].float(), scale_factor=scale, mode="bilinear", antialias=True
        )
        height, width = small.shape[2:]
        y, x = k // columns * cell, k % columns * cell
        image[:, y : y + height, x : x + width] = small[0].round().clamp(0, 255).byte()
        boxes.append(target["boxes"] * scale + torch.tensor([x, y, x, y]))
        labels.append(target["labels"])
    return image, torch.cat(boxes), torch.cat(labels)


def matched(found, boxes, labels):
    """Number of objects found at IoU 0.5; each detection matches the best free object."""
    overlap = box_iou(found["boxes"], boxes)
    overlap[found["labels"][:, None] != labels] = 0
    count = 0
    for row in overlap:
        best = int(row.argmax())
        if row[best] >= 0.5:
            overlap[:, best] = 0
            count += 1
    return count
