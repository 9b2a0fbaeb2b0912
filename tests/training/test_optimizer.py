import pytest
from torch import nn

from detcore.training.optimizer import make_optimizer


def test_norms_and_biases_are_not_decayed():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    net[2].weight.requires_grad_(False)
    for kind in ("adamw", "sgd"):
        groups = make_optimizer(net, kind, 0.1, 0.05).param_groups
        assert [g["weight_decay"] for g in groups] == [0.05, 0.0]
        assert [len(g["params"]) for g in groups] == [1, 4]
        assert {g["lr"] for g in groups} == {0.1}
    plain = make_optimizer(net, "sgd", 0.1, 0.05, momentum=0.0).defaults
    assert (plain["momentum"], plain["nesterov"]) == (0.0, False)
    heavy = make_optimizer(net, "sgd", 0.1, 0.05, momentum=0.8, nesterov=False).defaults
    assert (heavy["momentum"], heavy["nesterov"]) == (0.8, False)
    with pytest.raises(ValueError, match="must be adamw or sgd, got 'adam'"):
        make_optimizer(net, "adam", 0.1, 0)
