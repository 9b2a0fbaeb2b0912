from itertools import islice

import torch

from detcore.data import Digits
from detcore.data.loader import Stream, evaluation_loader, training_loader
from detcore.data.transforms import Augment


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
    assert len(set(whole)) == 24  # the same item is drawn differently the next time
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
