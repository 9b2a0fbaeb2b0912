import pytest
import torch
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from detcore.parts.assignment.sampler import BalancedSampler


@pytest.mark.parametrize(
    ("positives", "negatives"), [(0, 0), (0, 50), (50, 0), (3, 50), (50, 3), (50, 50), (8, 8)]
)
@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_counts_are_torchvisions(positives: int, negatives: int, fraction: float) -> None:
    labels = torch.cat((torch.full((positives,), 2), torch.zeros(negatives), torch.full((9,), -1)))
    labels = labels.long()[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    positive, negative = BalancedSampler(16, fraction)(labels)
    (their_positive,), (their_negative,) = BalancedPositiveNegativeSampler(16, fraction)([labels])
    assert len(positive) == their_positive.sum()
    assert len(negative) == their_negative.sum()
    assert (labels[positive] >= 1).all()
    assert (labels[negative] == 0).all()
    assert len(set(positive.tolist())) == len(positive)


def test_a_seed_repeats_the_choice_and_another_changes_it() -> None:
    labels = torch.arange(200) % 2

    def choice(seed: int) -> list[int]:
        sampler = BalancedSampler(20, 0.5, torch.Generator().manual_seed(seed))
        return torch.cat(sampler(labels)).tolist()

    assert choice(1) == choice(1) != choice(2)


def test_a_given_seed_alone_decides() -> None:
    labels = torch.arange(200) % 2
    generator = torch.Generator().manual_seed(5)
    sampler = BalancedSampler(20, 0.5, generator)

    def choice(seed: int) -> list[int]:
        return torch.cat(sampler(labels, seed)).tolist()

    first = choice(1)
    torch.rand(3)  # earlier random numbers don't matter
    torch.rand(3, generator=generator)
    assert choice(1) == first != choice(2)
    before = generator.get_state()
    choice(3)
    assert torch.equal(generator.get_state(), before)


def test_every_index_has_its_chance() -> None:
    sampler = BalancedSampler(4, 0.5, torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 2
    seen = {i for _ in range(100) for i in torch.cat(sampler(labels)).tolist()}
    assert seen == set(range(12))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got 0 and 0.5"):
        BalancedSampler(0, 0.5)
    with pytest.raises(ValueError, match=r"got 4 and 1.5"):
        BalancedSampler(4, 1.5)
    with pytest.raises(ValueError, match=r"labels must be \[N\], got \[2, 2\]"):
        BalancedSampler(4, 0.5)(torch.zeros(2, 2, dtype=torch.int64))
