import math

import pytest
import torch
from torch import nn

from detcore.engine import schedule as module
from detcore.engine.ema import Ema
from detcore.engine.schedule import Schedule, make_optimizer


def test_warm_up_is_linear_and_the_cosine_ends_at_nothing():
    s = Schedule(steps=100, warmup=0.1)
    assert s.factor(0) == 0.01
    assert s.factor(0.05) == pytest.approx(0.5)
    assert s.factor(0.1) == pytest.approx(1)
    assert s.factor(0.55) == pytest.approx(0.5)
    assert s.factor(1) == pytest.approx(0)
    assert Schedule(steps=1, warmup=0).factor(0) == 1
    assert [s.share(k) for k in (0, 25, 100, 200)] == [0, 0.25, 1, 1]


def test_steps_down():
    s = Schedule(steps=100, warmup=0.1, drop_at=(0.5, 0.75))
    assert s.factor(0.05) == pytest.approx(0.5)
    wanted = {0.1: 1, 0.49: 1, 0.5: 0.1, 0.74: 0.1, 0.75: 0.01, 1.0: 0.01}
    assert {k: s.factor(k) for k in wanted} == pytest.approx(wanted)


def test_the_cosine_follows_the_clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    s = Schedule(minutes=2)
    s.restart()
    now[0] += 30
    assert s.share(3) == 0.25
    assert s.remaining(3) == pytest.approx(90)
    assert s.remaining(0) is None
    s.restart(60)
    assert s.share(3) == 0.5  # a resumed run has spent it already
    s.restart(30)
    now[0] += 90
    assert s.share(4) == 1  # in four steps or in four thousand
    both = Schedule(steps=10, minutes=2, started=now[0])
    now[0] += 12
    assert both.share(1) == pytest.approx(0.1)
    assert both.share(5) == 0.5
    with pytest.raises(ValueError, match="give steps or minutes"):
        Schedule()


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


def test_ema_by_hand():
    net = nn.BatchNorm1d(1)
    average = Ema(net, 0.5)
    values, wanted = [4.0, 8.0, 16.0], 1.0
    for n, value in enumerate(values, start=1):
        with torch.no_grad():
            net.weight.fill_(value)
        net.num_batches_tracked.fill_(n)
        average.update(net)
        decay = min(0.5, (1 + n) / (10 + n))
        wanted = decay * wanted + (1 - decay) * value
    assert average.model.weight.item() == pytest.approx(wanted)
    assert average.model.num_batches_tracked.item() == 3
    assert not average.model.weight.requires_grad
    assert not math.isclose(wanted, values[-1])
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        Ema(net, 1)
