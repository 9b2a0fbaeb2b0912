"""Simulated processes; tests/training/test_distributed.py uses real ones."""

import pytest
import torch
from torch import Tensor, distributed

from detcore.parts.losses import rpn_loss
from detcore.parts.processes import loss_normalizer, sum_over_processes

CPU = torch.device("cpu")


@pytest.fixture
def three_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, and two with ten times and a hundred times its values."""

    def all_reduce(values: Tensor) -> None:
        values *= 111

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(distributed, "all_reduce", all_reduce)


def test_alone_nothing_happens() -> None:
    values = torch.arange(3)
    assert sum_over_processes(values) is values
    assert [loss_normalizer(n, CPU) for n in (0, 1, 7)] == [1, 1, 7]
    assert loss_normalizer(torch.tensor(0), CPU) == 1


@pytest.mark.usefixtures("three_processes")
def test_counts_of_all_are_shared() -> None:
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    total = sum_over_processes(values)
    assert total.tolist() == [111, 222]
    assert values.tolist() == [1, 2]
    assert not total.requires_grad
    for count in (6, torch.tensor(6)):
        assert loss_normalizer(count, CPU) == pytest.approx(6 * 111 / 3)
    assert loss_normalizer(0, CPU) == pytest.approx(1 / 3)  # one sample for three processes


@pytest.mark.usefixtures("three_processes")
def test_a_loss_is_divided_by_the_samples_of_all() -> None:
    logits, deltas = torch.ones(4), torch.zeros(4, 4)
    chosen = torch.tensor([0]), torch.tensor([1, 2])
    shared, _ = rpn_loss(logits, deltas, *chosen, torch.zeros(1, 4))
    cost = torch.nn.functional.softplus(torch.tensor([-1.0, 1.0, 1.0])).sum()
    assert shared == pytest.approx(float(cost) / (3 * 111 / 3))
