import math

import pytest
import torch
from torch import nn

from detcore.training.ema import Ema


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
