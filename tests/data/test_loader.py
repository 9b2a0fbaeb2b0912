from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from detcore.data import DamagedImage, DataError, DetectionDataset, Digits, Record
from detcore.data.loading.loader import Stream, aspect_groups, evaluation_loader, training_loader
from detcore.data.loading.transforms import Augment


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return torch.full((3, 2, 2), float(index)), {"image_id": index, "draw": torch.rand(())}


def ids(loader, batches):
    return [t["image_id"] for _, targets in islice(loader, batches) for t in targets]


def test_every_item_comes_once_before_any_comes_again():
    seen = ids(training_loader(Numbers(), Stream(4, seed=1)), 5)
    assert len(seen) == 20
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:] != list(range(10))
    assert seen != ids(training_loader(Numbers(), Stream(4, seed=2)), 5)


def test_a_data_set_smaller_than_a_batch_fills_it():
    images, targets = next(iter(training_loader(Numbers(), Stream(25))))
    assert len(images) == len(targets) == 25


def draws(loader, batches):
    rows = [t for _, targets in islice(loader, batches) for t in targets]
    return [(t["image_id"], float(t["draw"])) for t in rows]


def test_what_a_position_holds_hangs_on_seed_and_position_alone():
    whole = draws(training_loader(Numbers(), Stream(6, seed=5)), 4)
    assert len(set(whole)) == 24  # the same item is augmented differently each time
    assert draws(training_loader(Numbers(), Stream(3, seed=5)), 8) == whole
    assert draws(training_loader(Numbers(), Stream(6, seed=5, workers=1)), 4) == whole
    assert draws(training_loader(Numbers(), Stream(6, seed=5, start=12)), 2) == whole[12:]


def test_the_models_randomness_and_the_loaders_do_not_mix():
    whole = draws(training_loader(Numbers(), Stream(6, seed=5)), 3)
    torch.manual_seed(0)
    alone = [float(torch.rand(())) for _ in range(3)]
    torch.manual_seed(0)
    stream, got, drawn = iter(training_loader(Numbers(), Stream(6, seed=5))), [], []
    for _ in range(3):
        got += [(t["image_id"], float(t["draw"])) for t in next(stream)[1]]
        drawn.append(float(torch.rand(())))
    assert got == whole
    assert drawn == alone


def test_processes_share_one_order():
    whole = draws(training_loader(Numbers(), Stream(12, seed=5)), 1)
    parts = [
        draws(training_loader(Numbers(), Stream(6, seed=5, rank=r, world=2)), 1) for r in (0, 1)
    ]
    assert whole[0::2] == parts[0]
    assert whole[1::2] == parts[1]


def test_augmentation_is_seeded():
    data = Digits("train", length=4)
    loaders = [training_loader(data, Stream(4, seed=s), Augment()) for s in (0, 0, 1)]
    a, b, c = ({t["image_id"]: i for i, t in zip(*next(iter(ld)), strict=True)} for ld in loaders)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not any(torch.equal(a[k], c[k]) for k in a)


def test_evaluation_takes_each_once_in_order():
    assert ids(evaluation_loader(Numbers(), 4), 99) == list(range(10))


class Shapes(DetectionDataset):
    """Pictures of three alternating sizes."""

    def __init__(self, length=29):
        super().__init__(["a"])
        self.length = length

    def __len__(self):
        return self.length

    def size(self, index):
        return [(64, 48), (48, 64), (50, 50)][index % 3]

    def image(self, index):
        width, height = self.size(index)
        return torch.full((3, height, width), index, dtype=torch.uint8)

    def record(self, index):
        width, height = self.size(index)
        box = np.array([[10.0, 10, 40, 30]])
        no = np.zeros(1, bool)
        return Record(index, "", width, height, box, np.array([1]), np.array([600.0]), no, no)


def test_batches_of_like_aspect_ratio():
    stream = Stream(4, seed=3, group_aspect=True)
    batches = [t for _, t in islice(training_loader(Shapes(), stream), 40)]
    kinds = [len({t["image_id"] % 3 for t in targets}) for targets in batches]
    # of about seven batches per epoch, those of remainders and at the border may mix sizes
    assert kinds.count(1) > 0.55 * len(kinds)
    plain = [t for _, t in islice(training_loader(Shapes(), Stream(4, seed=3)), 40)]
    assert sum(len({t["image_id"] % 3 for t in ts}) == 1 for ts in plain) < 0.2 * len(kinds)
    seen = [t["image_id"] for targets in batches for t in targets]
    for turn in range(5):  # also when grouped, each comes once per epoch
        assert sorted(seen[29 * turn : 29 * turn + 29]) == list(range(29))
    assert seen[:29] != seen[29:58]


def test_a_grouped_order_is_repeatable_and_can_be_taken_up_and_shared():
    stream = Stream(6, seed=3, group_aspect=True)
    whole = ids(training_loader(Shapes(), stream), 12)
    assert whole == ids(training_loader(Shapes(), stream), 12)
    taken_up = ids(training_loader(Shapes(), replace(stream, start=30)), 7)
    assert taken_up == whole[30:]
    assert ids(training_loader(Shapes(), replace(stream, workers=2)), 12) == whole
    halves = [
        ids(training_loader(Shapes(), replace(stream, batch_size=3, rank=r, world=2)), 12)
        for r in (0, 1)
    ]
    assert whole == [i for pair in zip(*halves, strict=True) for i in pair]


def test_groups_are_thirds_of_an_octave():
    shapes = Shapes(6)
    shapes.size = lambda k: [(100, 100), (400, 300), (300, 400), (300, 200), (900, 90), (1, 99)][k]
    assert aspect_groups(shapes) == [0, 1, -1, 2, 3, -3]
    with pytest.raises(ValueError, match=r"needs a data set with sizes, got Numbers"):
        aspect_groups(Numbers())


class Holed(Numbers):
    """A set with some damaged pictures."""

    def __init__(self, holes, length=10):
        self.holes, self.length = holes, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index in self.holes:
            raise DamagedImage(f"{index}.jpg: not a readable picture (cut)")
        return super().__getitem__(index)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_pictures_are_counted_named_and_skipped(caplog, workers):
    stream = Stream(5, seed=1, workers=workers, max_damaged=0.2)
    loader = training_loader(Holed({3, 7}), stream)
    whole = draws(loader, 4)
    assert len(whole) == 20
    assert {i for i, _ in whole} <= set(range(10)) - {3, 7}
    assert sorted(loader.damage.found) == [3, 7]
    assert [r.levelname for r in caplog.records] == ["WARNING"]  # only the first, at once
    loader.damage.report()
    text = caplog.records[-1].getMessage()
    assert text.startswith("2 of 10 pictures are damaged, others took their place: ")
    assert "3.jpg" in text and "7.jpg" in text
    # the replacement depends only on seed and position, and all other items stay the same
    assert draws(training_loader(Holed({3, 7}), Stream(20, seed=1, max_damaged=0.2)), 1) == whole
    sound = draws(training_loader(Numbers(), Stream(5, seed=1)), 4)
    assert [a for a, b in zip(whole, sound, strict=True) if b[0] not in (3, 7)] == [
        b for b in sound if b[0] not in (3, 7)
    ]


def test_too_many_are_an_error():
    message = r"2 of 10 pictures .* more than the share of 0.1 that may be \(max_damaged\): \d.jpg"
    with pytest.raises(DataError, match=message):
        draws(training_loader(Holed({3, 7}), Stream(5, max_damaged=0.1)), 4)
    with pytest.raises(DataError, match=r"1 of 10 .* share of 0.05"):  # the default
        draws(training_loader(Holed({3}), Stream(5)), 4)
    with pytest.raises(DataError, match=r"8 pictures in a row are damaged, the last: \d+.jpg"):
        draws(training_loader(Holed(range(1000), 1000), Stream(4)), 1)


def test_other_errors_are_not_swallowed():
    class Broken(Numbers):
        def __getitem__(self, index):
            raise DataError("the annotation is wrong")

    with pytest.raises(DataError, match="the annotation is wrong"):
        draws(training_loader(Broken(), Stream(5)), 1)


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_leaves_damaged_pictures_out(workers, caplog):
    loader = evaluation_loader(Holed({3, 4, 5}), 2, workers, max_damaged=0.5)
    assert ids(loader, 99) == [0, 1, 2, 6, 7, 8, 9]
    loader.damage.report()
    assert "3 of 10 pictures are damaged, they were left out: 3.jpg" in caplog.text


def test_a_sound_set_says_nothing(caplog):
    loader = training_loader(Numbers(), Stream(5))
    draws(loader, 4)
    loader.damage.report()
    assert not caplog.records


def test_mosaics_are_seeded_and_keep_the_rest_of_the_stream():
    augment = Augment(mosaic=0.5, mirror=0, colour=0, scale=(1, 1))

    def stream(workers=0, batch=6):
        loader = training_loader(Shapes(), Stream(batch, seed=2, workers=workers), augment)
        return [
            (t["image_id"], i, t["boxes"])
            for images, targets in islice(loader, 24 // batch)
            for i, t in zip(images, targets, strict=True)
        ]

    whole = stream()
    made = [len(image.unique()) > 1 for _, image, _ in whole]
    assert 6 <= sum(made) <= 18
    for number, image, boxes in whole:
        width, height = Shapes().size(number)
        assert image.shape == (3, height, width)
        assert (boxes >= 0).all() and (boxes[:, 2:] <= torch.tensor([width, height])).all()
    for other in (stream(workers=2), stream(batch=3)):
        assert all(
            a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2])
            for a, b in zip(whole, other, strict=True)
        )


def test_each_target_says_how_to_sample():
    def seeds(stream, batches):
        rows = [t for _, ts in islice(training_loader(Numbers(), stream), batches) for t in ts]
        return [t["sampling_seed"] for t in rows]

    whole = seeds(Stream(6, seed=5), 4)
    assert len(set(whole)) == 24
    assert seeds(Stream(3, seed=5, start=12), 4) == whole[12:]
    assert seeds(Stream(3, seed=5, rank=1, world=2), 4) == whole[1::2]
    assert not set(seeds(Stream(6, seed=6), 4)) & set(whole)
    assert all(torch.Generator().manual_seed(s) for s in whole)
