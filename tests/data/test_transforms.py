import pytest
import torch

from detcore.data.loading.transforms import Augment, mosaic


def scene():
    """A bright rectangle on black, and its box."""
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    image[:, 20:35, 30:50] = 250
    boxes = torch.tensor([[30.0, 20, 50, 35]])
    return image, {
        "boxes": boxes,
        "labels": torch.tensor([4]),
        "image_id": 3,
        "iscrowd": torch.zeros(1, dtype=torch.uint8),
    }


def extent(image):
    rows, columns = torch.where(image.float().mean(0) > 125)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("seed", range(30))
def test_boxes_stay_on_the_object(seed):
    torch.manual_seed(seed)
    image, target = Augment(upside_down=0.5, scale=(0.6, 1.6))(*scene())
    assert image.shape == (3, 60, 80)
    assert image.dtype == torch.uint8
    assert type(image) is torch.Tensor
    assert type(target["boxes"]) is torch.Tensor
    assert target["labels"].tolist() == [4]
    assert target["image_id"] == 3
    wanted = torch.tensor(extent(image)).float()
    assert (target["boxes"][0] - wanted).abs().max() <= 1.5
    width, height = target["boxes"][0, 2:] - target["boxes"][0, :2]
    assert torch.isclose(target["area"][0], width * height)


def test_mirror_and_upside_down_are_exact():
    image, target = Augment(mirror=1, colour=0, scale=(1, 1))(*scene())
    assert target["boxes"].tolist() == [[30, 20, 50, 35]]  # it is in the middle
    image, target = scene()
    target["boxes"] = torch.tensor([[30.0, 20, 40, 35]])
    _, mirrored = Augment(mirror=1, colour=0, scale=(1, 1))(image, target)
    assert mirrored["boxes"].tolist() == [[40, 20, 50, 35]]
    _, turned = Augment(mirror=0, upside_down=1, colour=0, scale=(1, 1))(image, target)
    assert turned["boxes"].tolist() == [[30, 25, 40, 40]]


def test_boxes_that_leave_the_picture_are_dropped_with_their_labels():
    image, target = scene()
    target["boxes"] = torch.tensor([[0.0, 20, 10, 40], [38, 28, 42, 32]])
    target["labels"], target["iscrowd"] = torch.tensor([1, 2]), torch.zeros(2)
    left = []
    for seed in range(20):
        torch.manual_seed(seed)
        _, moved = Augment(mirror=0, scale=(1.35, 1.35))(image, target)
        assert len(moved["boxes"]) == len(moved["labels"]) == len(moved["iscrowd"])
        whole = torch.tensor([200.0, 16])[moved["labels"] - 1] * 1.35**2
        assert (moved["area"] >= 0.29 * whole).all()
        left.append(1 in moved["labels"].tolist())
        assert all(b >= 1 for b in (moved["boxes"][:, 2:] - moved["boxes"][:, :2]).flatten())
    assert any(left)
    assert not all(left)


def test_pictures_without_boxes_and_class_labels():
    image, target = scene()
    target = {k: v[:0] if isinstance(v, torch.Tensor) else v for k, v in target.items()}
    assert Augment()(image, target)[1]["boxes"].shape == (0, 4)
    moved, target = Augment()(image, {"label": torch.tensor(2), "image_id": 1})
    assert moved.shape == image.shape
    assert target["label"] == 2
    assert "boxes" not in target


def test_switched_off_it_changes_nothing():
    image, target = scene()
    moved, after = Augment(mirror=0, colour=0, scale=(1, 1))(image, target)
    assert torch.equal(moved, image)
    assert torch.equal(after["boxes"], target["boxes"])


def test_longest_shrinks_as_the_models_would():
    from detcore.parts.preprocess import FitWithin, Preprocess

    image, target = scene()
    image = torch.randint(0, 256, (3, 61, 83), dtype=torch.uint8)
    quiet = Augment(mirror=0, colour=0, scale=(1, 1), longest=40)
    small, moved = quiet(image, target)
    own = Preprocess(FitWithin(40, 40), mean=(0,) * 3, std=(1,) * 3, divisor=1)([image.float()])
    assert small.shape == own.images[0].shape == (3, 29, 40)
    assert (small.float() - own.images[0]).abs().max() <= 1  # rounded to integers
    assert torch.allclose(moved["boxes"], own.boxes_in([target["boxes"]])[0])
    same, _ = Augment(mirror=0, colour=0, scale=(1, 1), longest=83)(image, target)
    assert torch.equal(same, image)
    zoomed, _ = Augment(longest=40)(image, target)
    assert zoomed.shape == (3, 29, 40)


def test_crops_keep_boxes_on_the_object_and_inside():
    sizes, seen = set(), 0
    for seed in range(60):
        torch.manual_seed(seed)
        image, target = Augment(crops=1, colour=0, scale=(0.8, 1.25))(*scene())
        height, width = image.shape[-2:]
        sizes.add((height, width))
        assert 0.5 <= width / height <= 2
        assert 0.3 * 60 - 1 <= height <= 60 and 0.3 * 80 - 1 <= width <= 80
        for box in target["boxes"]:
            seen += 1
            assert (box >= 0).all() and box[2] <= width and box[3] <= height
            wanted = torch.tensor(extent(image)).float()
            assert (box - wanted).abs().max() <= 1.5
        assert len(target["boxes"]) == len(target["labels"]) == len(target["iscrowd"])
    assert len(sizes) > 20
    assert seen >= 50  # the crop contains the centre of the only box, but jitter may cut it off


def test_crops_without_boxes_and_of_tiny_pictures_do_nothing():
    image, target = scene()
    none = {k: v[:0] if isinstance(v, torch.Tensor) else v for k, v in target.items()}
    quiet = Augment(crops=1, mirror=0, colour=0, scale=(1, 1))
    assert torch.equal(quiet(image, none)[0], image)
    target["boxes"] = torch.tensor([[0.0, 0, 2, 2]])
    assert quiet(image[:, :3, :3], target)[0].shape == (3, 3, 3)
    assert quiet(image, {"label": torch.tensor(1), "image_id": 1})[0].shape == image.shape


def test_a_seed_gives_the_same_crop():
    both = []
    for _ in range(2):
        torch.manual_seed(5)
        both.append(Augment(crops=1)(*scene()))
    assert torch.equal(both[0][0], both[1][0])
    assert torch.equal(both[0][1]["boxes"], both[1][1]["boxes"])


def quarter(number, size=(60, 80)):
    """A picture in one colour, with a white square and its box."""
    image = torch.full((3, *size), 20 * number, dtype=torch.uint8)
    image[:, 20:36, 30:46] = 255
    return image, {
        "boxes": torch.tensor([[30.0, 20, 46, 36]]),
        "labels": torch.tensor([number]),
        "image_id": number,
        "area": torch.tensor([256.0]),
        "iscrowd": torch.zeros(1, dtype=torch.uint8),
    }


@pytest.mark.parametrize("seed", range(20))
def test_a_mosaic_of_four(seed):
    torch.manual_seed(seed)
    items = [quarter(1), quarter(2, (90, 50)), quarter(3, (40, 200)), quarter(4)]
    image, target = mosaic(items)
    assert image.shape == (3, 60, 80)
    assert image.dtype == torch.uint8
    assert target["image_id"] == 1
    assert image[0, 0, 0] in (20, 255) and image[0, 0, -1] in (40, 255)
    assert image[0, -1, 0] in (60, 255) and image[0, -1, -1] in (80, 255)
    assert len(target["boxes"]) == len(target["labels"]) == len(target["area"])
    assert target["boxes"].dtype == torch.float32
    for box, label, area in zip(target["boxes"], target["labels"], target["area"], strict=True):
        x0, y0, x1, y1 = box.tolist()
        assert 0 <= x0 < x1 <= 80
        assert 0 <= y0 < y1 <= 60
        assert area == pytest.approx((x1 - x0) * (y1 - y0))
        inner = image[0, round(y0 + 1.5) : round(y1 - 1.5), round(x0 + 1.5) : round(x1 - 1.5)]
        assert (inner > 180).float().mean() > 0.9 or inner.numel() < 4, label
    # white is only inside boxes
    mask = image[0] > 200
    for x0, y0, x1, y1 in target["boxes"].round().int().tolist():
        mask[max(0, y0 - 1) : y1 + 1, max(0, x0 - 1) : x1 + 1] = False
    cut = 4 - len(target["boxes"])  # dropped boxes, mostly outside; parts of them may be visible
    assert cut or not mask.any()


def test_a_mosaic_shrinks_and_does_without_boxes():
    items = [quarter(k) for k in range(1, 5)]
    for _, target in items[1:]:
        target.update({k: target[k][:0] for k in ("boxes", "labels", "area", "iscrowd")})
    image, target = mosaic(items, longest=40)
    assert image.shape == (3, 30, 40)
    assert set(target["labels"].tolist()) <= {1}
    with pytest.raises(ValueError):
        mosaic(items[:3])


def test_a_box_that_a_crop_cuts_to_less_than_the_least_is_dropped():
    image, target = scene()
    target["boxes"] = torch.tensor([[0.0, 0, 80, 60]])
    kept = []
    for seed in range(60):
        torch.manual_seed(seed)
        _, cropped = Augment(crops=1, mirror=0, colour=0, scale=(1, 1))(image, target)
        kept.append(len(cropped["boxes"]))
        assert (cropped["area"] >= 0.3 * 80 * 60).all()
    assert 0 < sum(kept) < 60
